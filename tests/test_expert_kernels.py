"""Which library multiplies a pool's experts."""

import pytest

from planner import evaluation, files
from planner.errors import InputError
from planner.evaluation import Replica
from planner.evaluation.assumptions import assumptions
from planner.files.engines import load_engine
from planner.specs.deployment import Parallelism, Pool


def _replica(engine: str = "generic", system: str = "hgx-h200", **changes: object) -> Replica:
    division = {"attention_tp": 8, "moe_tp": 8} | changes.pop("parallelism", {})  # type: ignore[operator]
    pool = Pool(
        parallelism=Parallelism(**division), weights="fp8", engine=load_engine(engine), **changes
    )  # type: ignore[arg-type]
    return evaluation.build(files.load_model("deepseek-r1"), files.load_hardware(system), pool)


@pytest.mark.parametrize(
    ("engine", "library"), [("sglang", "triton"), ("vllm", "triton"), ("tensorrt-llm", "cutlass")]
)
def test_experts_run_on_the_kernels_of_the_engine(engine: str, library: str) -> None:
    shipped = files.load_calibration("h200-sxm")
    found = _replica(engine).hardware.calibration
    assert found.experts_of["fp8"] == library
    assert found.grouped_gemm["fp8"] == shipped.expert_kernels[library]["fp8"]
    assert found.provenance is not None
    sigma = found.provenance.residual_sigma
    assert sigma["grouped_gemm/fp8"] == sigma[f"grouped_gemm/fp8/{library}"]


def test_an_engine_without_preferences_runs_the_parts_own() -> None:
    found = _replica().hardware.calibration
    assert found.grouped_gemm == files.load_calibration("h200-sxm").grouped_gemm
    assert not found.experts_of


def test_tokens_sent_to_their_experts_feed_the_parts_own() -> None:
    apart = {"attention_tp": 1, "attention_dp": 8, "moe_tp": 1, "moe_ep": 8}
    replica = _replica("sglang", parallelism=apart)
    assert replica.shard.uses_all_to_all
    assert not replica.hardware.calibration.experts_of


def test_a_deployment_names_its_own_library() -> None:
    assert _replica("sglang", experts_kernel="cutlass").hardware.calibration.experts_of == {
        "fp8": "cutlass"
    }
    assert not _replica("sglang", experts_kernel="default").hardware.calibration.experts_of
    with pytest.raises(InputError, match=r"experts_kernel.*'marlin'.*default, cutlass, triton"):
        _replica("sglang", experts_kernel="marlin")


def test_the_chosen_library_changes_the_step_and_is_said() -> None:
    own, other = _replica("sglang"), _replica("sglang", experts_kernel="default")
    assert float(own.step.decode_step_s(64.0, 2048.0, None)) != pytest.approx(
        float(other.step.decode_step_s(64.0, 2048.0, None)), rel=0.01
    )
    said = {each.name: each for each in assumptions(own)}
    assert said["expert kernels"].source == "measured: triton"
