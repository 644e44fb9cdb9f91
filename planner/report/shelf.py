"""What is on the shelf, in the terminal: models and hardware, with where each fact is from."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from planner import arch
from planner.report.ink import Page
from planner.report.table import Column, Table, key, text
from planner.report.words import HOW, NOTHING, component, fact, number, parameters, share
from planner.sourced import Sourced
from planner.specs.base import Spec
from planner.specs.hardware import AcceleratorSpec
from planner.specs.model import ModelSpec
from planner.specs.prices import Price
from planner.specs.scenario import Hardware
from planner.units import human

if TYPE_CHECKING:
    from rich.console import Console

ATTENTION = {
    "gqa": "GQA", "mla": "MLA", "gated_delta_net": "GDN", "kda": "KDA", "compressed": "CSA",
}  # fmt: skip


def print_models(models: Iterable[ModelSpec], console: "Console") -> None:
    """Print a line a model: size, experts, attention, format."""
    page = Page(console)
    rows = tuple(_model_row(model) for model in models)
    columns = (
        key("model"), Column("total"), Column("active"), Column("layers", min_width=90),
        Column("experts"), key("attention"), Column("context", min_width=84), key("format"),
        Column("KV a token", min_width=100), Column("checkpoint", min_width=100),
    )  # fmt: skip
    note = "total, active: parameters, counted. experts: of a layer, chosen / routed + shared."
    page.table(Table(f"{len(rows)} models", columns, rows, note, HOW["parameters"]))


def _model_row(model: ModelSpec) -> tuple[str, ...]:
    counts, moe = arch.parameters(model), model.moe
    experts = f"{moe.top_k}/{moe.experts}" if moe else "dense"
    if moe and moe.shared_experts:
        experts += f"+{moe.shared_experts}"
    return (
        model.name,
        parameters(counts.total),
        parameters(counts.active_with_embedding),
        str(model.layers),
        experts,
        " ".join(dict.fromkeys(ATTENTION[group.kind] for group in model.attention)),
        f"{model.max_context_tokens / 1024:.0f}k",
        model.native_format,
        human(arch.kv_bytes_per_token(model, "bf16"), "bytes"),
        human(arch.checkpoint_bytes(model), "bytes"),
    )


def print_model(model: ModelSpec, console: "Console") -> None:
    """Print one model: parameters counted and published, bytes, cache, quality."""
    page = Page(console)
    counts = arch.parameters(model)
    kv = arch.kv_bytes_per_token(model, "bf16")
    page.headline(
        model.title,
        f"{parameters(counts.total)} parameters, "
        f"{parameters(counts.active_with_embedding)} of them active for a token; "
        f"{human(arch.checkpoint_bytes(model), 'bytes')} as published ({model.native_format}), "
        f"{human(kv, 'bytes')} of KV cache a token of context (bf16).",
        good=None,
    )
    page.note(f"{model.hf_id}. Read from {model.source}.")
    page.table(_architecture(model))
    page.table(_components(model, counts))
    page.table(_published(model, counts))
    page.table(_bytes(model))
    page.table(_quality(model))
    if model.notes:
        page.note(f"\n{model.notes}")


def _quality(model: ModelSpec) -> Table:
    rows = tuple(
        (q.benchmark, number(q.score), q.score.confidence, q.score.source) for q in model.quality
    )
    columns = (key("benchmark"), Column("score"), key("confidence"), text("source", 100))
    origins = sorted({q.score.source for q in model.quality})
    return Table("Published quality", columns, rows, f"From {'; '.join(origins)}." if rows else "")


def _architecture(model: ModelSpec) -> Table:
    moe, dense = model.moe, model.dense_mlp
    rows = [
        (f"{ATTENTION[g.kind]} attention", f"{g.layers} layers: {_settings(g)}")
        for g in model.attention
    ]
    if dense:
        rows.append(("dense MLP", f"{dense.layers} layers, width {dense.intermediate_size:,}"))
    if moe:
        rows.append(("experts", f"{moe.layers} layers: {_settings(moe)}"))
    rows.append(("hidden, vocabulary", f"{model.hidden_size:,}, {model.vocab_size:,}"))
    rows.append(("longest context", human(model.max_context_tokens, "tokens")))
    return Table("Architecture", (key(""), text("")), tuple(rows))


def _settings(spec: Spec) -> str:
    """Every field that says something, ``heads 128, kv lora rank 512``."""
    parts: list[str] = []
    for name, value in spec:
        if name in ("kind", "layers") or value is None or value is False or value == "none":
            continue
        words = name.replace("_", " ")
        if isinstance(value, Spec):
            parts.append(f"{words} ({_settings(value)})")
        else:
            parts.append(words if value is True else f"{words} {value}")
    return ", ".join(parts)


def _components(model: ModelSpec, counts: arch.Parameters) -> Table:
    rows = tuple(
        (component(name), f"{size:,}", share(size / counts.total))
        for name in arch.COMPONENTS
        if (size := getattr(counts, name))
    )
    note = f"Beside them {counts.mtp:,} of multi-token prediction." if counts.mtp else ""
    columns = (key("component"), Column("parameters"), Column("share"))
    return Table("Parameters", columns, rows, note, HOW["parameters"])


def _published(model: ModelSpec, counts: arch.Parameters) -> Table:
    published = model.published
    pairs = (
        ("total parameters", counts.total, published.total_parameters),
        ("active parameters", counts.active_with_embedding, published.active_parameters),
        ("checkpoint bytes", arch.checkpoint_bytes(model), published.checkpoint_bytes),
    )
    rows = tuple(
        (name, f"{ours:,.0f}", f"{float(theirs):,.0f}", f"{100 * (ours / theirs - 1):+.2g} %")
        for name, ours, theirs in pairs
        if theirs
    )
    columns = (text(""), Column("counted"), Column("published"), Column("difference"))
    return Table("Against what the maker states", columns, rows)


def _bytes(model: ModelSpec) -> Table:
    rows = [
        (f"weights in {name}", human(sum(arch.resident_bytes(model, name).values()), "bytes"))
        for name in dict.fromkeys((model.native_format, "bf16", "fp8"))
    ]
    for kv in ("bf16", "fp8"):
        rows.append((f"KV a token, {kv}", human(arch.kv_bytes_per_token(model, kv), "bytes")))
        fixed = arch.kv_bytes_per_sequence(model, kv)
        if fixed:
            rows.append((f"KV a sequence, {kv}", human(fixed, "bytes")))
    return Table("Bytes, whole model", (text(""), Column("")), tuple(rows), how=HOW["kv"])


def print_hardware(hardware: Iterable[Hardware], console: "Console") -> None:
    """Print a line a system: memory, bandwidth, peaks, link, cheapest price."""
    page = Page(console)
    rows = tuple(_hardware_row(h) for h in hardware)
    columns = (
        key("system"), Column("devices"), Column("HBM"), Column("bandwidth"),
        Column("bf16"), Column("fp8"), Column("fp4", min_width=90),
        Column("link, one way", min_width=105), Column("power", min_width=115),
        Column("from $/h"),
    )  # fmt: skip
    note = "A device each; peaks dense, in PFLOP/s. $/h: the lowest price listed."
    page.table(Table(f"{len(rows)} systems", columns, rows, note))


def _hardware_row(h: Hardware) -> tuple[str, ...]:
    part, system = h.accelerator, h.system
    lowest = min((float(p.usd_per_device_hour) for p in h.prices), default=None)
    return (
        system.name,
        str(system.devices_per_node),
        human(part.memory_bytes, "bytes"),
        human(part.memory_bytes_per_s, "bytes_per_s"),
        *(_peak(part, name) for name in ("bf16", "fp8", "fp4")),
        human(system.scale_up.bytes_per_s, "bytes_per_s"),
        human(part.max_power_w, "w") if part.max_power_w is not None else NOTHING,
        f"{lowest:,.2f}" if lowest is not None else NOTHING,
    )


def _peak(part: AcceleratorSpec, precision: str) -> str:
    peak: Sourced | None = getattr(part.dense_flop_per_s, precision)
    return NOTHING if peak is None else f"{peak / 1e15:.3g}"


def print_system(hardware: Hardware, console: "Console") -> None:
    """Print one system: every fact with its confidence and source."""
    page = Page(console)
    part, system = hardware.accelerator, hardware.system
    page.headline(
        system.title,
        f"{system.devices_per_node} x {part.title} a node: "
        f"{human(part.memory_bytes, 'bytes')} at "
        f"{human(part.memory_bytes_per_s, 'bytes_per_s')} and "
        f"{human(part.dense_flop_per_s.bf16, 'flop_per_s')} in bf16 each; "
        f"{system.scale_up.technology} joins {system.scale_up.devices} at "
        f"{human(system.scale_up.bytes_per_s, 'bytes_per_s')} one way.",
        good=None,
    )
    for title, spec in (("Accelerator", part), ("System", system)):
        page.table(_facts_table(f"{title}: {spec.name}", spec))
    page.table(_facts_table(f"Achieved shares: {hardware.calibration.name}", hardware.calibration))
    page.table(_prices(hardware.prices))
    for notes in (part.notes, system.notes):
        if notes:
            page.note(f"\n{notes}")


def _facts_table(title: str, spec: Spec) -> Table:
    rows = tuple(
        (name, fact(name, float(value)), value.confidence, value.source, value.note)
        for name, value in facts(spec)
    )
    columns = (
        key("fact"), Column("value"), key("confidence"), text("source"), text("note", 110),
    )  # fmt: skip
    return Table(title, columns, rows)


def facts(spec: Spec, path: str = "") -> Iterable[tuple[str, Sourced]]:
    """Every sourced number inside a spec, with its dotted path."""
    for name, value in spec:
        here = f"{path}{name}"
        inner = value.items() if isinstance(value, dict) else [("", value)]
        for index, item in inner:
            place = f"{here}.{index}" if index else here
            if isinstance(item, Sourced):
                yield place, item
            elif isinstance(item, Spec):
                yield from facts(item, f"{place}.")


def _prices(prices: tuple[Price, ...]) -> Table:
    rows = tuple(
        (p.provider, p.term, p.retrieved, f"${float(p.usd_per_device_hour):,.2f}",
         p.usd_per_device_hour.source)
        for p in prices
    )  # fmt: skip
    columns = (
        text("provider"), key("term"), key("date"), Column("$/device-h"), text("source", 90),
    )  # fmt: skip
    return Table("Prices", columns, rows)
