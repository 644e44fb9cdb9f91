"""Recorded histograms from files: every form that is read, every fault that is named."""

import json

import numpy as np
import pytest

from planner.errors import InputError
from planner.files.histograms import load_routing_profile, read_histogram, routing_names

COUNTS = np.array([[[1.0, 2, 3], [4, 5, 6]], [[7, 8, 9], [1, 0, 1]]])


def written(tmp_path, name, content):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content, encoding="utf-8")
    return path


def long_csv(counts=COUNTS, header="window,layer,expert,tokens"):
    rows = [
        f"{w},{3 + layer},{e},{counts[w, layer, e]:g}"
        for w in range(counts.shape[0])
        for layer in range(counts.shape[1])
        for e in range(counts.shape[2])
        if counts[w, layer, e]
    ]
    return "\n".join([header, *rows])


def test_every_form_reads_the_same(tmp_path):
    np.savez(tmp_path / "a.npz", counts=COUNTS)
    np.savez(tmp_path / "b.npz", load=COUNTS.astype(int))
    np.save(tmp_path / "c.npy", COUNTS)
    written(tmp_path, "d.json", json.dumps(COUNTS.tolist()))
    written(tmp_path, "e.json", json.dumps({"counts": COUNTS.tolist(), "note": "x"}))
    written(tmp_path, "f.csv", "1,2,3\n4,5,6\n\n7,8,9\n1,0,1\n\n")
    written(tmp_path, "g.csv", long_csv())
    for path in sorted(tmp_path.iterdir()):
        spec = read_histogram(path, experts=3, layers=2)
        np.testing.assert_array_equal(spec.windows, COUNTS, err_msg=path.name)
        assert spec.path == str(path)


def test_one_window_needs_no_third_axis(tmp_path):
    path = written(tmp_path, "x.csv", "layer, expert, tokens\n3, 0, 5\n3, 2, 7\n4, 1, 1\n")
    assert read_histogram(path, experts=4).windows == (((5, 0, 7, 0), (0, 1, 0, 0)),)
    path = written(tmp_path, "x.json", "[[1, 2], [3, 4]]")
    assert read_histogram(path).windows == (((1, 2), (3, 4)),)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "1,2\n3,-4\n", r"x\.csv:2: counts\[0\]\[1\]\[1\]: .* 0 or more, got -4"),
        ("x.csv", "1,2\n0,0\n", r"x\.csv:2: counts\[0\]\[1\]: every count is 0"),
        ("x.csv", "1,2\n3\n", r"x\.csv:2: has 1 experts, the first line has 2"),
        ("x.csv", "1,2\n3,many\n", r"x\.csv:2: expert 1: must be a number, got 'many'"),
        ("x.csv", "1,2\n3,nan\n", r"x\.csv:2: expert 1: must be a number, got 'nan'"),
        ("x.csv", "1,2\n3,4\n\n5,6\n", r"x\.csv:4: this window has 1 layers, the first has 2"),
        ("x.csv", "", "is empty"),
        ("x.csv", "layer,expert,count\n0,0,1\n", r"x\.csv:1: tokens: column is missing"),
        ("x.csv", "layer,expert,tokens\n", "a header but no counts"),
        ("x.csv", "layer,expert,tokens\n0,0,1\n0,0,2\n", r"x\.csv:3: was given already in line 2"),
        ("x.csv", "layer,expert,tokens\n0,0.5,1\n", r"x\.csv:2: expert: .* whole number"),
        ("x.csv", "layer,expert,tokens\n0,1,-1\n", r"x\.csv:2: tokens: must be 0 or more, got -1"),
        ("x.csv", "layer,expert,tokens\n0,1\n", r"x\.csv:2: has 2 values, the header has 3"),
        ("x.json", "[[1, 2], [3]]", "counts: is ragged or not numbers"),
        ("x.json", '[["a", 2]]', "counts: is ragged or not numbers"),
        ("x.json", "[1, 2]", "counts: is 1-d; give layers x experts"),
        ("x.json", "[[]]", "give layers x experts"),
        ("x.json", "[[1, 2]\n", r"x\.json:2: malformed JSON"),
        ("x.json", '{"load": []}', "counts: is missing; the file has load"),
        ("x.json", "[[1e999, 2]]", r"counts\[0\]\[0\]\[0\]: must be a number of tokens.* got inf"),
        (
            "x.npz",
            b"PK\x03\x04 nothing",
            "is not a plain NPZ or NPY file: it is damaged or cut short$",
        ),
        ("x.npz", b"no zip", "is not a plain NPZ or NPY file: its first bytes are of neither$"),
        ("x.npy", b"", "is not a plain NPZ or NPY file: its first bytes are of neither$"),
        ("x.json", "[[true, false]]", "counts: is boolean, not counts; give layers x experts"),
        ("x.parquet", b"", r"one of \.csv, \.json, \.npz, \.npy, got '\.parquet'"),
        ("x.csv", b"\xff\xfe\x00", "is not CSV text"),
    ],
)
def test_a_fault_is_named_with_its_place(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message):
        read_histogram(written(tmp_path, name, content))


def test_pickled_objects_are_not_read(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="is not a plain NPZ or NPY file: it holds Python objects"):
        read_histogram(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("counts", "what"), [(COUNTS > 1, "boolean, not counts"), (COUNTS + 0j, "complex, not counts")]
)
def test_an_array_that_counts_nothing_is_named(tmp_path, counts, what):
    np.savez(tmp_path / "x.npz", counts=counts)
    with pytest.raises(InputError, match=rf"x\.npz: counts: is {what}; give layers x experts"):
        read_histogram(tmp_path / "x.npz")


def test_an_archive_with_a_damaged_array(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, counts=np.random.default_rng(1).random((3, 58, 256)))
    content = bytearray(path.read_bytes())
    content[2000:2100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(InputError, match="it is damaged or cut short"):
        read_histogram(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"x\.csv: cannot be read: No such file"):
        read_histogram(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"experts": 256}, r"x\.csv:1: experts: has 2 experts a layer, the model has 256"),
        ({"layers": 58}, r"layers: has 3 layers, the model has 58 MoE layers"),
    ],
)
def test_another_models_histogram_is_refused(tmp_path, sizes, message):
    with pytest.raises(InputError, match=message):
        read_histogram(written(tmp_path, "x.csv", "1,2\n3,4\n5,6\n"), **sizes)


def test_an_expert_that_the_model_does_not_have(tmp_path):
    path = written(tmp_path, "x.csv", "layer,expert,tokens\n0,256,1\n")
    with pytest.raises(InputError, match=r"x\.csv:2: expert: 256 is not one of the model's 256"):
        read_histogram(path, experts=256)


def test_an_archive_of_several_arrays_must_name_one(tmp_path):
    np.savez(tmp_path / "x.npz", a=COUNTS, b=COUNTS)
    with pytest.raises(InputError, match="counts: is missing; the file holds a, b"):
        read_histogram(tmp_path / "x.npz")


def test_profiles_are_found_by_name():
    assert "deepseek-r1-translation" in routing_names()
    with pytest.raises(InputError, match="did you mean deepseek-r1-translation"):
        load_routing_profile("deepseek-r1-translatio")
