"""What a bar shows: parts that add up, with their words and colours."""

from dataclasses import dataclass

from planner.memory import Memory
from planner.report.words import component, seconds
from planner.step import Step
from planner.units import human

OKABE_ITO = {
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
    "grey": "#999999",
}
"""Eight colours that colour-blind readers can tell apart (M. Okabe, K. Ito, 2008)."""

COLOURS = {
    "attention": "green",
    "routed_experts": "blue",
    "shared_experts": "sky",
    "dense_mlp": "purple",
    "other_weights": "yellow",
    "kv_cache": "orange",
    "buffers": "vermillion",
    "runtime": "grey",
    "expert_network": "vermillion",
    "pipeline": "vermillion",
    "lm_head": "yellow",
    "router": "yellow",
    "norms": "grey",
    "host": "grey",
    "hidden": "grey",
    "cutting": "grey",
    "draft": "orange",
    "draft_module": "blue",
}

_MERGED = {
    "router": "other_weights", "latent": "other_weights", "embedding_and_head": "other_weights",
    "norms_and_other": "other_weights", "activations": "buffers", "communication": "buffers",
}  # fmt: skip
_ORDER = (
    "routed_experts", "shared_experts", "attention", "dense_mlp", "other_weights", "kv_cache",
    "buffers", "runtime", "reserve",
)  # fmt: skip
_WORDS = {"other_weights": "other weights", "buffers": "activations, buffers"}


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a bar."""

    key: str
    label: str
    value: float
    text: str
    share: float
    colour: str
    """Hexadecimal; empty for what is not used."""
    note: str = ""


def memory_segments(memory: Memory) -> tuple[Segment, ...]:
    """HBM of one device by component; adds up to the capacity where everything fits."""
    sizes: dict[str, float] = {}
    for name, size in memory.per_device_bytes().items():
        key = _MERGED.get(name, name)
        sizes[key] = sizes.get(key, 0.0) + size
    ordered = [k for k in _ORDER if k in sizes] + [k for k in sizes if k not in _ORDER]
    return tuple(
        Segment(
            key,
            _WORDS.get(key, component(key)),
            sizes[key],
            human(sizes[key], "bytes"),
            sizes[key] / memory.capacity_bytes,
            "" if key == "reserve" else OKABE_ITO[COLOURS.get(key, "grey")],
        )
        for key in ordered
        if sizes[key]
    )


def kv_line(memory: Memory) -> str:
    """How much context a replica can hold."""
    text = (
        f"KV cache: {human(memory.kv_bytes_per_token, 'bytes')} a token on a device, "
        f"{human(memory.kv_capacity_tokens, 'tokens')} a replica"
    )
    if memory.state_bytes_per_sequence:
        text += f", and {human(memory.state_bytes_per_sequence, 'bytes')} a sequence"
    return text + "."


def step_segments(step: Step) -> tuple[Segment, ...]:
    """Time of a step by component, longest first, what hides last; adds up to its time."""
    totals = step.by_component()
    binds = _binding(step)
    return tuple(
        Segment(
            key,
            component(key),
            totals[key],
            seconds(totals[key]),
            totals[key] / step.time_s,
            OKABE_ITO[COLOURS.get(key, "grey")],
            binds.get(key, ""),
        )
        for key in sorted(totals, key=lambda k: -totals[k])
        if totals[key]
    )


def _binding(step: Step) -> dict[str, str]:
    """What sets most of each component's time."""
    by: dict[str, dict[str, float]] = {"host": {"host": 1.0}}
    for part in step.parts:
        own = by.setdefault(part.name.split("/")[0], {})
        own[part.bound] = own.get(part.bound, 0.0) + part.time_s
    return {key: max(own, key=lambda bound: own[bound]) for key, own in by.items()}


def bound_line(step: Step) -> str:
    """How far a step is from the speed of light, and what that is set by."""
    return (
        f"{seconds(step.time_s)} a step; at the stated peaks, without latency and with everything "
        f"overlapped, {step.bound_by} alone would take {seconds(step.bound_s)}: "
        f"{step.time_s / step.bound_s:.2g} times the bound"
        if step.bound_s
        else f"{seconds(step.time_s)} a step"
    )
