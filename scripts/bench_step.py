"""What the time of one step costs: in closed form, and simulated over all ranks.

Each row is processor time of one step of a shape that was not asked before, with everything else
warm: the least of several rounds.  The baseline of the same run is the simulation of all ranks.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from planner import files
from planner.evaluation import build
from planner.evaluation.replica import Replica
from planner.specs.scenario import Scenario
from planner.step.timeline import decode_load, drawn, prefill_load, simulate_step, step_work

ROUNDS, SHAPES = 7, 40
CASES = {
    "decode, EP144": ("deepseek-ep144-decode", False),
    "decode, EP72": ("published/sglang-h100-decode", False),
    "prefill, EP32": ("published/sglang-h100-prefill", True),
}
"""Scenario, and whether the step computes prompts."""

ROUTING = "deepseek-r1-translation"

Ask = Callable[[int], object]


def asks(replica: Replica, prefill: bool, simulate: Ask) -> dict[str, Ask]:
    """Ways to get the time of a step, by name; each takes a number that makes a new shape."""
    step, cap = replica.step, replica.cap_tokens

    def laid_out(i: int) -> object:
        if prefill:
            return step.prefill_step(8192.0 + i, 4.0, 2000.0 + i, cap)
        return step.decode_step(64.0 + i % 64, 2000.0 + i, cap)

    def alone(i: int) -> object:
        return step.decode_step_s(64.0 + i % 64, 2000.0 + i, cap)

    found: dict[str, Ask] = {"laid out part by part": laid_out}
    if not prefill:
        found["time alone"] = alone
    return found | {"all ranks simulated": simulate}


def simulation(scenario: Scenario, replica: Replica, prefill: bool) -> Ask:
    """Simulate all ranks, with expert loads drawn anew for each shape."""
    step = replica.step
    assert scenario.routing is not None
    assert scenario.model.moe is not None
    routing, moe, dp = scenario.routing, scenario.model.moe, replica.shard.attention_dp

    def ask(i: int) -> object:
        experts = drawn(step, routing, moe, seed=i)
        if prefill:
            load = prefill_load(dp, 8192.0, 2000.0 + i, replica.cap_tokens, 0.0, i)
        else:
            load = decode_load(dp, 64.0, 2000.0 + i, replica.cap_tokens, 0.0, i)
        return simulate_step(step, step_work(step, load, prefill, experts))

    return ask


def cost_s(ask: Ask, shapes: int) -> float:
    """Processor time of one answer, the least of all rounds. [s]"""
    ask(0)
    best = float("inf")
    for number in range(ROUNDS):
        begun = time.process_time()
        for i in range(shapes):
            ask(1 + number * shapes + i)
        best = min(best, (time.process_time() - begun) / shapes)
    return best


def main() -> None:
    """Print a table, and write it as JSON."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--json", type=Path, default=Path("build/bench-step.json"))
    path = given.parse_args().json
    rows = []
    print(f"{'':16s} {'':24s} {'ms a step':>10s} {'x faster than simulated':>24s}")
    for case, (name, prefill) in CASES.items():
        scenario = files.load_scenario(name, {"routing": ROUTING})
        assert scenario.decoding is not None
        replica = build(scenario.model, scenario.hardware[0], scenario.decoding, scenario.routing)
        wanted = asks(replica, prefill, simulation(scenario, replica, prefill))
        costs = {
            how: cost_s(ask, 4 if how == "all ranks simulated" else SHAPES)
            for how, ask in wanted.items()
        }
        for how, each_s in costs.items():
            ratio = costs["all ranks simulated"] / each_s
            print(f"{case:16s} {how:24s} {1e3 * each_s:10.3f} {ratio:24.1f}")
            rows.append({"case": case, "how": how, "cpu_s": each_s, "ratio_to_simulation": ratio})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
