"""Sliders as changes of a scenario, and what is taken along."""

import dataclasses
import json
import shlex

import pytest
from click.testing import CliRunner

import planner
from planner.cli import main
from planner.cli.common import overrides as parsed
from planner.dashboard import copying, knobs, scenario_form, uploads
from planner.errors import InputError

SGLANG = "published/sglang-h100-decode"
APART = "deepseek-production-day"


def test_sliders_left_alone_change_nothing():
    scenario = planner.load_scenario(SGLANG)
    assert knobs.overrides(scenario, knobs.defaults(scenario)) == {}


def test_a_degree_deals_out_all_slots_and_keeps_the_devices_consistent():
    scenario = planner.load_scenario(SGLANG)
    assert knobs.degrees(scenario) == (1, 2, 4, 8, 16, 18, 24, 32, 36, 48, 72, 96, 144, 288)
    wanted = dataclasses.replace(knobs.defaults(scenario), ep=96)
    changed = planner.load_scenario(SGLANG, knobs.overrides(scenario, wanted))
    assert changed.deployment.parallelism.devices == 96
    assert changed.deployment.parallelism.moe_ep == 96


@pytest.mark.parametrize("name", [SGLANG, "r1-chat-ep16", "r1-distill-7b-rtx5090", APART])
def test_every_knob_reaches_its_field(name):
    scenario = planner.load_scenario(name)
    offered, own = knobs.choices(scenario), knobs.defaults(scenario)
    wanted = dataclasses.replace(own, sequences=24.0, context=1024.0, kv="fp8")
    if offered.drafts[1:]:
        wanted = dataclasses.replace(wanted, drafts=1)
    changed = planner.load_scenario(name, knobs.overrides(scenario, wanted))
    assert changed.steady.sequences_per_device == 24
    assert changed.steady.context_tokens == 1024
    assert changed.decoding.kv == "fp8"
    assert bool(changed.decoding.speculative) == bool(offered.drafts[1:])


def test_sliders_of_pools_apart_change_the_decode_pool_and_both_caches():
    scenario = planner.load_scenario(APART)
    wanted = dataclasses.replace(knobs.defaults(scenario), ep=72, kv="fp8")
    changed = planner.load_scenario(APART, knobs.overrides(scenario, wanted))
    assert changed.deployment.decode.parallelism.moe_ep == 72
    assert changed.deployment.decode.parallelism.devices == 72
    prefill = scenario.deployment.prefill.model_copy(update={"kv": "fp8"})
    assert changed.deployment.prefill == prefill


def _changes():
    scenario = planner.load_scenario(SGLANG)
    wanted = dataclasses.replace(
        knobs.defaults(scenario), sequences=64.0, routing=knobs.EVEN, kv="fp8", drafts=1
    )
    return knobs.overrides(scenario, wanted)


def test_copied_python_gives_the_same_number():
    changes = _changes()
    known = {}
    exec(copying.python("planner.steady", SGLANG, changes), known)
    expected = planner.steady(planner.load_scenario(SGLANG, changes)).step.time_s
    assert known["found"].step.time_s == expected


def test_copied_command_says_the_same_changes():
    changes = _changes()
    words = shlex.split(copying.command("step", SGLANG, changes))
    assert words[:3] == ["moe-planner", "step", SGLANG]
    assert parsed(tuple(words[4::2])) == changes


def test_copied_command_runs_and_gives_the_same_number():
    changes = _changes()
    _, *words = shlex.split(copying.command("step", SGLANG, changes))
    out = CliRunner().invoke(main, [*words, "--json"])
    expected = planner.steady(planner.load_scenario(SGLANG, changes)).step.time_s
    assert json.loads(out.output)["step_s"] == expected


@pytest.mark.parametrize("name", [SGLANG, "r1-chat-ep16", "deepseek-profile-decode"])
def test_downloaded_yaml_uploaded_again_gives_the_same_number(name):
    scenario = planner.load_scenario(name)
    wanted = dataclasses.replace(knobs.defaults(scenario), sequences=48.0, context=2048.0)
    changes = knobs.overrides(scenario, wanted)
    text = copying.yaml_text(scenario_form.Source(name).raw(), changes)
    again = planner.steady(uploads.scenario(text.encode()))
    expected = planner.steady(planner.load_scenario(name, changes))
    assert again.step.time_s == expected.step.time_s


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nmodel: ../../etc/passwd\n", "cannot name files"),
        ("name: x\nmodel: config.json\n", "cannot name files"),
        ("name: x\nmodel: deepseek-r1\nworkload: /etc/passwd\n", "cannot name files"),
        ("name: x\nrouting: {popularity: {kind: histogram, path: h.csv}}\n", "cannot name files"),
        ("name: !!python/object/apply:os.system [echo]\n", "malformed YAML"),
        ("a: [" * 3000, "upload.yaml"),
        ("name: x\nmodel: deepseek-r1\nsystem: hgx-h200\nslo: {ttft_p95_s: -1}\n", "upload.yaml:4"),
        ("x" * 300_000, "at most"),
    ],
)
def test_bad_uploads_are_refused_in_one_line(text, said):
    with pytest.raises(InputError, match=said) as caught:
        uploads.scenario(text.encode())
    assert "/tmp/" not in str(caught.value)
