"""Expert imbalance reaches the step: skew is free while weights bind and costs when work binds."""

import numpy as np
import pytest

from planner import files
from planner.errors import InputError
from planner.evaluation import build, steady
from planner.specs.deployment import Parallelism, Pool
from planner.specs.routing import Balanced, LognormalPopularity, Routing

R1 = files.load_model("deepseek-r1")
SKEWED = Routing(popularity=LognormalPopularity(sigma=1.0), placement="contiguous")


def replica(routing, ep=32, redundant=0):
    pool = Pool(
        parallelism=Parallelism(attention_dp=ep, moe_ep=ep),
        weights="fp8",
        redundant_experts=redundant,
    )
    return build(R1, files.load_hardware("hgx-h200"), pool, routing)


def experts_s(routing, group_tokens, **layout):
    work, _ = replica(routing, **layout).step.experts(group_tokens, prefill=False)
    return work.time_s


def test_without_routing_every_rank_is_alike():
    assert replica(None).step.hot is None


def test_balanced_routing_costs_what_no_routing_costs():
    for tokens in (64.0, 4096.0, 65536.0):
        plain, balanced = experts_s(None, tokens), experts_s(Routing(popularity=Balanced()), tokens)
        assert balanced == pytest.approx(plain, rel=0.03)


def test_skew_is_free_while_weights_bind_and_costs_when_work_binds():
    few, many = 1024.0, 262_144.0
    assert experts_s(SKEWED, few) == pytest.approx(experts_s(None, few), rel=0.1)
    assert experts_s(SKEWED, many) > 1.3 * experts_s(None, many)


def test_skew_never_makes_a_step_faster():
    tokens = np.geomspace(2048, 500_000, 30)
    assert np.all(experts_s(SKEWED, tokens) >= 0.99 * experts_s(None, tokens))


def test_redundant_experts_win_back_most_of_the_skew():
    balanced_placement = SKEWED.model_copy(update={"placement": "global"})
    trivial = experts_s(SKEWED, 262_144.0)
    spread = experts_s(balanced_placement, 262_144.0, redundant=32)
    assert spread < 0.85 * trivial


def test_a_scenario_takes_a_fitted_profile_by_name():
    plain = steady(files.load_scenario("deepseek-ep144-decode"))
    skewed = steady(
        files.load_scenario("deepseek-ep144-decode", {"routing": "deepseek-r1-translation"})
    )
    assert skewed.tokens_per_s_per_node < plain.tokens_per_s_per_node
    names = {a.name for a in skewed.assumptions}
    assert "expert load" in names
    assert "experts" not in names


def test_an_unknown_profile_says_which_there_are():
    with pytest.raises(InputError, match="known: deepseek-r1-translation"):
        files.load_scenario("deepseek-ep144-decode", {"routing": "nobody"})


def test_a_wrong_family_is_named():
    with pytest.raises(InputError, match="routing"):
        files.load_scenario(
            "deepseek-ep144-decode", {"routing": {"popularity": {"kind": "cauchy"}}}
        )
