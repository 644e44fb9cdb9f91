"""Every model of the catalogue against the counts of its published module."""

import json
from pathlib import Path
from typing import Any

import pytest

from planner import arch, files
from planner.specs.model import ModelSpec

GOLDEN = json.loads((Path(__file__).parent / "golden" / "model_counts.json").read_text("utf-8"))
COUNTS: dict[str, dict[str, Any]] = GOLDEN["models"]
NAMES = files.model_names()

every_model = pytest.mark.parametrize("name", NAMES)


@every_model
def test_every_component_has_the_published_modules_parameters(name: str) -> None:
    counted = arch.parameters(files.load_model(name))
    for field, expected in COUNTS[name].items():
        if field in arch.COMPONENTS or field == "mtp":
            assert getattr(counted, field) == expected, field
    assert counted.total == COUNTS[name]["total"]


@every_model
def test_the_three_conventions_of_active_parameters_are_met(name: str) -> None:
    counted, expected = arch.parameters(files.load_model(name)), COUNTS[name]
    assert counted.active_with_embedding == expected["active_with_embedding"]
    assert counted.active_without_input_embedding == expected["active_without_input_embedding"]
    assert counted.active_non_embedding == expected["active_non_embedding"]


@every_model
def test_flop_of_a_token_agree_with_the_count(name: str) -> None:
    flop, expected = arch.flop_per_token(files.load_model(name)), COUNTS[name]
    # The reference counts biases and inner norms as multiply-accumulates; we count matrices only.
    assert flop.linear == pytest.approx(expected["linear_flop"], rel=1e-3)
    assert flop.linear <= expected["linear_flop"]
    assert flop.lm_head == expected["lm_head_flop"]
    for field in ("prefill_pair", "decode_pair", "indexer_pair", "recurrent"):
        if field in expected:
            assert getattr(flop, field) == expected[field], field


@every_model
def test_bytes_of_context_agree_with_the_count(name: str) -> None:
    model, expected = files.load_model(name), COUNTS[name]
    if "kv_bf16" in expected:
        assert arch.kv_bytes_per_token(model, "bf16") == expected["kv_bf16"]
    if "kv_fp8" in expected:
        assert arch.kv_bytes_per_token(model, "fp8") == expected["kv_fp8"]
    if "sequence_bf16" in expected:
        assert arch.kv_bytes_per_sequence(model, "bf16") == expected["sequence_bf16"]
    if "sequence_fp8" in expected:
        assert arch.kv_bytes_per_sequence(model, "fp8") == expected["sequence_fp8"]


@every_model
def test_the_count_is_near_what_the_maker_publishes(name: str) -> None:
    model = files.load_model(name)
    counted, stated = arch.parameters(model), model.published
    assert stated.total_parameters is not None
    assert counted.total == pytest.approx(stated.total_parameters, rel=0.03)
    if stated.active_parameters is not None:
        low, high = counted.active_non_embedding, counted.active_with_embedding
        assert 0.9 * low < stated.active_parameters < 1.3 * high


def test_the_catalogue_and_the_table_name_the_same_models() -> None:
    assert set(NAMES) == set(COUNTS)


def test_models_that_the_field_names_separately_have_entries_of_their_own() -> None:
    separate = {"deepseek-r1", "deepseek-v3", "deepseek-v3.1", "minimax-m2.5", "kimi-k2.5"}
    assert separate <= set(NAMES)


def test_names_are_file_names_and_no_alias_is_given_twice() -> None:
    models = [files.load_model(name) for name in NAMES]
    assert [model.name for model in models] == NAMES
    known = [word for model in models for word in (model.name, *model.aliases)]
    assert len(known) == len(set(known))


def test_an_alias_leads_to_its_model() -> None:
    assert files.load_model("deepseek-r1-0528").name == "deepseek-r1"
    assert files.load_model("deepseek-v3-0324").name == "deepseek-v3"


def test_every_model_says_where_it_was_read() -> None:
    for model in map(files.load_model, NAMES):
        assert model.source
        assert model.source == model.source.strip()


def _same_architecture(left: ModelSpec, right: ModelSpec) -> bool:
    fields = ("hidden_size", "vocab_size", "attention", "dense_mlp", "moe")
    return all(getattr(left, field) == getattr(right, field) for field in fields)


@pytest.mark.parametrize(
    ("variant", "original"),
    [
        ("deepseek-r1", "deepseek-v3"),
        ("deepseek-v3.1", "deepseek-v3"),
        ("kimi-k2.5", "kimi-k2"),
        ("minimax-m2.5", "minimax-m2"),
    ],
)
def test_a_variant_has_the_architecture_of_its_original(variant: str, original: str) -> None:
    assert _same_architecture(files.load_model(variant), files.load_model(original))


def test_kimi_k2_5_stores_its_experts_in_four_bits() -> None:
    assert files.load_model("kimi-k2").native_format == "fp8"
    assert files.load_model("kimi-k2.5").native_format == "int4"


def test_r1_carries_its_published_scores_with_their_source() -> None:
    scores = {entry.benchmark: entry.score for entry in files.load_model("deepseek-r1").quality}
    assert scores["MATH-500"] == 97.3
    assert scores["MMLU"] == 90.8
    assert scores["GPQA-Diamond"] == 71.5
    assert all("DeepSeek-R1" in score.source for score in scores.values())
