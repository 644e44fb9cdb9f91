"""What could be wrong with a plan, and what else there is: for whoever decides."""

import math

from planner.evaluation import Result
from planner.report.words import (
    fleet,
    layout,
    number,
    plural,
    promise_name,
    quantity,
    seconds,
    share,
    usd,
)
from planner.search import Kept, Plan, Rests
from planner.search.moves import moves

NOT_STEPS = ("requests a second", "price")
"""What moves a cost and is no matter of how long steps take."""
FIRST = {
    "engine": "one run of the engine on this part",
    "kernels": "matrices and attention on this part",
}
"""What to measure against a cause of error."""


def basis_sentence(plan: Plan) -> str:
    """Say what the winner's speed rests on where nobody measured it; else nothing."""
    return " ".join(text for _, text in basis_points(plan))


def basis_points(plan: Plan) -> tuple[tuple[str, str], ...]:
    """What :func:`basis_sentence` says, each sentence with a head of a word or two."""
    basis = plan.basis
    if plan.best is None or basis is None or basis.basis == "measured":
        return ()
    part = plan.best.replica.hardware.accelerator.title
    text = f"Its speed is not measured: shares of {part} are {basis.words}."
    found = (
        ("Not measured", text),
        ("Range", _range(plan.best)),
        ("Measured", _measured(plan)),
        ("Next step", _first(plan.best)),
    )
    return tuple((head, body) for head, body in found if body)


def _range(best: Result) -> str:
    """How many devices, and dollars, the promises may take where the guess is off."""
    if best.intervals is None:
        return ""
    low, high = best.intervals.devices
    found = [move for move in moves(best) if move.name not in NOT_STEPS]
    if not math.isfinite(high):
        return f"If it is off, they take {number(low)} devices, or no number keeps the promises."
    text = f"The promises take {number(low)} to {number(high)} devices at 90 %"
    if not found or not best.costs:
        return f"{text}."
    each = best.costs[0].usd_per_hour / best.devices
    return f"{text}, {usd(each * low)} to {usd(each * high)}/h."


def _first(best: Result) -> str:
    """The cause of error on the steps that moves the cost most."""
    found = next((move for move in moves(best) if move.name not in NOT_STEPS), None)
    if found is None or not found.swing > 0:
        return ""
    high = found.high_usd_per_hour
    ends = f"to {usd(high)}/h" if math.isfinite(high) else "up to no fleet at all"
    what = FIRST.get(found.name, found.name)
    return f"Benchmark first: {what}; alone it leaves {usd(found.low_usd_per_hour)} {ends}."


def _measured(plan: Plan) -> str:
    found = plan.best_measured
    if found is None:
        return "No fleet found on measured parts keeps the promises."
    text = f"Best on measured parts: {fleet(found)}"
    more = _more(found, plan.best)
    return f"{text}, {usd(found.costs[0].usd_per_hour)}/h{more}." if found.costs else f"{text}."


def _more(other: Result, best: Result | None) -> str:
    if best is None or not best.costs or not other.costs:
        return ""
    more = other.costs[0].usd_per_hour - best.costs[0].usd_per_hour
    if more <= 0:
        return ""
    return f" ({usd(more)}/h or {share(more / best.costs[0].usd_per_hour)} more)"


def decisions(plan: Plan, *, warned: bool = True) -> tuple[tuple[str, str], ...]:
    """Headed sentences: what it rests on, how close it is, what else would do, what stands by.

    Parameters
    ----------
    warned : with :func:`basis_sentence`, for a page that has not said it yet.
    """
    best = plan.best
    if best is None:
        return ()
    basis, found = plan.basis, []
    rests = basis_sentence(plan) or (f"{basis.words[0].upper()}{basis.words[1:]}." if basis else "")
    if warned or (basis and basis.basis == "measured"):
        found.append(("What its speed rests on", rests))
    if plan.rests is not None:
        found += apart(plan.rests, best)
    found += [(f"How sure: {promise_name(k.name)}", sure(k)) for k in plan.settled]
    if any(plan.spares):
        found.append(("Spares", _spares(plan)))
    if plan.scenario.space.owned and plan.rented_usd_per_hour is not None:
        there = ", ".join(f"{n} of {name}" for name, n in plan.scenario.space.owned.items())
        found.append((
            "Owned already",
            f"Devices: {there}. What is beyond them costs {usd(plan.rented_usd_per_hour)}/h; the "
            "costs above are of the whole fleet.",
        ))  # fmt: skip
    if plan.scenario.space.regions and best.costs and not best.costs[0].price.region:
        found.append((
            "Region",
            f"{best.costs[0].price.provider}'s offer names no region: ask whether it rents in "
            f"{' or '.join(plan.scenario.space.regions)}.",
        ))  # fmt: skip
    others = [r for r in plan.options if r is not best][:2]
    found += [("Next best", f"{fleet(r)}, {layout(r)}{_price(r, best)}.") for r in others]
    near = [c for c in plan.changes if c.excess is not None and c.stage == "simulation"][:2]
    for change in near:
        name = promise_name(change.limit) if change.limit.endswith("_s") else change.limit
        found.append((
            "Nearly",
            f"{change.nearest}: {name} {quantity(change.needed, change.unit)} against "
            f"{quantity(change.available, change.unit)}; {change.advice}.",
        ))  # fmt: skip
    return tuple(found)


def apart(on: Rests, best: Result) -> list[tuple[str, str]]:
    """What the saving of two pools rests on, and how far each part may be off."""
    found = [
        ("Prompts", (
            f"A mean prompt alone takes {seconds(on.prompt_alone_s)}; the prefill pool computes "
            f"{share(on.prefill_busy_share)} of the time.{_gone(on.slower_prefill, 'prefill')}"
        )),
        ("Decode batch", (
            f"{on.decode_sequences_per_rank:,.0f} sequences a rank of at most "
            f"{on.decode_max_sequences}, {share(on.decode_kv_share)} of the cache in use."
            f"{_gone(on.slower_decode, 'decode')}"
        )),
        ("Handover", (
            f"A mean cache takes {seconds(on.handover_s)} at the stated link rate, without an "
            f"engine's own time; links are busy {share(on.link_busy_share)} of the time"
            + (f" and may be {on.slower_link:,.1f} times as slow before the promise on the first "
               "token breaks, queues aside." if math.isfinite(on.slower_link) else ".")
        )),
    ]  # fmt: skip
    if on.one_pool is not None and on.saving_share is not None:
        limit = on.one_pool.replica.pool.limits.max_step_tokens
        found.append((
            "Two pools instead of one",
            f"{share(on.saving_share)} less than {fleet(on.one_pool)}, {layout(on.one_pool)}, with "
            f"steps of up to {number(limit)} tokens a rank. Smaller steps hold up decoding less: "
            "offer several in space.batch_limits. Other layouts of one pool may be cheaper, too: "
            "those that could not beat two pools were not sized.",
        ))  # fmt: skip
    if best.replica.pool.engine.fit is None:
        found.append((
            "Engine",
            "No engine's measured overheads are in these numbers; space.engines adds them.",
        ))  # fmt: skip
    return found


def _gone(factor: float, steps: str) -> str:
    if not math.isfinite(factor):
        return ""
    return f" With {steps} steps {factor:,.2f} times as long nothing is saved."


def _spares(plan: Plan) -> str:
    wish = plan.scenario.space.reliability
    often = f" in {share(wish.availability)} of the time" if wish else ""
    return (
        f"{' and '.join(map(str, plan.spares))} replicas beyond those that the load needs, so "
        f"that enough are up{often}; while nothing fails all of them serve."
    )


def _price(result: Result, best: Result) -> str:
    if not result.costs:
        return ""
    return f": {usd(result.costs[0].usd_per_hour)}/h{_more(result, best)}"


def sure(kept: Kept) -> str:
    """How a promise stands to its limit, beyond the simulation's own chance."""
    if kept.half_width_s is None:
        return (
            f"{seconds(kept.value_s)} against {seconds(kept.limit_s)}; the run is too short for an "
            "interval."
        )
    text = (
        f"{seconds(kept.value_s)} ± {seconds(kept.half_width_s)} against {seconds(kept.limit_s)} "
        f"over {plural(kept.runs, 'run')}"
    )
    return f"{text}: " + ("kept beyond chance." if kept.sure else "too close to call.")
