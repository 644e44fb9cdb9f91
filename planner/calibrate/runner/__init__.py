"""Measure the operations of MoE inference on this device: JSON lines out.

The folder imports nothing of the rest of the project, so that it travels alone: copy it to the
machine to be measured and run ``python -m runner --backend cuda --out rows.jsonl``.
"""
