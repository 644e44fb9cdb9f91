"""Trace files: each format, detection by content, and every fault with its place."""

import gzip
import json
import lzma
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from planner.errors import InputError
from planner.workloads import read_trace

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:15:46.6805900,374,44\n"
    "2023-11-16 18:15:50.9951690,396,109\n"
)
BURST = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n"
    "45,ChatGPT,1087,230,1317,Conversation log\n"
    "118,GPT-4,417,0,417,Conversation log\n"
)
MOONCAKE = (
    '{"timestamp": 3000, "input_length": 1000, "output_length": 5, "hash_ids": [70, 71]}\n'
    "\n"
    '{"timestamp": 4500, "input_length": 1100, "output_length": 6, "hash_ids": [70, 71, 90]}\n'
)
OWN = "arrival_s,input_tokens,output_tokens\n0.5,10,1\n0.5,20,2\n2,30,3\n"


def write(tmp_path: Path, text: str, name: str = "trace.txt") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def columns(table):
    return table.arrival_s.tolist(), table.input_tokens.tolist(), table.output_tokens.tolist()


# --- formats -----------------------------------------------------------------------------------


def test_azure_dates_become_seconds_since_the_first(tmp_path):
    table = read_trace(write(tmp_path, AZURE))
    apart = datetime.fromisoformat("2023-11-16 18:15:50.995169") - datetime.fromisoformat(
        "2023-11-16 18:15:46.680590"
    )
    assert table.format == "azure"
    assert table.arrival_s.tolist() == [0, pytest.approx(apart.total_seconds(), abs=2e-7)]
    assert columns(table)[1:] == ([374, 396], [44, 109])


def test_a_utc_offset_is_read_over(tmp_path):
    text = AZURE.replace("05900,", "05900+00:00,").replace("51690,", "51690+00:00,")
    assert read_trace(write(tmp_path, text)).arrival_s[1] == pytest.approx(4.314579, abs=2e-7)


def test_failed_requests_of_burstgpt_are_left_out_and_counted(tmp_path):
    table = read_trace(write(tmp_path, BURST))
    assert table.format == "burstgpt"
    assert columns(table) == ([0, 40], [472, 1087], [18, 230])
    assert table.notes == ("1 requests without a prompt or an answer left out",)


def test_mooncake_has_milliseconds_and_names_of_blocks(tmp_path):
    table = read_trace(write(tmp_path, MOONCAKE))
    assert table.format == "mooncake"
    assert columns(table) == ([0, 1.5], [1000, 1100], [5, 6])
    assert table.prefixes.block_tokens == 512
    first, second = table.prefixes.of(0), table.prefixes.of(1)
    assert second[:2] == first
    assert len(second) == 3


def test_a_table_of_ones_own_needs_no_telling(tmp_path):
    table = read_trace(write(tmp_path, "\ufeff" + OWN))
    assert table.format == "table"
    assert columns(table) == ([0, 0, 1.5], [10, 20, 30], [1, 2, 3])
    assert table.notes == ()


def test_columns_can_be_named(tmp_path):
    path = write(tmp_path, "when,in,out\n1,10,2\n")
    with pytest.raises(InputError, match=r"arrival_s: no such column .*has when, in, out; name it"):
        read_trace(path)
    names = {"arrival_s": "when", "input_tokens": "in", "output_tokens": "out"}
    assert columns(read_trace(path, columns=names)) == ([0], [10], [2])


def test_json_lines_of_ones_own_may_have_blocks_with_a_stated_size(tmp_path):
    rows = [
        {"arrival_s": "2024-05-10 00:00:00", "input_tokens": 9, "output_tokens": 1,
         "hash_ids": [2**62, 5]},
        {"arrival_s": "2024-05-10 00:00:02", "input_tokens": 9, "output_tokens": 1},
    ]  # fmt: skip
    path = write(tmp_path, "\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match="block_tokens: is missing; the file has hash ids"):
        read_trace(path)
    table = read_trace(path, block_tokens=16)
    assert table.arrival_s.tolist() == [0, 2]
    assert (len(table.prefixes.of(0)), table.prefixes.of(1)) == (2, [])


def test_hashes_of_single_blocks_are_joined_with_what_leads_to_them(tmp_path):
    row = '{{"timestamp": 0, "input_length": 1024, "output_length": 1, "hash_ids": {}}}'
    path = write(tmp_path, "\n".join(row.format(ids) for ids in ([7, 9], [8, 9], [7, 9])))
    table = read_trace(path)
    first, second, third = (table.prefixes.of(i) for i in range(3))
    assert first == third
    assert not set(first) & set(second)
    assert "joined with all that leads" in table.notes[0]


def test_conversations_have_lengths_and_no_times(tmp_path):
    said = [
        [{"from": "human", "value": "x" * 40}, {"from": "gpt", "value": "y" * 10}, {"value": "z"}],
        [{"from": "human", "value": "alone"}],
    ]
    path = write(tmp_path, json.dumps([{"id": "a", "conversations": each} for each in said]))
    with pytest.raises(InputError, match="chars_per_token: is missing"):
        read_trace(path)
    table = read_trace(path, chars_per_token=4)
    assert (table.format, table.timed) == ("sharegpt", False)
    assert columns(table) == ([0], [10], [2])
    assert len(table.notes) == 2


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_compressed_files_are_read_whatever_they_are_called(tmp_path, pack):
    path = tmp_path / "trace.parquet"
    path.write_bytes(pack(MOONCAKE.encode()))
    assert len(read_trace(path)) == 2


def test_parquet(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "trace.csv"
    data = {
        "arrival_s": pa.array([1.5, 0.5]), "input_tokens": [10, 20], "output_tokens": [1, 2],
        "hash_ids": [[4], [5, 6]],
    }  # fmt: skip
    pq.write_table(pa.table(data), path)
    table = read_trace(path, block_tokens=16)
    assert columns(table) == ([0, 1], [20, 10], [2, 1])
    assert [len(table.prefixes.of(i)) for i in range(2)] == [2, 1]
    stamps = pa.array([0, 2_500_000], pa.timestamp("us"))
    pq.write_table(pa.table(data | {"arrival_s": stamps}), path)
    assert read_trace(path, block_tokens=16).arrival_s.tolist() == [0, 2.5]
    pq.write_table(pa.table(data | {"input_tokens": [10, None]}), path)
    with pytest.raises(InputError, match=r"trace\.csv:2: input_tokens: is not a number"):
        read_trace(path, block_tokens=16)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match="cannot be read"):
        read_trace(path)


def test_unsorted_times_are_sorted_with_a_note_and_keep_equal_ones_in_order(tmp_path):
    text = "arrival_s,input_tokens,output_tokens\n5,1,1\n3,2,1\n5,3,1\n3,4,1\n"
    table = read_trace(write(tmp_path, text))
    assert columns(table)[:2] == ([0, 0, 2, 2], [2, 4, 1, 3])
    assert table.notes == ("2 times fell; sorted by time",)


def test_blocks_of_rows_join_without_a_seam(tmp_path, monkeypatch):
    monkeypatch.setattr("planner.workloads.csv_trace.BLOCK_ROWS", 3)
    monkeypatch.setattr("planner.workloads.json_trace.BLOCK_ROWS", 3)
    rows = [(i, i + 1, i + 2) for i in range(10)]
    head = "arrival_s,input_tokens,output_tokens"
    text = "\n".join([head, *(",".join(map(str, row)) for row in rows)])
    plain = read_trace(write(tmp_path, text))
    names = head.split(",")
    lines = "\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows)
    as_json = read_trace(write(tmp_path, lines, "b"))
    assert plain == as_json
    assert plain.input_tokens.tolist() == list(range(1, 11))
    with pytest.raises(InputError, match=r":9: input_tokens: is not a number, got 'x'"):
        read_trace(write(tmp_path, text.replace("7,8,9", "7,x,9")))


# --- faults ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "trace.txt: is empty"),
        ("  \n", "trace.txt: is empty"),
        (OWN.splitlines()[0], "trace.txt: has no requests"),
        (OWN.replace("20", "-20"), "trace.txt:3: input_tokens: must not be negative, got -20"),
        (OWN.replace("30", "3e10"), "trace.txt:4: input_tokens: is over 1,000,000,000 tokens"),
        (OWN.replace("30", "1.5"), "trace.txt:4: input_tokens: must be whole, got 1.5"),
        (OWN.replace("30", "nan"), "trace.txt:4: input_tokens: is not a number, got nan"),
        (OWN.replace("2,30", "inf,30"), "trace.txt:4: arrival_s: is not a time, got inf"),
        (OWN.replace("2,30", "soon,30"), "trace.txt:4: arrival_s: is not a time, got 'soon'"),
        (OWN.replace("20,2", "20"), "trace.txt:3: has 2 values, the header 3"),
        (OWN.replace("0.5,20,2\n", "\n\n0.5,x,2\n"), "trace.txt:5: input_tokens: is not a number"),
        (OWN.replace("10,1", "10,0").replace("20,2", "0,2").replace(",3\n", ",0\n"),
         "trace.txt: no request has both a prompt and an answer"),
        (AZURE.replace("18:15:50.9951690", "18:61:50"),
         "trace.txt:3: TIMESTAMP: is not a time, got '2023-11-16 18:61:50'"),
        (AZURE.replace("ContextTokens", "Context"), "no such column"),
        (MOONCAKE.replace('"input_length": 1100, ', ""), "trace.txt:3: input_length: is missing"),
        (MOONCAKE.replace("1100", '"long"'), 'trace.txt:3: input_length: is no number: "long"'),
        (MOONCAKE.replace("1100", "true"), "trace.txt:3: input_length: is no number: true"),
        (MOONCAKE.replace("[70, 71, 90]", "[70, 1e400]"), "trace.txt:3: hash_ids: must be a list"),
        (MOONCAKE.replace("[70, 71, 90]", "7"), "trace.txt:3: hash_ids: must be a list"),
        (MOONCAKE.replace(', "output_length": 6', ","), "trace.txt:3: is not JSON"),
        (MOONCAKE + "[1, 2]\n", "trace.txt:4: must be one object a line, got [1, 2]"),
        ("[1, 2]", "trace.txt: [0]: has no list `conversations`"),
        ("[", "trace.txt: is not JSON"),
        ("a,b\n" + "[" * 300_000, "no such column"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_line(tmp_path, text, message):
    with pytest.raises(InputError) as caught:
        read_trace(write(tmp_path, text), chars_per_token=4)
    assert message in str(caught.value)


def test_what_is_no_text_is_refused(tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    with pytest.raises(InputError, match="is neither text"):
        read_trace(path)
    path.write_bytes(gzip.compress(OWN.encode())[:-12])
    with pytest.raises(InputError, match="cannot be read"):
        read_trace(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_trace(tmp_path)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("planner.workloads.read.LARGEST_BYTES", 10)
    with pytest.raises(InputError, match="cut it into parts"):
        read_trace(write(tmp_path, OWN))


def test_without_pyarrow_parquet_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    path = tmp_path / "trace"
    path.write_bytes(b"PAR1" + bytes(20))
    with pytest.raises(InputError, match=r"pip install 'moe-planner\[tables\]'"):
        read_trace(path)


def test_a_long_table_costs_little_memory(tmp_path):
    """100,000 rows hold three columns of eight bytes and no objects."""
    rows = "".join(f"{i / 10},{i % 50 + 1},{i % 7 + 1}\n" for i in range(100_000))
    table = read_trace(write(tmp_path, OWN.splitlines()[0] + "\n" + rows))
    assert len(table) == 100_000
    assert {c.dtype for c in (table.input_tokens, table.output_tokens)} == {np.dtype(np.int64)}
