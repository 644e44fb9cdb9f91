"""How engines are taken to have been started, by hand from public start commands."""

from pathlib import Path

import pytest

from planner.files.runs import read_runs
from planner.validation.family import family_of
from planner.validation.setup import resolve
from planner.validation.shipped import shipped_runs
from planner.validation.starts import BALANCE_STEPS, NOT_DATA_PARALLEL, RACK_LABELS, TWIN_LABELS

RUNS = {
    run.id.split("/")[1]: run
    for run in read_runs(Path(__file__).parents[1] / "data" / "serving_runs.jsonl")[0]
}


def started(name, **load):
    run = RUNS[name]
    workload = run.workload.model_copy(update=load)
    return resolve(run.model_copy(update={"workload": workload}))


def test_a_start_command_without_data_parallelism_goes_before_the_label():
    setup = started("minimaxm2_5_b200_vllm_fp8_agg_1024x1024_c32_cfg691")
    division = setup.decode.parallelism
    assert (division.attention_tp, division.attention_dp, division.moe_ep) == (4, 1, 4)
    assert setup.notes == (NOT_DATA_PARALLEL,)


def divided(name):
    """(attention_tp, attention_dp, moe_tp, moe_ep) of both pools, and what is said about them."""
    setup = resolve(next(run for run in shipped_runs() if run.id.endswith(name)))
    each = [pool.parallelism for pool in setup.pools]
    return [(p.attention_tp, p.attention_dp, p.moe_tp, p.moe_ep) for p in each], setup.notes


def test_small_replicas_of_sglang_on_racks_are_tensor_parallel_whatever_their_label():
    found, notes = divided("dsr1_gb200_sglang_fp4_disagg_8192x1024_c32_cfg255")
    assert found == [(4, 1, 4, 1), (4, 1, 4, 1)]  # labelled 4 attention ranks in the decode pool
    assert notes == (RACK_LABELS,)


def test_wide_replicas_of_sglang_on_racks_divide_experts_among_attention_ranks():
    found, notes = divided("dsr1_gb200_sglang_fp8_disagg_8192x1024_c2048_cfg253")
    assert found == [(1, 8, 1, 8), (1, 32, 1, 32)]  # labelled tensor-parallel experts in prefill
    assert notes == (RACK_LABELS,)


def test_prompts_of_tensorrt_llm_have_experts_among_ranks_whichever_way_they_are_labelled():
    for name in ("8192x1024_c640_cfg667", "8192x1024_c640_cfg555"):  # twins: 42.6 and 42.4 ms
        found, notes = divided(f"dsr1_b200_trtllm_fp8_disagg_{name}")
        assert found == [(1, 8, 1, 8), (1, 8, 1, 8)]
        assert bool(notes) == ("667" in name)


def test_replicas_of_tensorrt_llm_have_experts_among_ranks_whichever_way_they_are_labelled():
    found, notes = divided("dsr1_b200_trtllm_fp8_agg_1024x1024_c64_cfg75")
    assert found == [(8, 1, 1, 8)]
    assert notes == (TWIN_LABELS,)
    assert divided("dsr1_b200_trtllm_fp8_agg_1024x1024_c16_cfg177") == ([(8, 1, 1, 8)], ())


@pytest.mark.parametrize(
    "name",
    [
        "dsr1_b200_sglang_fp8_disagg_8192x1024_c160_cfg641",  # its recipe has such experts
        "dsr1_gb300_sglang_fp4_disagg_1024x1024_c512_cfg576",  # labelled expert-parallel
    ],
)
def test_a_label_that_a_recipe_bears_out_stands(name):
    _, notes = divided(name)
    assert notes == ()


@pytest.mark.parametrize(("tokens", "sequences"), [(8192, 1), (1024, 4096)])
def test_long_prompts_of_sglang_on_nodes_of_b200_are_computed_one_a_rank(tokens, sequences):
    run = next(r for r in shipped_runs() if r.id.endswith("8192x1024_c160_cfg641"))
    load = run.workload.model_copy(update={"input_tokens_max": tokens})
    setup = resolve(run.model_copy(update={"workload": load}))
    limits = setup.prefill.limits
    assert setup.decode.exchange == "all-gather"  # no --moe-a2a-backend
    assert limits.max_sequences == sequences
    assert limits.max_step_tokens == (8192 if sequences == 1 else 16384)


def test_a_users_own_run_is_divided_as_it_says():
    run = next(r for r in shipped_runs() if r.id.endswith("8192x1024_c2048_cfg253"))
    own = run.model_copy(update={"source": run.source.model_copy(update={"title": "our cluster"})})
    assert resolve(own).prefill.parallelism.moe_tp == 8


@pytest.mark.parametrize(("clients", "poll"), [(8, 10), (32, 30)])
def test_sglang_on_blackwell_looks_every_10_steps_or_every_30(clients, poll):
    setup = started("dsr1_b200_sglang_fp4_agg_8192x1024_c32_cfg99", concurrency=clients)
    assert setup.decode.engine.poll_steps == poll
    assert setup.decode.engine.polls_ahead
    assert setup.decode.limits.max_step_tokens == 16384


def test_attention_ranks_of_tensorrt_llm_wait_for_each_other():
    setup = started("dsr1_b200_trtllm_fp4_agg_1024x1024_c128_cfg191")
    assert setup.decode.engine.balance_steps == BALANCE_STEPS
    assert setup.decode.engine.poll_steps == 1


@pytest.mark.parametrize(("clients", "slots"), [(28, 4), (112, 16), (140, 16), (252, 32)])
def test_a_decode_replica_has_slots_up_to_a_power_of_two(clients, slots):
    """Seven replicas, 8k prompts: 20 clients a replica share 16 slots."""
    setup = started("dsr1_h200_trtllm_fp8_disagg_8192x1024_c28_cfg297", concurrency=clients)
    assert setup.decode.limits.max_sequences == slots
    assert setup.prefill.limits.max_sequences == 2  # 16,384 tokens of 8,192 a rank and step


def test_what_a_run_states_goes_before_what_is_usual():
    run = RUNS["dsr1_b200_sglang_fp4_agg_8192x1024_c32_cfg99"]
    settings = run.settings.model_copy(update={"poll_steps": 3, "max_sequences": 7})
    setup = resolve(run.model_copy(update={"settings": settings}))
    assert setup.decode.engine.poll_steps == 3
    assert setup.decode.limits.max_sequences == 7


def start_of(name, part, model, engine, **precision):
    """Limits, steps between two looks and cache of a run like ``name`` on another part."""
    run = RUNS[name]
    changes = {
        "model": model, "accelerator": part,
        "framework": run.framework.model_copy(update={"name": engine}),
        "precision": run.precision.model_copy(update=precision),
    }  # fmt: skip
    pool = resolve(run.model_copy(update=changes)).decode
    limits = pool.limits
    found = limits.max_sequences, limits.max_step_tokens, limits.memory_share
    return (*found, pool.engine.poll_steps, pool.kv)


LONG = "dsr1_b200_sglang_fp4_agg_8192x1024_c32_cfg99"
"""8,192 in, 1,024 out, 32 clients."""


@pytest.mark.parametrize(
    ("part", "model", "engine", "weights", "expected"),
    [
        # kimik2.5_*: what they leave out is vLLM's default of 8,192 tokens a step
        ("b200-sxm", "kimi-k2.5", "vllm", "fp4", (32, 8192, 0.9, 1, "fp8")),
        ("h200-sxm", "kimi-k2.5", "vllm", "int4", (32, 8192, 0.95, 1, "fp8")),
        ("mi300x", "kimi-k2.5", "vllm", "int4", (256, 8192, 0.95, 1, "bf16")),
        # gptoss_fp4_*
        ("b200-sxm", "gpt-oss-120b", "vllm", "mxfp4", (512, 8192, 0.9, 1, "fp8")),
        ("h100-sxm", "gpt-oss-120b", "vllm", "mxfp4", (32, 8192, 0.9, 1, "bf16")),
        ("mi355x", "gpt-oss-120b", "vllm", "mxfp4", (1024, 8192, 0.95, 1, "bf16")),
        ("b200-sxm", "gpt-oss-120b", "tensorrt-llm", "mxfp4", (512, 20000, 0.85, 1, "fp8")),
        ("h200-sxm", "gpt-oss-120b", "tensorrt-llm", "mxfp4", (32, 20000, 0.85, 1, "bf16")),
        # minimaxm2.5_fp8_*
        ("b200-sxm", "minimax-m2.5", "vllm", "fp8", (32, 16384, 0.9, 1, "fp8")),
        ("h100-sxm", "minimax-m2.5", "vllm", "fp8", (256, 8192, 0.9, 1, "bf16")),
        ("mi355x", "minimax-m2.5", "vllm", "fp8", (1024, 8192, 0.8, 1, "fp8")),
        ("mi325x", "minimax-m2.5", "vllm", "fp8", (1024, 8192, 0.95, 1, "bf16")),
        # a model without a command of its own: the engine's defaults
        ("b200-sxm", "glm-4.5", "vllm", "fp8", (1024, 8192, 0.9, 1, "fp8")),
        # dsr1_*
        ("mi355x", "deepseek-r1", "sglang", "fp8", (2048, 196608, 0.8, 4, "fp8")),
        ("mi300x", "deepseek-r1", "sglang", "fp8", (2048, 131072, 0.8, 4, "fp8")),
        ("h200-sxm", "deepseek-r1", "sglang", "fp8", (256, 32768, 0.82, 1, "bf16")),
        # qwen3.5_*, glm5_*
        ("h200-sxm", "qwen3.5-397b-a17b", "sglang", "fp8", (128, 16384, 0.8, 1, "fp8")),
        ("mi355x", "qwen3.5-397b-a17b", "sglang", "fp8", (32, 32768, 0.8, 2, "fp8")),
        ("b200-sxm", "glm-5", "sglang", "fp8", (32, 32768, 0.85, 1, "fp8")),
        ("b200-sxm", "glm-5", "sglang", "fp4", (2048, 32768, 0.9, 10, "fp8")),
        ("h200-sxm", "glm-5", "sglang", "fp8", (2048, 8192, 0.85, 1, "bf16")),
        ("mi355x", "glm-5", "sglang", "fp8", (2048, 16384, 0.85, 1, "bf16")),
    ],
)
def test_commands_differ_by_model_part_and_engine(part, model, engine, weights, expected):
    assert start_of(LONG, part, model, engine, weights=weights) == expected


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("TensorRT-LLM", "tensorrt-llm"), ("trtllm", "tensorrt-llm"),
        ("dynamo-trt", "tensorrt-llm"), ("dynamo-sglang", "sglang"), ("mori-sglang", "sglang"),
        ("vLLM", "vllm"),
        ("atom", "atom"), ("sglang+vllm", "sglang+vllm"),
    ],
)  # fmt: skip
def test_an_engine_is_known_by_a_word_of_its_name(name, family):
    run = RUNS[LONG]
    framework = run.framework.model_copy(update={"name": name})
    assert family_of(run.model_copy(update={"framework": framework})) == family
