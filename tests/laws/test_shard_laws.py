"""However a model is divided, nothing is lost."""

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from planner import arch, files
from planner.errors import InfeasibleError
from planner.ops import layer
from planner.ops.head import head_ops
from planner.shard import Shard, shard
from planner.specs.deployment import Parallelism, Pool

MODELS = (
    "deepseek-r1", "deepseek-v3.2", "deepseek-v4-flash", "gpt-oss-120b", "qwen3-235b-a22b",
    "qwen3.5-397b-a17b", "llama-3.1-70b", "kimi-k3", "minimax-m3", "mixtral-8x7b", "glm-4.5",
)  # fmt: skip
POWER = st.sampled_from([1, 2, 4, 8])


@st.composite
def shards(draw: Any) -> tuple[str, Shard]:
    name = draw(st.sampled_from(MODELS))
    tp, dp, pp = draw(POWER), draw(POWER), draw(st.sampled_from([1, 2, 3, 4]))
    ep = tp * dp if draw(st.booleans()) else 1
    if files.load_model(name).moe is None:
        dp, ep = 1, 1
    pool = Pool(
        parallelism=Parallelism(
            attention_tp=tp, attention_dp=dp, moe_tp=tp * dp // ep, moe_ep=ep, pp=pp
        ),
        weights=draw(st.sampled_from(["bf16", "fp8", "nvfp4", "int4"])),
    )
    try:
        return name, shard(files.load_model(name), pool)
    except InfeasibleError:
        assume(False)
        raise


def step_flop(local: Shard, rank_tokens: float) -> float:
    """FLOP of all devices of a replica, output head included, attention cores not."""
    body = [
        *layer.token_ops(local, rank_tokens),
        *layer.expert_ops(local, rank_tokens * local.attention_dp),
    ]
    one = sum(op.count * float(op.flop) for op in body)
    head = sum(op.count * float(op.flop) for op in head_ops(local, rank_tokens))
    return local.devices * one + local.stage_devices * head


@given(shards())
def test_all_devices_together_compute_at_least_the_whole_model(drawn: tuple[str, Shard]) -> None:
    name, local = drawn
    flop = arch.flop_per_token(files.load_model(name))
    tokens = 16 * local.attention_dp
    assert step_flop(local, 16) >= tokens * (flop.linear + flop.lm_head) * (1 - 1e-12)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dp", [1, 8])
def test_without_copies_they_compute_exactly_the_whole_model(name: str, dp: int) -> None:
    model = files.load_model(name)
    if dp > 1 and (model.moe is None or model.moe.experts % dp):
        pytest.skip("no experts to divide")
    pool = Pool(parallelism=Parallelism(attention_dp=dp, moe_ep=dp), weights="bf16")
    flop = arch.flop_per_token(model)
    whole = 16 * dp * (flop.linear + flop.lm_head)
    assert step_flop(shard(model, pool), 16) == pytest.approx(whole, rel=1e-12)


@given(shards())
def test_all_devices_together_hold_at_least_the_whole_model(drawn: tuple[str, Shard]) -> None:
    name, local = drawn
    whole = sum(arch.resident_bytes(files.load_model(name), local.weights).values())
    assert local.devices * sum(local.weight_bytes.values()) >= whole * (1 - 1e-12)


@given(shards(), st.floats(1, 500), st.floats(1, 5000))
def test_attention_of_all_heads_is_at_least_the_whole_models(
    drawn: tuple[str, Shard], sequences: float, context: float
) -> None:
    name, local = drawn
    cap = local.cap_tokens
    capped = sequences * (context if cap is None else min(context, cap))
    ops = layer.decode_attention(local, sequences, sequences * context, capped)
    flop = local.attention_tp * local.pp * sum(op.count * float(op.flop) for op in ops)
    cores = [arch.attention_core(g) for g in files.load_model(name).attention]
    entries = [float(arch.attended_entries(core, context)) for core in cores]
    whole = sequences * sum(
        c.layers * (c.decode_pair_flop * n + c.token_flop)
        for c, n in zip(cores, entries, strict=True)
    )
    assert flop >= whole * (1 - 1e-9)


@given(shards())
def test_all_ranks_together_hold_at_least_the_whole_cache(drawn: tuple[str, Shard]) -> None:
    name, local = drawn
    model = files.load_model(name)
    copies = local.attention_tp * local.pp
    whole = arch.kv_bytes_per_token(model, "bf16"), arch.kv_bytes_per_sequence(model, "bf16")
    assert copies * local.kv_bytes_per_token >= whole[0] * (1 - 1e-12)
    assert copies * local.state_bytes_per_sequence >= whole[1] * (1 - 1e-12)
