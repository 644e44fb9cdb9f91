"""Shipped engines: every one reads, names its sources, and reaches a deployment by name."""

import pytest

from planner.errors import InputError
from planner.evaluation.assumptions import assumptions
from planner.evaluation.replica import build
from planner.files import load_scenario, references
from planner.files.engines import engine_names, load_engine
from planner.report.words import seconds
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


def test_an_engine_may_be_another_with_something_changed():
    changed = {"base": "sglang", "stream_interval_tokens": 10, "graphs": {"holds_head": False}}
    scenario = load_scenario("deepseek-ep144-decode", {"deployment.engine": changed})
    engine, base = scenario.deployment.engine, load_engine("sglang")
    assert engine.stream_interval_tokens == 10
    assert engine.graphs == base.graphs.model_copy(update={"holds_head": False})
    assert engine.policy == base.policy
    assert engine.fit is not None
    assert scenario.deployment.limits.memory_share == 0.9
    with pytest.raises(InputError, match=r"deployment.engine.*did you mean sglang"):
        load_scenario("deepseek-ep144-decode", {"deployment.engine": {"base": "sglan"}})


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("generic", "no graphs to pad them to"),
        ("sglang", "Padding is not sent to experts and reads no cache"),
        ("vllm", "Steps with prompts are padded, too, up to 128 tokens"),
        ({"base": "vllm", "graph_batch_sizes": [8, 16]}, "without a graph: {eager} more"),
        ({"graph_batch_sizes": [8, 16]}, "what their launches take is not known"),
    ],
)
def test_a_report_says_what_steps_are_padded_to(engine, said):
    scenario = load_scenario("deepseek-ep144-decode", {"deployment.engine": engine})
    replica = built(scenario)
    texts = {a.name: a.note for a in assumptions(replica)}
    eager = seconds(replica.step.overheads.prefill_step_host_s)
    assert said.format(eager=eager) in texts["captured graphs"]
    assert "streaming" not in texts


def test_a_report_says_how_tokens_come():
    changed = {"base": "sglang", "stream_interval_tokens": 10}
    scenario = load_scenario("deepseek-ep144-decode", {"deployment.engine": changed})
    texts = {a.name: a.note for a in assumptions(built(scenario))}
    assert "then 10 at a time" in texts["streaming"]


def built(scenario):
    return build(scenario.model, scenario.hardware[0], scenario.decoding, scenario.routing)


def test_an_unknown_engine_is_refused_with_what_there_is():
    with pytest.raises(InputError, match=r"deployment.engine.*did you mean sglang"):
        load_scenario("deepseek-ep144-decode", {"deployment.engine": "sglan"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer_reserve_share": 0.5}, "may fill the cache"),
        ({"policy": "inflight"}, "whole prompts"),
        ({"graph_batch_sizes": (4, 2)}, "must rise"),
        ({"graphs": {"mixed_steps": True}}, "state those, too"),
    ],
)
def test_rules_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        EngineSpec(**changes)
