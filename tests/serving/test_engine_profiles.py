"""Shipped engines: every one reads, names its sources, and reaches a deployment by name."""

import pytest

from planner.errors import InputError
from planner.files import load_scenario, references
from planner.files.engines import engine_names, load_engine
from planner.specs.engine import EngineSpec


@pytest.mark.parametrize("name", engine_names())
def test_every_engine_names_known_sources(name):
    engine = load_engine(name)
    assert engine.name == name
    keys = {key.strip() for key in engine.source.split(",")}
    assert keys <= set(references())
    assert all(number.source in references() for _, number in engine.overheads)


def test_the_generic_profile_is_the_default():
    shipped = load_engine("generic")
    plain = EngineSpec()
    for field in set(EngineSpec.model_fields) - {"title", "notes"}:
        assert getattr(shipped, field) == getattr(plain, field), field


def test_an_engine_by_name_brings_its_limits_where_none_are_given():
    scenario = load_scenario("deepseek-ep144-decode", {"deployment.engine": "vllm"})
    assert scenario.deployment.engine.policy == "mixed"
    assert scenario.deployment.engine.kv_block_tokens == 16
    assert scenario.deployment.limits.max_sequences == 128  # written in the scenario
    assert scenario.deployment.limits.memory_share == 0.9


def test_an_unknown_engine_is_refused_with_what_there_is():
    with pytest.raises(InputError, match=r"deployment.engine.*did you mean sglang"):
        load_scenario("deepseek-ep144-decode", {"deployment.engine": "sglan"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer_reserve_share": 0.5}, "may fill the cache"),
        ({"policy": "inflight"}, "whole prompts"),
        ({"graph_batch_sizes": (4, 2)}, "must rise"),
    ],
)
def test_rules_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        EngineSpec(**changes)
