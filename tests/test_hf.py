"""Hugging Face configurations: the same model as the catalogue's, or an error that helps."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from planner import arch, files
from planner.errors import InputError
from planner.hf import KNOWN_MODEL_TYPES, model_from_hf_config

CONFIGS = sorted((Path(__file__).parent / "hf_configs").glob("*.json"))
R1 = Path(__file__).parent / "hf_configs" / "deepseek-r1.json"
SAME = (
    "hidden_size",
    "vocab_size",
    "tied_embeddings",
    "max_context_tokens",
    "attention",
    "dense_mlp",
    "moe",
    "layer_vectors",
    "hyper_connections",
    "native_format",
)


def changed(tmp_path: Path, source: Path = R1, **changes: Any) -> Path:
    """A copy of ``source`` with fields replaced, or removed where the change is ``...``."""
    data = json.loads(source.read_text("utf-8")) | changes
    path = tmp_path / "model.json"
    kept = {key: value for key, value in data.items() if value is not ...}
    path.write_text(json.dumps(kept, indent=2), "utf-8")
    return path


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        model_from_hf_config(path)
    return caught.value


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_gives_the_model_of_the_catalogue(path: Path) -> None:
    read, known = model_from_hf_config(path), files.load_model(path.stem)
    for field in SAME:
        assert getattr(read, field) == getattr(known, field), field
    assert arch.parameters(read).total == arch.parameters(known).total


def test_every_known_model_type_but_the_relatives_is_tried() -> None:
    tried: set[str] = set()
    for path in CONFIGS:
        data = json.loads(path.read_text("utf-8"))
        nested = data.get("text_config", {})
        tried |= {data["model_type"], nested.get("model_type", data["model_type"])}
    relatives = {"mistral", "step3p5", "minimax_m3_vl", "qwen3_5", "qwen3_5_text"}
    relatives |= {"qwen3_vl", "qwen3_vl_text", "qwen3_vl_moe", "qwen3_vl_moe_text"}
    assert set(KNOWN_MODEL_TYPES) - tried == relatives


def test_a_directory_is_read_by_its_config_and_lends_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "My-Model"
    folder.mkdir()
    (folder / "config.json").write_text(R1.read_text("utf-8"), "utf-8")
    assert model_from_hf_config(folder).name == "my-model"
    assert model_from_hf_config(folder / "config.json").name == "my-model"


def test_a_wrapped_text_model_is_read_without_its_vision_tower(tmp_path: Path) -> None:
    text = json.loads((R1.parent / "kimi-k2.json").read_text("utf-8"))
    path = changed(tmp_path, model_type="kimi_k25", text_config=text, vision_config={"x": 1})
    assert model_from_hf_config(path).moe == files.load_model("kimi-k2").moe


def test_layers_with_experts_may_be_listed_one_by_one(tmp_path: Path) -> None:
    sparse = ["dense"] * 3 + ["sparse"] * 58
    path = changed(tmp_path, mlp_layer_types=sparse, first_k_dense_replace=...)
    assert model_from_hf_config(path).dense_mlp == files.load_model("deepseek-r1").dense_mlp


def test_v4_layers_may_be_named_instead_of_given_as_ratios(tmp_path: Path) -> None:
    source = R1.parent / "deepseek-v4-flash.json"
    names = {
        0: "sliding_attention",
        4: "compressed_sparse_attention",
        128: "heavily_compressed_attention",
    }
    ratios = json.loads(source.read_text("utf-8"))["compress_ratios"][:43]
    path = changed(tmp_path, source, compress_ratios=..., layer_types=[names[r] for r in ratios])
    assert model_from_hf_config(path).attention == files.load_model("deepseek-v4-flash").attention


def test_qwen_layers_without_experts_have_a_plain_mlp(tmp_path: Path) -> None:
    path = changed(tmp_path, R1.parent / "qwen3-235b-a22b.json", mlp_only_layers=[0, 1])
    model = model_from_hf_config(path)
    assert model.dense_mlp is not None
    assert model.moe is not None
    assert (model.dense_mlp.layers, model.moe.layers) == (2, 92)


def test_the_method_of_choice_says_what_ranks_the_groups(tmp_path: Path) -> None:
    """DeepSeek-V2 ranks groups by their best expert, without the field too; later ones by two."""
    v2 = R1.parent / "deepseek-v2.json"

    def rule(source: Path, **changes: Any) -> tuple[int, int, str]:
        moe = model_from_hf_config(changed(tmp_path, source, **changes)).moe
        assert moe is not None
        return moe.groups, moe.top_k_groups, moe.group_score

    assert rule(v2) == rule(v2, topk_method="group_limited_greedy") == (8, 3, "best")
    assert rule(v2, topk_method="noaux_tc") == (8, 3, "best_two")
    assert rule(R1) == rule(R1, topk_method="noaux_tc") == (8, 4, "best_two")
    assert rule(R1, topk_method="group_limited_greedy") == (8, 4, "best")
    assert rule(v2, topk_method="greedy") == (1, 1, "best_two")
    assert rule(v2, n_group=1, topk_method="another") == (1, 1, "best_two")


def test_a_text_model_of_unknown_type_is_refused(tmp_path: Path) -> None:
    error = refused(changed(tmp_path, model_type="kimi_k25", text_config={"model_type": "x"}))
    assert error.field == "text_config.model_type"


def test_a_qwen_with_sliding_windows_has_two_groups(tmp_path: Path) -> None:
    source = R1.parent / "qwen2.5-72b.json"
    path = changed(tmp_path, source, use_sliding_window=True, max_window_layers=60)
    full, sliding = model_from_hf_config(path).attention
    assert (full.layers, sliding.layers) == (60, 20)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        (
            {
                "quant_method": "modelopt",
                "quant_algo": "MIXED_PRECISION",
                "quantized_layers": {"a": {"quant_algo": "MXFP8"}, "b": {"quant_algo": "NVFP4"}},
            },
            "nvfp4",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"type": "float", "num_bits": 8}}},
            },
            "fp8",
        ),
        ({"quant_method": "fp8"}, "fp8"),
        (None, "bf16"),
    ],
)
def test_the_quantisation_gives_the_native_format(
    tmp_path: Path, table: dict[str, Any] | None, expected: str
) -> None:
    path = changed(tmp_path, quantization_config=table)
    assert model_from_hf_config(path).native_format == expected


def test_an_unknown_model_type_names_the_known_ones(tmp_path: Path) -> None:
    error = refused(changed(tmp_path, model_type="mamba9"))
    assert error.field == "model_type"
    assert "'mamba9' is not known; known: dbrx, deepseek_v2, deepseek_v3" in error.problem
    assert error.where.endswith("model.json:2")


def test_a_missing_model_type_is_named(tmp_path: Path) -> None:
    assert "is missing" in refused(changed(tmp_path, model_type=...)).problem


def test_an_unknown_quantisation_names_the_known_ones(tmp_path: Path) -> None:
    error = refused(changed(tmp_path, quantization_config={"quant_method": "gguf"}))
    assert error.field == "quantization_config.quant_method"
    assert "'gguf' is not known here; known: fp8" in error.problem


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"kv_lora_rank": ...}, "kv_lora_rank", "is missing"),
        ({"n_routed_experts": ...}, "n_routed_experts", "or one of num_experts"),
        ({"hidden_size": -7168}, "hidden_size", "must be between 1 and"),
        ({"hidden_size": 10**12}, "hidden_size", "must be between 1 and"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers", "must be between 1 and 10,000"),
        ({"hidden_size": "7168"}, "hidden_size", 'whole number, got "7168"'),
        ({"hidden_size": 71.5}, "hidden_size", "whole number, got 71.5"),
        ({"hidden_size": True}, "hidden_size", "whole number, got true"),
        ({"vocab_size": float("inf")}, "vocab_size", "whole number, got Infinity"),
        ({"hidden_size": [7168]}, "hidden_size", "whole number, got [7168]"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings", "must be true or false"),
        ({"scoring_func": "argmax"}, "scoring_func", "known: softmax, sigmoid"),
        ({"scoring_func": 3}, "scoring_func", "must be text"),
        ({"first_k_dense_replace": 99}, "first_k_dense_replace", "at most the 61 layers"),
        ({"mlp_layer_types": ["dense"]}, "mlp_layer_types", "each of the 61 layers, has 1"),
        ({"mlp_layer_types": ["x"] * 61}, "mlp_layer_types", 'entry "x" is not known'),
        ({"mlp_layer_types": 5}, "mlp_layer_types", "must be a list"),
        ({"quantization_config": []}, "quantization_config", "must be an object"),
        ({"num_experts_per_tok": 999}, "", "top_k 999 is larger than the 256 experts"),
        ({"n_group": 7}, "", "groups 7 must divide 256 experts"),
        ({"topk_method": "random"}, "topk_method", "known: greedy, group_limited_greedy, noaux_tc"),
    ],
)
def test_a_wrong_field_is_named_with_its_value(
    tmp_path: Path, changes: dict[str, Any], field: str, problem: str
) -> None:
    error = refused(changed(tmp_path, **changes))
    assert error.field == field
    assert problem in error.problem
    assert "model.json" in error.where


def test_the_line_of_a_wrong_nested_field_is_given(tmp_path: Path) -> None:
    source = R1.parent / "kimi-k3.json"
    text = json.loads(source.read_text("utf-8"))["text_config"] | {"vocab_size": -1}
    error = refused(changed(tmp_path, source, text_config=text))
    assert error.field == "text_config.vocab_size"
    line = int(error.where.rsplit(":", maxsplit=1)[-1])
    assert '"vocab_size": -1' in (tmp_path / "model.json").read_text("utf-8").splitlines()[line - 1]


def test_heads_that_do_not_divide_the_width_are_named(tmp_path: Path) -> None:
    source = R1.parent / "qwen2.5-72b.json"
    error = refused(changed(tmp_path, source, num_attention_heads=60))
    assert "must divide the width 8192, got 60" in error.problem


@pytest.mark.parametrize(
    ("content", "where", "problem"),
    [
        (b'{"model_type": "llama",\n "hidden_size": }', ":2", "malformed JSON at column 17"),
        (b"", ":1", "malformed JSON"),
        (b"[1, 2]", "", "expected a JSON object"),
        (b'{"a": 1, "a": 2}', "", "key 'a' is given twice"),
        (b"\xff\xfe\x00", "", "is not UTF-8 text"),
        (b"[" * 100_000, "", "malformed JSON"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(
    tmp_path: Path, content: bytes, where: str, problem: str
) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    error = refused(path)
    assert error.where == f"{path}{where}"
    assert problem in error.problem


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path / "absent.json")
    assert "cannot be read: No such file or directory" in error.problem


def test_step_with_heads_of_its_own_for_windows_is_refused_not_miscounted(tmp_path: Path) -> None:
    source = R1.parent / "step-3.7-flash.json"
    error = refused(changed(tmp_path, source, attention_other_setting={"num_attention_heads": 96}))
    assert "not supported" in error.problem


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_whatever_a_field_holds_the_answer_is_a_model_or_an_input_error(
    tmp_path: Path, path: Path
) -> None:
    for field in json.loads(path.read_text("utf-8")):
        for wrong in (..., -1, 0, 1.5, True, "x", [], [None], {}, {"a": 1}):
            broken = changed(tmp_path, path, **{field: wrong})
            with suppress(InputError):
                assert arch.parameters(model_from_hf_config(broken)).total > 0
