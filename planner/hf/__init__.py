"""Hugging Face ``config.json`` -> :class:`planner.specs.model.ModelSpec`."""

from planner.hf.reader import KNOWN_MODEL_TYPES, model_from_hf_config

__all__ = ["KNOWN_MODEL_TYPES", "model_from_hf_config"]
