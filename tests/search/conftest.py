"""A small question with pools apart in its space."""

import numpy as np
import pytest

from planner import files


@pytest.fixture
def problem():
    """Make the question of a seed, with values changed by dotted path."""
    return small


def small(seed, **changes):
    """A small dense model whose prompts or answers are long, on one node of a random system."""
    rng = np.random.default_rng(seed)
    prompt, answer, rate = [(3000, 60, 16.0), (300, 250, 60.0)][seed % 2]
    return files.load_scenario(
        "r1-vs-llama-405b",
        {
            "model": "qwen3-8b",
            "systems": [str(rng.choice(["hgx-h100", "l40s-8gpu"]))],
            "workload": {
                "arrivals": {"kind": "poisson", "requests_per_s": rate * rng.uniform(0.7, 1.4)},
                "lengths": [
                    {"input": {"kind": "fixed", "tokens": prompt},
                     "output": {"kind": "fixed", "tokens": answer}},
                ],
            },
            "run.duration_s": 18.0, "run.warmup_s": 4.0, "run.seed": seed,
            "slo.ttft_p95_s": 1.5, "slo.tpot_p95_s": 0.03,
            "space.weights": ["bf16"], "space.max_nodes": 1, "space.max_nodes_per_replica": 1,
            "space.limits.max_sequences": 32, "space.limits.max_step_tokens": 2048,
            "space.pools": ["together", "apart"], **changes,
        },
    )  # fmt: skip
