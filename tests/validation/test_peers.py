"""A peer's predictions are read, asked for in its own words, and set beside ours."""

import importlib.util
import json
from pathlib import Path

import planner
from planner.validation.shipped import shipped_runs

SCRIPT = Path(planner.__file__).parents[1] / "scripts" / "compare_peers.py"
SPEC = importlib.util.spec_from_file_location("compare_peers", SCRIPT)
assert SPEC is not None
assert SPEC.loader is not None
peers = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(peers)

RUNS = list(shipped_runs())


def test_both_errors_are_taken_over_the_runs_that_both_predict():
    a, b = RUNS[:2]
    truth = {r.id: r.measured for r in (a, b)}
    ours = {
        r.id: {"tpot_s": 1.1 * truth[r.id].mean_tpot_s, "ttft_s": truth[r.id].mean_ttft_s}
        for r in (a, b)
    }
    peer = {a.id: {"tpot_s": 1.5 * truth[a.id].mean_tpot_s, "ttft_s": None}, b.id: {"tpot_s": None}}
    row = next(line for line in peers.table([a, b], ours, peer) if line.startswith("all "))
    assert row.split()[1:] == ["2", "100%", "50%", "10.0%,", "10%", "50.0%,", "50%", "-", "-"]


def test_a_disaggregated_run_in_the_peers_words():
    run = next(r for r in RUNS if r.deployment.kind == "disaggregated")
    job = peers.arguments(run)
    assert job["mode"] == "disagg"
    assert job["decode_num_workers"] == run.deployment.decode.replicas
    assert job["prefill_tp_size"] == run.deployment.prefill.attention_tp
    assert job["decode_batch_size"] >= run.workload.concurrency / (
        run.deployment.decode.replicas * run.deployment.decode.attention_dp
    )


def test_formats_and_systems_have_the_peers_names():
    jobs = [peers.arguments(run) for run in RUNS]
    assert {job["backend_name"] for job in jobs} == {"trtllm", "sglang", "vllm"}
    assert {job["gemm_quant_mode"] for job in jobs} == {"fp8_block", "nvfp4", "bfloat16"}
    assert {"h200_sxm", "gb200"} <= {job["system_name"] for job in jobs}


def test_stored_predictions_are_read(tmp_path):
    path = tmp_path / "peer.json"
    path.write_text(json.dumps({"predictions": {"a": {"ttft_s": 1.0, "tpot_s": None}}}))
    assert peers.stored(path) == {"a": {"ttft_s": 1.0, "tpot_s": None}}
