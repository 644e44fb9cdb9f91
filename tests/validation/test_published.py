"""Published figures: how a prediction is asked for, what is said of it, and the judged ones."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from planner import files
from planner.cli import main
from planner.errors import InputError
from planner.validation.claims import Claim, NetworkBound, Published, load_published
from planner.validation.predictors import network_bound_s, predict
from planner.validation.published import (
    FAR,
    Verdict,
    check_published,
    chosen_tags,
    summary,
    tags,
    verdict_of,
)

COMMON = {"source": "s", "conditions": "c", "split": "unfitted"}
BOUND = {
    "kind": "network_bound", "hidden": 7000, "tokens": 32, "experts": 9, "dispatch_bytes": 1,
    "combine_bytes": 2, "layers": 61, "micro_batches": 2, "bytes_per_s": 50e9,
}  # fmt: skip


def claim(predict_as, *figures, **more):
    given_figures = figures or ({"value": 1.0, "conditions": "c"},)
    return Claim.model_validate(
        {"claim": "a claim", "source": "s", "tags": ["t"], "quantity": "q", "split": "unfitted",
         "predict": predict_as, "figures": list(given_figures), **more}
    )  # fmt: skip


def test_the_network_alone_allows_what_the_paper_says():
    """61 layers x 2 micro-batches x 3 bytes x 32 x 9 x 7,000 over 50 GB/s."""
    by_hand = 61 * 2 * (3 * 32 * 9 * 7000 / 50e9)
    assert by_hand == pytest.approx(14.76e-3, rel=5e-4)
    assert network_bound_s(NetworkBound.model_validate(BOUND)) == pytest.approx(by_hand)
    rack = NetworkBound.model_validate({**BOUND, "bytes_per_s": 900e9})
    assert network_bound_s(rack) == pytest.approx(0.82e-3, rel=1e-3)


def test_a_change_reaches_the_predictor_it_names():
    nested = {"kind": "ratio", "of": BOUND, "over": BOUND}
    half = {"value": 2.0, "conditions": "c", "change": {"over/bytes_per_s": 100e9}}
    each = claim(nested, half)
    assert predict(each.predictor(each.figures[0])) == pytest.approx(2.0)
    assert each.predict["over"]["bytes_per_s"] == 50e9


def test_overrides_reach_the_scenario():
    base = {"kind": "decode", "scenario": "deepseek-profile-decode", "of": "step_s"}
    smaller = {"value": 1.0, "conditions": "c", "change": {"set/steady.sequences_per_device": 16}}
    each = claim({"kind": "ratio", "of": base, "over": base}, {"value": 1.0, "conditions": "c"})
    assert predict(each.predictor(each.figures[0])) == 1.0
    less = claim(base, smaller)
    assert predict(less.predictor(less.figures[0])) < predict(claim(base).predictor(plain()))


def plain():
    """A figure that changes nothing."""
    return claim(BOUND).figures[0]


def test_rates_of_a_decode_step_agree():
    base = {"kind": "decode", "scenario": "deepseek-profile-decode"}
    found = {
        of: predict(claim({**base, "of": of}).predictor(plain()))
        for of in ("step_s", "tokens_per_s_per_user", "tokens_per_s_per_device",
                   "tokens_per_s_per_node")
    }  # fmt: skip
    assert found["tokens_per_s_per_user"] == pytest.approx(1 / found["step_s"])
    assert found["tokens_per_s_per_device"] == pytest.approx(128 / found["step_s"])
    assert found["tokens_per_s_per_node"] == pytest.approx(8 * 128 / found["step_s"])


def test_prefill_rates_agree_with_the_step():
    base = {
        "kind": "prefill", "scenario": "published/deepseek-h800-prefill",
        "tokens_per_device": 8192, "prompt_tokens": 4096,
    }  # fmt: skip
    step, rate = (
        predict(claim({**base, "of": of}).predictor(plain()))
        for of in ("step_s", "tokens_per_s_per_node")
    )
    assert rate == pytest.approx(8 * 8192 / step)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({**BOUND, "kind": "guess"}, "guess"),
        ({**BOUND, "layers": 0}, "layers"),
        ({**BOUND, "speed": 1}, "speed"),
    ],
)
def test_a_claim_that_cannot_be_predicted_is_refused_when_read(broken, words):
    with pytest.raises(ValueError, match=words):
        claim(broken)


def test_a_claim_without_its_source_is_refused():
    with pytest.raises(ValueError, match="unknown source"):
        Published.model_validate({"sources": {}, "claims": [claim(BOUND).model_dump()]})


def test_what_cannot_be_predicted_is_listed_with_its_reason(monkeypatch):
    lost = claim({"kind": "decode", "scenario": "no-such-scenario", "of": "step_s"})
    book = Published.model_validate(
        {"sources": {"s": {"title": "S"}}, "claims": [lost.model_dump(), claim(BOUND).model_dump()]}
    )
    monkeypatch.setattr("planner.validation.published.load_published", lambda: book)
    first, second = check_published()
    assert first.predicted is None
    assert "no-such-scenario" in first.error
    assert first.far
    assert second.predicted is not None


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_far_is_the_same_either_way(value, predicted):
    one = Verdict.of("c", "q", value, predicted, **COMMON)
    other = Verdict.of("c", "q", predicted, value, **COMMON)
    if abs(np.log(predicted / value)) < np.log(FAR) * 0.999:
        assert not one.far
        assert not other.far
    if abs(np.log(predicted / value)) > np.log(FAR) * 1.001:
        assert one.far
        assert other.far


def test_summary_by_hand():
    found = summary([
        Verdict.of("c", "q", 1.0, 1.1, **COMMON), Verdict.of("c", "q", 1.0, 0.8, **COMMON),
        Verdict.of("c", "q", 1.0, 2.0, **COMMON, reason="known"),
        Verdict.of("c", "q", 1.0, 3.0, **COMMON),
    ])  # fmt: skip
    assert found.median_abs_error == pytest.approx(0.6)
    assert found.bias == pytest.approx(0.55)
    assert (found.number, found.far, found.unexplained) == (4, 2, 1)


def test_a_tag_nobody_uses_is_refused():
    assert chosen_tags(["moe,mlperf"], ["mlperf", "moe"]) == ("moe", "mlperf")
    with pytest.raises(InputError, match="known: mlperf, moe"):
        chosen_tags(["mow"], ["mlperf", "moe"])


def test_every_published_scenario_is_named_after_its_file_and_used():
    folder = files.scenario_root() / "published"
    text = json.dumps([c.predict for c in load_published().claims])
    for path in folder.glob("*.yaml"):
        scenario = files.load_scenario(path)
        assert scenario.name == path.stem
        assert scenario.title
        assert f"published/{path.stem}" in text


def test_every_claim_says_under_what_conditions():
    for each in load_published().claims:
        assert each.tags
        assert len({(f.conditions, f.quantity) for f in each.figures}) == len(each.figures)


def by_claim(only):
    found = {}
    for verdict in check_published([only]):
        found.setdefault(verdict.claim, []).append(verdict)
    return found


def test_imbalance_of_deepseek_r1_within_what_was_promised():
    """Four figures within 15 %, held-out layers within 25 % median."""
    found = by_claim("routing")
    table = found["DeepSeek-R1 expert load on translation data"]
    assert max(abs(v.relative_error) for v in table) <= 0.15
    layers = found["DeepSeek-R1 expert load by layer, from its depth alone"]
    held = [abs(v.relative_error) for v in layers if v.split == "held_out"]
    assert len(held) == 9
    assert np.median(held) <= 0.25


def verdicts(name, *splits):
    """Verdicts of the figures of one claim, which must all be of ``splits``."""
    book = load_published()
    named = next(c for c in book.claims if c.claim == name)
    found = [verdict_of(book, named, figure) for figure in named.figures]
    assert {v.split for v in found} <= set(splits)
    return found


def test_sglang_prefill_on_96_h100_is_as_near_as_claimed():
    """Within 12 % at 1,024 and 2,048 tokens and at perfect balance.  At 4,096 tokens balanced by
    past load it is not, which the documentation says: within 15 %."""
    found = verdicts("SGLang on 96 H100, prefill", "held_out")
    errors = {v.conditions.removeprefix("EP32, prompts of "): v.relative_error for v in found}
    far = errors.pop("4,096")
    assert set(errors) == {"1,024", "2,048", "4,096, experts perfectly balanced"}
    assert {name: error for name, error in errors.items() if abs(error) > 0.12} == {}
    assert 0 < far <= 0.15


def test_sglang_decode_on_96_h100_is_within_12_percent():
    (found,) = verdicts("SGLang on 96 H100, decode", "unfitted")
    assert abs(found.relative_error) <= 0.12


def test_load_balancing_gains_what_was_measured():
    """Both gains, prefill and decode, within 20 %."""
    name = "SGLang on 96 H100, what load balancing gains"
    gains = verdicts(name, "held_out", "unfitted")
    assert [v.conditions for v in gains] == ["prefill, EP32", "decode, EP72"]
    assert [abs(v.relative_error) <= 0.20 for v in gains] == [True, True]


def test_two_batch_overlap_gains_what_was_measured():
    """Decode, and prefill of equal tokens and of as many as fit, within 8 points each."""
    name = "SGLang on 96 H100, what two-batch overlap gains"
    gains = verdicts(name, "held_out", "unfitted")
    assert [v.value for v in gains] == [1.25, 1.31, 1.405]
    assert [abs(v.predicted - v.value) <= 0.08 for v in gains] == [True, True, True]


@pytest.mark.parametrize("phase", ["", "decode, "])
def test_deepseeks_own_profiles_are_within_12_percent(phase):
    name = f"DeepSeek's published profile, {phase}experts balanced"
    (found,) = verdicts(name, "fitted" if phase == "" else "unfitted")
    assert abs(found.relative_error) <= 0.12


def test_draft_tokens_gain_what_was_measured():
    """Rates within 15 %, in the measured order up to 3 drafts.  Measured best with 3; here with 4,
    ahead of 3 by less than 1 %."""
    found = by_claim("speculation")["Multi-token prediction on 8 B200, one request"]
    assert [v.conditions for v in found] == [f"{n} draft tokens" for n in range(6)]
    assert max(abs(v.relative_error) for v in found) <= 0.15
    rates = [v.predicted for v in found]
    assert rates[0] < rates[1] < rates[2] < rates[3]
    best = max(rates)
    assert rates.index(best) in (3, 4)
    assert rates[3] >= 0.99 * best


def test_the_command_prints_a_list_of_verdicts():
    result = CliRunner().invoke(main, ["validate", "--published", "--only", "network", "--json"])
    assert result.exit_code == 0
    rows = json.loads(result.output)
    assert len(rows) == 2
    for row in rows:
        assert {"claim", "quantity", "value", "predicted", "relative_error", "source",
                "conditions", "split"} <= row.keys()  # fmt: skip
        assert row["relative_error"] == pytest.approx(row["predicted"] / row["value"] - 1)


def test_the_command_prints_a_table_and_a_summary():
    result = CliRunner().invoke(main, ["validate", "--published", "--only", "routing"])
    assert result.exit_code == 0
    assert "Summary" in result.output
    assert "held_out" in result.output


def test_the_command_wants_to_know_what_to_validate():
    result = CliRunner().invoke(main, ["validate"])
    assert result.exit_code == 2
    assert "--published" in result.output


def test_tags_are_known():
    assert {"moe", "mlperf", "trtllm", "tpu", "rtx", "deepseek", "sglang", "vllm"} <= set(tags())
