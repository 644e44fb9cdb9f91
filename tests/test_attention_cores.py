"""The event loop's lines of attention are the op's own time, and hold as long as they say."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import files
from planner.evaluation.attention import decode_cores
from planner.evaluation.attention_kernels import with_attention_kernels
from planner.evaluation.prompts import prefill_cores
from planner.shard import shard
from planner.sourced import Sourced
from planner.specs.calibration import Curve
from planner.specs.deployment import Parallelism, Pool
from planner.specs.tilings import RowWaves, Splits
from planner.step import StepModel

Case = tuple[str, str, int, str, str, str]

CASES: tuple[Case, ...] = (
    ("deepseek-v3", "hgx-b200", 8, "bf16", "fp8", ""),
    ("deepseek-v3", "hgx-h200", 8, "fp8", "fp8", ""),
    ("deepseek-v3", "hgx-h200", 8, "bf16", "fp8", "sglang"),
    ("qwen3-235b-a22b", "hgx-h100", 4, "bf16", "bf16", ""),
    ("qwen3-235b-a22b", "hgx-h100", 8, "fp8", "fp8", "vllm"),
    ("qwen3-235b-a22b", "hgx-mi300x", 4, "bf16", "bf16", ""),
    ("gpt-oss-120b", "hgx-h200", 2, "bf16", "mxfp4", ""),
    ("gpt-oss-120b", "hgx-h200", 2, "bf16", "mxfp4", "vllm"),
    ("qwen3-next-80b-a3b", "hgx-h100", 4, "bf16", "bf16", "sglang"),
    ("deepseek-v3.2", "hgx-h200", 8, "fp8", "fp8", ""),
    ("qwen3-30b-a3b", "l40s-8gpu", 2, "bf16", "bf16", ""),
    ("qwen3-30b-a3b", "l40s-8gpu", 2, "fp8", "bf16", "vllm"),
    ("gpt-oss-120b", "hgx-h100", 2, "bf16", "mxfp4", "sglang"),
    ("qwen3-235b-a22b", "gb200-nvl72", 4, "bf16", "fp8", "sglang"),
)


@lru_cache
def step(case: Case) -> StepModel:
    model, system, tp, kv, weights, attention = case
    hardware = files.load_hardware(system)
    layout = Parallelism(attention_tp=tp, moe_ep=tp)
    pool = Pool(parallelism=layout, kv=kv, weights=weights, attention_kernel=attention)  # type: ignore[arg-type]
    return StepModel(
        shard(files.load_model(model), pool), hardware.system, hardware.accelerator,
        with_attention_kernels(hardware.calibration, pool),
    )  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@given(sequences=st.integers(1, 512), mean=st.integers(1, 100_000), steps=st.integers(0, 10_000))
def test_a_line_is_the_time_of_the_op_as_long_as_it_holds(
    case: Case, sequences: int, mean: int, steps: int
) -> None:
    holds(step(case), sequences, sequences * mean, steps)


def holds(model: StepModel, sequences: int, context: int, steps: int) -> None:
    """Cores give the time of their ops now and as many steps ahead as they say."""
    for group, core in enumerate(decode_cores(model)):
        first, up, valid = core.at(sequences, context, context, sequences)
        ahead = min(steps, valid - 1)
        grown = context + ahead * sequences
        expected = model.decode_attention(sequences, grown, grown)[group].time_s
        assert up >= 0
        assert first + up * ahead == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("case", CASES)
@given(prompts=st.integers(1, 64), each=st.integers(1, 100_000), known=st.booleans())
def test_prefill_is_the_time_of_the_op(case: Case, prompts: int, each: int, known: bool) -> None:
    model, pairs = step(case), prompts * each * (each + 1) / 2
    load, longest = (float(prompts * each), pairs, pairs), float(each) if known else None
    for group, forms in enumerate(prefill_cores(model)):
        expected = model.prefill_attention(*load, longest=longest)[group].time_s
        assert forms[0].at(*load, longest) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("engine", ["", "vllm"])
@given(prompts=st.integers(1, 64), each=st.integers(1, 20_000))
def test_prefill_that_stays_on_chip_is_the_time_of_the_op(
    engine: str, prompts: int, each: int
) -> None:
    """A law that keeps three quarters of an L40S's cache, with a time an element of keys, and
    whose products lose their clock when they run long."""
    model = step(("qwen3-30b-a3b", "l40s-8gpu", 2, "bf16", "bf16", engine))
    spec = model.calibration
    kept = {"kept_part": 0.75, "key_s": Sourced(8e-12, "t"), "query_share": None}
    kept |= {"memory_curve": None, "memory_share": Sourced(0.7, "t")}
    kept |= {"tile_rows": 256}
    products = Curve(sizes=(1e9, 1e11, 1e13), shares=(0.3, 0.6, 0.5), source="t")
    kept |= {"compute_curve": products, "compute_share": Sourced(0.6, "t")}
    laws = {k: v.model_copy(update=kept) for k, v in spec.attention_prefill_variants.items()}
    changed = replace(
        model, calibration=spec.model_copy(update={"attention_prefill_variants": laws})
    )
    load = float(prompts * each), prompts * each * (each + 1) / 2, prompts * each * (each + 1) / 2
    for group, forms in enumerate(prefill_cores(changed)):
        part = changed.prefill_attention(*load, longest=float(each))[group]
        assert forms[0].kept > 5e7
        assert forms[0].at(*load, float(each)) == pytest.approx(float(part.time_s), rel=1e-9)
        assert forms[0].crossing_s(load) == pytest.approx(float(part.memory_s), rel=1e-9)


@lru_cache
def tiled(case: Case) -> StepModel:
    """The same where kernels compute no fewer than 256 keys of a sequence."""
    model = step(case)
    spec = model.calibration
    tiles = {"tile_keys": 256, "doubling_depth": 2048}
    laws = {k: v.model_copy(update=tiles) for k, v in spec.attention_decode_variants.items()}
    usual = spec.attention_decode.model_copy(update=tiles)
    update = {"attention_decode": usual, "attention_decode_variants": laws}
    return replace(model, calibration=spec.model_copy(update=update))


@pytest.mark.parametrize("case", [CASES[0], CASES[3], CASES[6], CASES[9]])
@given(sequences=st.integers(1, 512), mean=st.integers(1, 600), steps=st.integers(0, 1_000))
def test_short_contexts_fill_a_tile_as_long_as_the_line_says(
    case: Case, sequences: int, mean: int, steps: int
) -> None:
    holds(tiled(case), sequences, sequences * mean, steps)


def test_128_keys_take_as_long_as_256_and_512_longer() -> None:
    model = tiled(CASES[3])
    times = [float(model.decode_attention(64, 64 * n, 64 * n)[0].time_s) for n in (128, 256, 512)]
    assert times[0] == times[1] < times[2]
    ideal = [core.ideal_memory for core in decode_cores(model)]
    assert ideal == [core.ideal_memory for core in decode_cores(step(CASES[3]))]


@lru_cache
def divided(
    case: Case, waves: int, row_s: float = 3e-8, blend: str = "root2", chain: str = "sum"
) -> StepModel:
    """The same where contexts are divided over units, each part takes a time, and queries fill
    tiles of 64."""
    splits = Splits(keys=128, root=8, waves=waves, units=132)
    update = {
        "splits": splits, "row_s": Sourced(row_s, "test"), "blend": blend, "chain": chain,
        "tile_queries": 64, "tile_keys": 256, "doubling_depth": 2048,
    }  # fmt: skip
    return changed(case, update)


def changed(case: Case, update: Mapping[str, object]) -> StepModel:
    """``case`` with other laws of decode attention."""
    model = step(case)
    spec = model.calibration
    laws = {k: v.model_copy(update=update) for k, v in spec.attention_decode_variants.items()}
    usual = spec.attention_decode.model_copy(update=update)
    made = {"attention_decode": usual, "attention_decode_variants": laws}
    return replace(model, calibration=spec.model_copy(update=made))


@pytest.mark.parametrize("case", [CASES[2], CASES[3], CASES[4], CASES[6], CASES[9]])
@given(
    sequences=st.integers(1, 512),
    mean=st.integers(1, 20_000),
    steps=st.integers(0, 1_000),
    how=st.tuples(
        st.sampled_from((1, 8)),
        st.sampled_from(("max", "sum", "root2")),
        st.sampled_from(("sum", "root2")),
    ),
)
def test_divided_contexts_are_lines_as_long_as_they_say(
    case: Case, sequences: int, mean: int, steps: int, how: tuple[int, str, str]
) -> None:
    waves, blend, chain = how
    holds(divided(case, waves, 3e-8, blend, chain), sequences, sequences * mean, steps)


@pytest.mark.parametrize("blend", ["max", "sum", "root2"])
@pytest.mark.parametrize("chain", ["sum", "root2"])
def test_a_line_ends_at_a_knot_and_nowhere_else(blend: str, chain: str) -> None:
    """64 sequences that gain 20,000 tokens each pass a few knots: six of bytes, five doublings,
    four of parts, twelve of directions at most."""
    for core in decode_cores(divided(CASES[3], 8, 3e-8, blend, chain)):
        context, steps, stretches = 64 * 1000.0, 0, 0
        while steps < 20_000:
            valid = min(core.at(64.0, context, context, 64.0)[2], 20_000 - steps)
            context, steps, stretches = context + 64 * valid, steps + valid, stretches + 1
        assert stretches <= 27


@pytest.mark.parametrize(("waves", "parts"), [(8, 32), (1, 132 / 16)])
def test_each_part_of_a_context_takes_its_time_by_hand(waves: int, parts: float) -> None:
    """16 sequences of 16,384 tokens, one cached head a device, 94 layers: 8 waves have room for 66
    parts of each, of which there are root(8 x 128); one wave for 8."""

    def time_s(row_s: float) -> float:
        return decode_cores(divided(CASES[3], waves, row_s, "sum"))[0].at(16, 16 * 16_384, 0, 0)[0]

    assert time_s(3e-8) - time_s(1e-12) == pytest.approx(94 * 16 * parts * (3e-8 - 1e-12))


@pytest.mark.parametrize("case", CASES[3:5])
@given(
    sequences=st.integers(1, 512),
    mean=st.integers(1, 100_000),
    steps=st.integers(0, 10_000),
    parts=st.sampled_from(("down", "up")),
)
def test_rows_in_waves_are_lines_as_long_as_they_say(
    case: Case, sequences: int, mean: int, steps: int, parts: str
) -> None:
    holds(in_waves(case, parts), sequences, sequences * mean, steps)


@lru_cache
def in_waves(case: Case, parts: str) -> StepModel:
    """``case`` with rows in waves of 132, beside which nothing else is seen."""
    waves = RowWaves(units=132, fill=0.5, parts=parts)  # type: ignore[arg-type]
    query = Sourced(1.0, "t")
    update = {
        "row_waves": waves, "query_share": query, "splits": None, "row_s": None, "blend": "max",
    }  # fmt: skip
    return changed(case, update)


def test_a_row_more_than_units_takes_part_of_another_wave() -> None:
    """133 rows on 132 units: the last is read twice as fast as each of 132 that share the memory,
    so it takes as long as 66 do, less a four thousandth."""
    core = decode_cores(in_waves(CASES[3], "down"))[0]
    each, another = (
        core.at(n / core.heads, n / core.heads * 65_536, 0, 0)[0] for n in (132.0, 133.0)
    )
    chain = core.at(1 / core.heads, 65_536 / core.heads, 0, 0)[0]
    row = (each - chain) / 131
    assert another - each == pytest.approx(row * 66 * math.sqrt(1 + 3 / 132**2), rel=0.01)
