"""What a GPU is asked to measure, and what a machine without one says."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from planner.calibrate.runner import main, work
from planner.calibrate.runner.gpu_moe import TILES, fitting_tiles
from planner.calibrate.runner.plan_cuda import (
    GPT_OSS_120B,
    KIMI_K2,
    MIXTRAL,
    QWEN3_235B,
    R1,
    cuda_plan,
    tiny_cuda_plan,
)
from planner.calibrate.runner.points import KEYS, selected
from planner.files import load_model

PLAN = selected(cuda_plan(), None)
MODELS = {
    "deepseek-r1": R1, "kimi-k2": KIMI_K2, "qwen3-235b-a22b": QWEN3_235B,
    "gpt-oss-120b": GPT_OSS_120B, "mixtral-8x7b": MIXTRAL,
}  # fmt: skip


def test_no_point_is_planned_twice_and_the_best_come_first() -> None:
    for plan in (cuda_plan(), cuda_plan(8), tiny_cuda_plan()):
        assert len({p.key for p in plan}) == len(plan)
    ranks = [p.rank for p in PLAN]
    assert ranks == sorted(ranks)


def test_the_first_round_is_a_coarse_grid_of_everything_that_binds() -> None:
    first = {(p.op, p.dtype) for p in PLAN if p.rank == 0}
    assert first >= {
        ("launch", "none"), ("hbm_read", "fp32"), ("gemm", "bf16"), ("gemm", "fp8_block"),
        ("grouped_gemm", "fp8_block"), ("moe_layer", "fp8_block"), ("attention_decode", "bf16"),
        ("attention_prefill", "bf16"), ("elementwise", "fp8_block"),
    }  # fmt: skip
    assert sum(p.rank == 0 for p in PLAN) < 200


@pytest.mark.parametrize("name", MODELS)
def test_shapes_are_those_of_the_catalogue(name: str) -> None:
    model = load_model(name)
    assert model.moe
    shape = (model.moe.experts, model.moe.top_k, model.hidden_size, model.moe.intermediate_size)
    assert shape == MODELS[name]
    names = ("experts", "top_k", "hidden", "intermediate")
    assert any(shape == tuple(p.shape.get(n) for n in names) for p in PLAN)


def test_dimensions_suit_the_kernels() -> None:
    for p in PLAN:
        for name in ("k", "n", "hidden", "intermediate"):
            size = int(p.shape.get(name, 128))
            assert size % (128 if p.dtype == "fp8_block" and p.kernel == "own" else 64) == 0, p


def test_degrees_of_expert_parallelism_reach_from_one_device_to_one_expert_each() -> None:
    found = {
        int(p.shape["experts"]) // int(p.shape["local_experts"])
        for p in PLAN
        if p.op == "grouped_gemm" and p.shape["experts"] == 256
    }
    assert {1, 2, 8, 32, 64, 128, 256} <= found


def test_distributions_and_libraries_are_compared() -> None:
    assert {p.shape["distribution"] for p in PLAN if p.op == "moe_layer"} == {
        "balanced", "zipf", "lognormal",
    }  # fmt: skip
    assert {p.dtype for p in PLAN if p.op == "grouped_gemm" and p.kernel == "library"} == {
        "bf16", "fp8_row",
    }  # fmt: skip
    assert {p.dtype for p in PLAN if p.op == "gemm"} == {
        "bf16", "fp8_block", "fp8_row", "fp8_tensor",
    }  # fmt: skip


def test_collectives_are_planned_between_devices_alone() -> None:
    assert not any(p.op.startswith("all_") for p in PLAN)
    assert {p.op for p in cuda_plan(8)} == set(KEYS)


@pytest.mark.parametrize("dtype", TILES)
@pytest.mark.parametrize("rows", [0.25, 1, 4, 17, 64, 200, 1000, 1e5])
def test_every_batch_has_tiles_to_choose_from(dtype: str, rows: float) -> None:
    assert 1 <= len(fitting_tiles(dtype, rows)) <= 4


def test_narrow_tiles_are_swapped_so_that_the_instruction_is_filled() -> None:
    for tiles in TILES.values():
        assert all(tile.swapped == (tile.rows < 64) for tile in tiles)
        assert all(tile.columns <= 128 for tile in TILES["fp8_block"])


def test_work_is_counted_by_hand() -> None:
    # 2 tokens, 4 pairs over 3 experts of [8, 4]: 4 rows in once, 3 weights, 4 results in bf16
    assert work.grouped_gemm(4, 4, 3, 8, 4, "bf16") == (2 * 4 * 8 * 4, 2 * (32 + 96) + 2 * 16)
    assert work.mla_decode(1, 10, 2, 512, 64, "bf16").flop == 2 * 10 * 2 * (576 + 512)
    assert work.gqa_decode(1, 10, 8, 2, 128, "bf16").traffic_bytes == 2 * (
        2 * 10 * 2 * 128 + 2 * 8 * 128
    )


def test_without_a_gpu_the_message_says_what_would_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_spec("torch"):
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("there is a GPU here")
    out = tmp_path / "rows.jsonl"
    assert main.run(["--backend", "cuda", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--backend cpu" in said
    assert not out.exists()
