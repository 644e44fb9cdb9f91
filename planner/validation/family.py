"""Engines by the names that runs give them."""

import re

from planner.specs.runs import Run

NAMES = {
    "sglang": "sglang", "vllm": "vllm",
    "tensorrt": "tensorrt-llm", "trt": "tensorrt-llm", "trtllm": "tensorrt-llm",
}  # fmt: skip
"""Word of a name -> engine; ``trt-llm``, ``dynamo-trt`` and ``mori-sglang`` have such a word."""


def family_of(run: Run) -> str:
    """Name of the engine as its profile has it; a name without a known engine stays as it is."""
    name = run.framework.name.lower()
    found = [NAMES[word] for word in re.split(r"[^a-z]+", name) if word in NAMES]
    return found[0] if len(set(found)) == 1 else name
