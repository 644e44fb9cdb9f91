import io
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from planner import evaluation, files
from planner.evaluation import Result, build
from planner.report import terminal
from planner.report.plan_tables import refusal_groups
from planner.search import Comparison, Plan, Rejection, Row, claims
from planner.specs.deployment import Parallelism, Pool


def printed(show, *what, width=80, **options) -> str:
    out = io.StringIO()
    show(*what, Console(file=out, width=width, highlight=False, **options))
    return out.getvalue()


def squeezed(text: str) -> str:
    """Without frames and line breaks, so that a sentence can be looked for."""
    return re.sub(r"\s+", " ", re.sub("[│╭╮╰╯─]", " ", text))


def quantity(text: str, pattern: str, unit: dict[str, float]) -> float:
    """First number after a pattern, in SI."""
    match = re.search(pattern + r"\s*\$?([\d.,]+) ?(\S*)", text)
    assert match, pattern
    return float(match[1].replace(",", "")) * unit.get(match[2], 1.0)


TIME = {"µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
SIZE = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


def test_the_answer_comes_first(result: Result) -> None:
    first = squeezed(printed(terminal.print_result, result)).split("Latency")[0]
    assert "OLMoE" in first
    assert "4 devices" in first
    assert "2 replicas" in first
    assert "Keeps TTFT p95" in first
    assert "per million output tokens" in first


def test_numbers_printed_are_the_numbers_of_the_dictionary(result: Result) -> None:
    text, plain = squeezed(printed(terminal.print_result, result, width=120)), result.to_dict()
    for name, value in (
        ("TTFT p95", plain["ttft_s"]["p95"]),
        ("TPOT p95", plain["tpot_s"]["p95"]),
        (r"Whole answer \(E2E\)", plain["e2e_s"]["mean"]),
        ("decode step's time goes,", plain["decode_step"]["time_s"]),
    ):
        assert quantity(text, name, TIME) == pytest.approx(value, rel=6e-3)
    memory = plain["memory"]
    for name, value in (
        ("HBM of one device,", memory["capacity_bytes"]),
        ("routed experts", memory["per_device_bytes"]["routed_experts"]),
        ("KV cache", memory["per_device_bytes"]["kv_cache"]),
        ("the engine may use", memory["usable_bytes"]),
    ):
        after = text.split("HBM of one device")[1] if name != "HBM of one device," else text
        assert quantity(after, name, SIZE) == pytest.approx(value, rel=6e-4)
    cost = plain["costs"][0]
    assert f"${cost['usd_per_device_hour']:,.2f}" in text
    assert quantity(text, "TPOT p95 [^;]*;", {}) == pytest.approx(cost["usd_per_hour"], rel=1e-2)
    assert "device-seconds" in text
    assert f"{len(plain['sources'])} sources" in text


def test_api_bill_is_set_against_our_own(result: Result) -> None:
    text, api = squeezed(printed(terminal.print_result, result)), result.to_dict()["day"]["apis"][0]
    assert api["name"] == "deepseek-r1"
    share = abs(api["saving_share"])
    dearer = f"{100 * share:.0f} % dearer"
    assert (dearer in text) if api["saving_share"] < 0 else "saves" in text


@pytest.mark.parametrize("width", [60, 72, 80, 100, 120])
def test_every_line_fits_the_width(found: Plan, width: int) -> None:
    lines = printed(terminal.print_plan, found, width=width).splitlines()
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_word_is_broken_letter_by_letter(found: Plan, width: int) -> None:
    text = printed(terminal.print_plan, found, width=width)
    assert "First token (TTFT)" in text
    assert not re.search(r"^[a-zA-Z]$", text, re.M)


def test_without_colour_there_are_no_escapes_and_parts_differ(result: Result) -> None:
    text = printed(terminal.print_result, result, no_color=True, force_terminal=True)
    assert "\x1b[3" not in text
    bar = next(line for line in text.splitlines() if line.startswith("█▓") or "█▒" in line[:60])
    assert len(set(bar.strip())) >= 3


def test_colour_where_the_terminal_has_it(result: Result) -> None:
    text = printed(terminal.print_result, result, force_terminal=True, color_system="truecolor")
    assert "\x1b[38;2;0;114;178m" in text


def test_ascii_terminals_get_ascii(result: Result) -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    terminal.print_result(result, Console(file=file, width=80))
    file.flush()
    assert b"routed experts" in raw.getvalue()


def test_plan_says_why_layouts_were_refused(found: Plan) -> None:
    text = squeezed(printed(terminal.print_plan, found))
    assert "Fleets that keep every promise" in text
    assert "Why the others were refused" in text
    assert re.search(r"\d+ layouts?: ", text)
    assert sum(map(int, re.findall(r"• (\d+) layouts?:", text))) == len(found.rejections)


def test_plan_without_an_answer_says_so(found: Plan) -> None:
    text = squeezed(printed(terminal.print_plan, replace(found, best=None, options=())))
    assert "No fleet of up to 512 nodes" in text
    assert "No simulated fleet keeps every promise" in text


def test_broken_promises_are_named(result: Result) -> None:
    late = replace(
        result.metrics,
        promises=tuple(replace(p, limit_s=p.value_s / 2) for p in result.metrics.promises),
        slo_met=False,
    )
    text = squeezed(printed(terminal.print_result, replace(result, metrics=late)))
    assert "✗" in text
    assert "Breaks TTFT p95" in text
    assert "100 % over" in text


def test_footprint_says_what_is_missing() -> None:
    pool = Pool(parallelism=Parallelism(attention_tp=8, moe_tp=8), weights="fp8")
    replica = build(files.load_model("deepseek-r1"), files.load_hardware("hgx-h100"), pool)
    answer = SimpleNamespace(replica=replica, assumptions=evaluation.assumptions(replica))
    text = squeezed(printed(terminal.print_footprint, answer))
    assert "does not fit" in text
    missing = quantity(text, "may use [0-9.]+ GB;", SIZE)
    assert missing == pytest.approx(replica.memory.short_by_bytes, rel=6e-4)
    assert "memory.graph_bytes" in text


def test_step_lists_every_op(result: Result) -> None:
    text = printed(terminal.print_step, result.decode)
    assert all(part.name in text for part in result.decode.parts)


def test_comparison_puts_refusals_last(scenario, found: Plan) -> None:
    other = files.load_hardware("rtx-4090-pc")
    rows = (Row(scenario.hardware[0], found, ""), Row(other, None, "HBM per device: too small"))
    text = printed(terminal.print_comparison, Comparison(scenario, rows))
    assert "HGX H100, 8 GPUs" in text
    assert text.index("Without an answer") < text.index("HBM per device: too small")


def test_shelf_shows_models_and_hardware() -> None:
    models = [files.load_model(name) for name in ("olmoe-1b-7b", "deepseek-v3.2", "gpt-oss-20b")]
    text = printed(terminal.print_models, models)
    assert re.search(r"olmoe-1b-7b\s+6\.919B\s+1\.282B\s+8/64", text)
    assert "7168" in printed(terminal.print_model, models[1]).replace(",", "")
    systems = [files.load_hardware(name) for name in files.system_names()]
    assert "hgx-h200" in printed(terminal.print_hardware, systems)
    one = printed(terminal.print_system, files.load_hardware("hgx-h200"))
    assert "scale_up.bytes_per_s" in one
    assert "450 GB/s" in one


def test_refusals_are_grouped_by_limit_with_both_sides(found: Plan) -> None:
    limit = ("fit", "HBM per device")
    three = (
        Rejection("TP2, fp8 weights, bf16 KV", *limit, 3e11, 1.4e11, "bytes", ""),
        Rejection("TP4, fp8 weights, bf16 KV", *limit, 2e11, 1.4e11, "bytes", ""),
        Rejection("TP8, fp8 weights, bf16 KV", "simulation", "ttft_p95_s", 3.0, 2.0, "s", ""),
    )
    memory, late = refusal_groups(replace(found, rejections=three))
    assert memory == (
        "2 layouts: HBM per device: need 200 GB to 300 GB, have 140 GB",
        ("TP2", "TP4"),
    )
    assert late == ("1 layout: TTFT p95 in simulation: need 3 s, limit 2 s", ("TP8",))


def test_steady_step_shows_its_bracket() -> None:
    answer = evaluation.steady(files.load_scenario("deepseek-ep144-decode"))
    text = squeezed(printed(terminal.print_steady, answer))
    for case in ("nothing hidden", "all hidden that can be"):
        plain = answer.to_dict()[case.split(" that")[0].replace(" ", "_")]
        assert quantity(text, case, TIME) == pytest.approx(plain["step_s"], rel=6e-3)


def test_claims_stand_beside_our_figures() -> None:
    verdicts = claims(files.load_scenario("r1-training"))
    text = squeezed(printed(terminal.print_claims, verdicts))
    assert verdicts[0].claim.statement in text
    assert "We get $5,576,000;" in text
