"""Names and numbers as readers see them."""

import math

from planner.evaluation import Result
from planner.search.candidates import pool_label
from planner.specs.scenario import Hardware
from planner.units import Unit, human

PROMISE_METRICS = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E"}

COMPONENTS = {
    "attention": "attention",
    "embed": "embedding",
    "norms_other": "norms and other",
    "dense_mlp": "dense MLP",
    "routed_experts": "routed experts",
    "shared_experts": "shared experts",
    "router": "router",
    "latent": "latent projections",
    "embedding_and_head": "embedding and head",
    "norms_and_other": "norms and other",
    "activations": "activations",
    "communication": "communication buffers",
    "runtime": "runtime",
    "kv_cache": "KV cache",
    "reserve": "left free",
    "norms": "norms",
    "lm_head": "output head",
    "expert_network": "expert network",
    "pipeline": "pipeline sends",
    "host": "host",
    "hidden": "hidden behind other work",
    "cutting": "cutting the batch",
    "draft": "draft module",
    "draft_module": "draft module",
}
"""Parts of a device's memory and of a step, as they are called in the formulas and by people."""

HOW = {
    "fleet": "planner.search.plan.plan",
    "layout": "planner.shard.shard",
    "promises": "planner.serving.metrics.summarise",
    "latency": "planner.serving.metrics.summarise",
    "confidence": "planner.serving.metrics.HalfWidths",
    "intervals": "planner.evaluation.intervals.with_intervals",
    "load": "planner.serving.metrics.Metrics",
    "series": "planner.serving.series.series",
    "replications": "planner.evaluation.replications",
    "memory": "planner.memory.footprint",
    "step": "planner.step.StepModel.decode_step",
    "prefill": "planner.step.StepModel.prefill_step",
    "timeline": "planner.step.timeline.simulate_step",
    "bound": "planner.step.Step",
    "cost": "planner.cost.serving_cost",
    "api": "planner.cost.api_bill_usd",
    "energy": "planner.cost.wh_per_million_tokens",
    "operations": "planner.evaluation.operations_report.operations_report",
    "traffic": "planner.workloads.measured_traffic",
    "day": "planner.workloads.whole_curve",
    "options": "planner.search.plan.plan",
    "refusals": "planner.search.plan.Rejection",
    "estimates": "planner.search.screen.estimate",
    "comparison": "planner.search.compare.compare",
    "simulation": "planner.serving.simulation.simulate",
    "parameters": "planner.arch.parameters.parameters",
    "kv": "planner.arch.kv.kv_bytes_per_token",
    "checkpoint": "planner.arch.storage.checkpoint_bytes",
    "capacity": "planner.evaluation.steady.capacity",
    "claims": "planner.search.claims.claims",
    "experts": "planner.routing.load.expert_load",
    "assumptions": "planner.evaluation.assumptions.assumptions",
}
"""Where each kind of number is computed: module and function."""

NOTHING = "\N{EN DASH}"


def component(name: str) -> str:
    """Return the reader's word for a part of memory or of a step."""
    return COMPONENTS.get(name, name.replace("_", " "))


def usd(value: float | None) -> str:
    """Write dollars with the digits that matter.

    >>> usd(8524.8), usd(355.2), usd(-1.5609), usd(0.0229)
    ('$8,525', '$355', '-$1.56', '$0.0229')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if value < 0:
        return f"-{usd(-value)}"
    if value >= 100:
        return f"${value:,.0f}"
    return f"${value:,.2f}" if value >= 0.1 or not value else f"${value:.3g}"


def seconds(value: float | None) -> str:
    """Write a time, a dash where there is none."""
    if value is None or math.isnan(value):
        return NOTHING
    return human(value, "s") if math.isfinite(value) else "never"


def share(value: float) -> str:
    """Write a share in percent, without digits that mean nothing.

    >>> share(0.46), share(0.0123), share(1.0), share(0.0002)
    ('46 %', '1.2 %', '100 %', '<0.1 %')
    """
    percent = 100 * value
    if 0 < percent < 0.1:
        return "<0.1 %"
    return f"{percent:.0f} %" if abs(percent) >= 10 or not percent else f"{percent:.2g} %"


def number(value: float) -> str:
    """Write a count: whole with commas, else four digits.

    >>> number(80), number(2.5), number(9743.0)
    ('80', '2.5', '9,743')
    """
    return f"{value:,.0f}" if value == round(value) else f"{value:,.4g}"


def parameters(count: float) -> str:
    """Write a count of parameters as people do.

    >>> parameters(671026404352), parameters(1.573e12), parameters(7.6e9)
    ('671B', '1.573T', '7.6B')
    """
    return human(count, "count").replace(" ", "").replace("G", "B")


def watt_hours(value: float) -> str:
    """Write an energy.

    >>> watt_hours(261.4), watt_hours(5200)
    ('261 Wh', '5.2 kWh')
    """
    return f"{value / 1000:.3g} kWh" if value >= 1000 else f"{value:.3g} Wh"


def quantity(value: float | None, unit: str) -> str:
    """Write one side of a limit in the unit a refusal names."""
    if value is None:
        return NOTHING
    match unit:
        case "bytes":
            return human(value, "bytes")
        case "s":
            return seconds(value)
        case "usd":
            return usd(value)
        case _:
            return f"{number(value)} {unit}".strip() if math.isfinite(value) else "no number of it"


_INSIDE: tuple[tuple[str, Unit], ...] = (("flop_per_s", "flop_per_s"), ("_w_per_device", "w"))
_SUFFIXES: tuple[tuple[str, Unit], ...] = (
    ("_bytes_per_s", "bytes_per_s"),
    ("_tokens_per_s", "tokens_per_s"),
    ("tokens_per_s_per_node", "tokens_per_s"),
    ("_bytes", "bytes"),
    ("_tokens", "tokens"),
    ("_share", "share"),
    ("_w", "w"),
    ("_s", "s"),
)


def fact(name: str, value: float | None) -> str:
    """Write a number by the unit that ends its (dotted) name.

    >>> fact("accelerator.memory_bytes", 150754820096.0), fact("links.scale_out_share", 0.94)
    ('150.8 GB', '94 %')
    >>> fact("accelerator.dense_flop_per_s.fp8", 1978.9e12)
    '1.979 PFLOP/s'
    """
    if value is None:
        return ""
    if name.startswith("share_of"):
        return share(value)
    last = "_" + name.rsplit(".", 1)[-1]
    if "_usd" in last:
        return usd(value)
    for part, unit in _INSIDE:
        if part in name:
            return human(value, unit)
    for suffix, unit in _SUFFIXES:
        if last.endswith(suffix):
            return human(value, unit)
    return number(value)


def promise_name(name: str) -> str:
    """``ttft_p95_s`` as ``TTFT p95``."""
    metric, percentile = name.removesuffix("_s").split("_")
    return f"{PROMISE_METRICS.get(metric, metric)} {percentile}"


def plural(count: float, word: str) -> str:
    """``1 node``, ``2.5 nodes``; a last word of a phrase takes the ``s``."""
    return f"{number(count)} {word}{'' if count == 1 else 's'}"


def layout(result: Result) -> str:
    """Name the layout of one replica: ``TP2 DP8 EP16, fp8 weights, bf16 KV``.

    Then what else there was to choose: engine, drafts, redundant experts, batch limits.  Of pools
    apart both, and how many: ``2 x TP8 for prompts + 3 x DP8 EP8 for answers, ...``.
    """
    space = result.scenario.space
    if not result.apart:
        return pool_label(result.replica.pool, space)
    each = [(use.pool.replicas, use.pool.replica.pool) for use in result.pools]
    parts = [pool_label(pool, space).split(", ") for _, pool in each]
    same = [part for part in parts[0][1:] if part in parts[1]]
    own = [", ".join(part for part in found if part not in same) for found in parts]
    texts = [
        f"{n} x {text} for {what}"
        for (n, _), text, what in zip(each, own, ("prompts", "answers"), strict=True)
    ]
    return ", ".join([" + ".join(texts), *same])


def replicas(result: Result) -> str:
    """Name the replicas: ``2 replicas of TP8, ...``, of pools apart each pool's."""
    if not result.apart:
        return f"{plural(result.replicas, 'replica')} of {layout(result)}"
    space = result.scenario.space
    each = [
        f"{plural(use.pool.replicas, f'{use.pool.role} replica')} of "
        f"{pool_label(use.pool.replica.pool, space)}"
        for use in result.pools
    ]
    return " and ".join(each)


def fleet(result: Result) -> str:
    """Name what is to be bought: ``10 nodes of 8 x NVIDIA H200 SXM 141GB (80 devices)``."""
    systems = {use.pool.replica.hardware.system.name for use in result.pools}
    if len(systems) > 1:
        pools = [use.pool for use in result.pools]
        return " and ".join(_bought(p.replica.hardware, p.devices, p.nodes) for p in pools)
    return _bought(result.replica.hardware, result.devices, result.nodes)


def _bought(hardware: Hardware, count: int, nodes: float) -> str:
    each, part = hardware.system.devices_per_node, hardware.accelerator.title
    devices = plural(count, "device")
    if nodes < 1:
        return f"{devices} of a node of {each} x {part}"
    if each == 1:
        return f"{plural(count, 'node')} of one {part}"
    return f"{plural(nodes, 'node')} of {each} x {part} ({devices})"
