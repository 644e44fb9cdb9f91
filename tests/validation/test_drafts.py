"""Measured runs with speculative decoding: what they state, and what is assumed for the rest."""

import json
from math import log
from pathlib import Path

import numpy as np
import pytest

from planner.calibrate.engine_run import usable
from planner.files.overheads import load_overheads
from planner.files.runs import read_runs
from planner.specs.runs import Run
from planner.validation.look import Look, look
from planner.validation.predict import predict_runs, theta_of_run
from planner.validation.setup import resolve
from planner.validation.shipped import shipped_runs

SGLANG = "dsr1_b200_sglang_fp8_agg_1024x1024_c4_cfg199"
TRTLLM_APART = "dsr1_b200_trtllm_fp4_disagg_1024x1024_c10_cfg320"
MINIMAX = "minimaxm2_5_b300_vllm_fp8_agg_1024x1024_c4_cfg733"


def drafting(name, speculative, **load):
    run = next(r for r in shipped_runs() if r.id.endswith(name))
    data = run.model_dump(mode="json") | {"speculative": speculative}
    data["workload"] |= load
    return Run.model_validate(data)


@pytest.mark.parametrize(
    ("name", "given", "drafts", "tokens"),
    [
        (SGLANG, "mtp", 2, 2.58),  # recipes of SGLang; table of DeepSeek-R1
        (SGLANG, "mtp3", 3, 2.82),
        (TRTLLM_APART, "MTP", 3, 2.82),
        (SGLANG, {"draft_tokens": 1}, 1, 1.92),
        (SGLANG, {"draft_tokens": 2, "acceptance": [0.5, 0.5]}, 2, 1.75),
        (SGLANG, {"draft_tokens": 7}, 7, 3.01),  # the table ends at five
    ],
)
def test_what_a_run_does_not_say_of_its_drafts_is_published(name, given, drafts, tokens):
    setup = resolve(drafting(name, given))
    found = setup.decode.speculative
    assert (found.method, found.draft_tokens) == ("mtp", drafts)
    assert found.expected_tokens == pytest.approx(tokens)
    assert setup.prefill is None or setup.prefill.speculative is None


def test_what_is_assumed_is_said_and_what_is_stated_is_not():
    stated = {"method": "eagle", "draft_tokens": 2, "tokens_per_step": 2.2}
    assert resolve(drafting(SGLANG, stated)).notes == ()
    said = " ".join(resolve(drafting(MINIMAX, "mtp")).notes)
    assert "2.82 tokens a step assumed" in said
    assert "no prediction module" in said


@pytest.mark.parametrize("given", [None, "none", ""])
def test_no_speculation_has_several_spellings(given):
    assert resolve(drafting(SGLANG, given)).decode.speculative is None


def test_a_step_takes_the_same_time_whatever_is_accepted_of_its_drafts():
    """So the time per token times the tokens a step is one number for a single client."""
    found = []
    for tokens in (1.5, 3.0):
        given = {"draft_tokens": 3, "tokens_per_step": tokens}
        run = drafting(SGLANG, given, concurrency=1, requests=4)
        each = look(run, theta_of_run(run, load_overheads()))
        assert isinstance(each, Look)
        found.append(each.means_s[0] * tokens)
    assert found[0] == pytest.approx(found[1], rel=0.01)


def test_runs_with_drafts_are_predicted_with_wider_intervals_and_parts_that_add_up():
    stored = load_overheads()
    plain, drafted = predict_runs(
        [drafting(TRTLLM_APART, None), drafting(TRTLLM_APART, "mtp")], stored, workers=1
    )
    assert drafted.error is None
    assert drafted.predicted["mean_tpot_s"] < plain.predicted["mean_tpot_s"]
    low, high = drafted.interval90["mean_tpot_s"]
    assert log(high / low) > log(np.divide(*plain.interval90["mean_tpot_s"][::-1]))
    assert sum(drafted.tpot_parts_s.values()) == pytest.approx(
        drafted.predicted["mean_tpot_s"], rel=0.01
    )


def test_runs_with_drafts_are_not_fitted():
    assert usable([drafting(SGLANG, "mtp")]) == []
    assert len(usable([drafting(SGLANG, None)])) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("medusa", "give mtp, eagle or none"),
        ({"draft_tokens": 0}, "draft_tokens"),
        ({"draft_tokens": 2, "tokens_per_step": 4}, "at most 3 can be with draft_tokens 2"),
        ({"tokens_per_step": 2}, "state draft_tokens too"),
        ({"draft_tokens": 2, "acceptance": [0.9]}, "acceptance has 1 positions"),
        (
            {"draft_tokens": 1, "acceptance": [0.9], "tokens_per_step": 1.9},
            "acceptance or tokens_per_step, not both",
        ),
    ],
)
def test_impossible_drafts_are_a_bad_row_with_its_reason(tmp_path: Path, given, words):
    row = drafting(SGLANG, None).model_dump(mode="json") | {"speculative": given}
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps(row))
    runs, bad = read_runs(path)
    assert not runs
    assert words in bad[0].problem
