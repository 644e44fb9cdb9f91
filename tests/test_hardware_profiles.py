"""Every profile that ships: it loads, names its sources, and its numbers are of the right size."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from planner import files
from planner.calibrate.published import published_files
from planner.errors import InputError
from planner.specs.calibration import CalibrationSpec
from planner.specs.hardware import AcceleratorSpec, ScaleOut, ScaleUp, SystemSpec
from planner.specs.money import MoneyFile
from planner.specs.prices import Price, PriceList

# fmt: off
ACCELERATORS = [
    "a100-80g-sxm", "ascend-910b", "ascend-910c", "ascend-950dt", "b200-sxm", "b300-sxm",
    "dgx-spark-gb10", "gaudi3", "gb200-nvl72", "gb300-nvl72", "gh200", "h100-nvl", "h100-pcie",
    "h100-sxm", "h20", "h200-sxm", "h800-sxm", "l40s", "mi300x", "mi325x", "mi355x", "mi455x",
    "rtx-4090", "rtx-5090", "rtx-pro-6000", "tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e",
    "tpu-v7-ironwood", "trainium2", "trainium3", "vr200-nvl72",
]
# fmt: on

ROOT = files.profile_root()
KINDS = {
    "accelerators": AcceleratorSpec,
    "systems": SystemSpec,
    "calibrations": CalibrationSpec,
    "prices": PriceList,
    "money": MoneyFile,
}
PATHS = [path for folder in KINDS for path in sorted((ROOT / folder).glob("*.yaml"))]
PRICES = [
    price
    for path in sorted((ROOT / "prices").glob("*.yaml"))
    for price in files.load_spec(path, PriceList).devices
]
CALIBRATIONS = [
    files.load_spec(path, CalibrationSpec)
    for path in sorted((ROOT / "calibrations").glob("*.yaml"))
]

NOT_DOUBLED = {
    ("b300-sxm", "fp4"): "Ultra: three times FP8",
    ("b300-sxm", "int8"): "Ultra: integer units nearly removed",
    ("gb300-nvl72", "fp4"): "Ultra: three times FP8",
    ("gb300-nvl72", "int8"): "Ultra: integer units nearly removed",
    ("rtx-4090", "int8"): "GeForce halves FP32 accumulation, not integers",
    ("rtx-5090", "int8"): "GeForce halves FP32 accumulation, not integers",
    ("rtx-5090", "fp4"): "GeForce halves FP32 accumulation of FP8, not of FP4",
    ("vr200-nvl72", "fp8"): "Rubin: FP8 more than four times BF16",
    ("vr200-nvl72", "int8"): "Rubin: integer units nearly removed",
    ("mi455x", "int8"): "stated no faster than BF16",
    ("tpu-v4", "int8"): "no faster than BF16",
    ("gaudi3", "fp8"): "no faster than BF16",
    ("ascend-950dt", "fp8"): "stated 919 for 486, rounded from 64 cards",
    ("ascend-950dt", "fp4"): "stated 1,783 for 919, rounded from 64 cards",
    ("trainium2", "fp8"): "stated 1,299 for 667",
    ("trainium3", "fp8"): "FP8 nearly four times BF16",
    ("trainium3", "fp4"): "FP4 no faster than FP8",
}


def facts(data: Any) -> Iterator[dict[str, Any]]:
    """Every ``{value: ..., source: ...}`` below ``data``."""
    if isinstance(data, dict):
        if "source" in data and "value" in data:
            yield data
        for part in data.values():
            yield from facts(part)
    elif isinstance(data, list):
        for part in data:
            yield from facts(part)


def test_all_known_parts_have_a_profile():
    assert files.accelerator_names() == sorted(ACCELERATORS)
    assert len(ACCELERATORS) == 33


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_file_loads_and_is_named_after_its_file(path):
    spec = files.load_spec(path, KINDS[path.parent.name])
    if not isinstance(spec, PriceList | MoneyFile):
        assert spec.name == path.stem


def test_every_file_belongs_to_a_kind():
    kinds = {path.relative_to(ROOT).parts[0] for path in ROOT.rglob("*.yaml")}
    assert kinds <= {*KINDS, "references.yaml", "engines", "overheads", "routing", "speculation"}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_source_is_a_reference(path):
    known = set(files.references())
    for fact in facts(files.read_yaml(path).data):
        assert set(fact["source"].split(", ")) <= known, fact


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_confidence_agrees_with_the_source(path):
    for fact in facts(files.read_yaml(path).data):
        confidence = fact.get("confidence", "seen")
        if fact["source"] == "assumption":
            assert confidence == "assumed", fact
        if fact["source"] in ("vendor-datasheet", "general-price-knowledge"):
            assert confidence in ("recalled", "secondary", "estimate"), fact
        if confidence in ("contradictory", "assumed", "derived"):
            assert fact.get("note"), fact


def test_every_reference_is_used_and_leads_somewhere():
    used = {key for path in [*PATHS, *files.scenario_root().glob("*.yaml")]
            for fact in facts(files.read_yaml(path).data)
            for key in fact["source"].split(", ")}  # fmt: skip
    engines = {key for path in (ROOT / "engines").rglob("*.yaml")
               for key in files.read_yaml(path).data["source"].split(", ")}  # fmt: skip
    measured = {file.header["source"] for file in published_files()}
    measured |= {files.read_yaml(p).data["source"] for p in (ROOT / "speculation").glob("*.yaml")}
    assert set(files.references()) - used - engines - measured == set()
    for key, reference in files.references().items():
        assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", key)
        assert reference.title
        assert reference.url == "" or reference.url.startswith("https://")


@pytest.mark.parametrize("name", ACCELERATORS)
def test_halving_the_width_doubles_the_dense_peak(name):
    peaks = files.load_accelerator(name).dense_flop_per_s
    for narrow, wide in (("fp8", "bf16"), ("int8", "bf16"), ("fp4", "fp8")):
        fast, slow = getattr(peaks, narrow), getattr(peaks, wide)
        doubles = fast is not None and slow is not None and abs(fast / slow / 2 - 1) < 0.02
        if (name, narrow) in NOT_DOUBLED:
            assert not doubles, f"{name} {narrow}: no longer an exception"
        elif fast is not None:
            assert doubles, f"{name}: {narrow} is {fast / slow:.2f} times {wide}"


@pytest.mark.parametrize("name", ACCELERATORS)
def test_an_accelerator_is_of_its_decade(name):
    spec = files.load_accelerator(name)
    assert 100e12 <= spec.dense_flop_per_s.bf16 <= 10e15
    assert 16e9 <= spec.memory_bytes <= 0.5e12
    assert 0.2e12 <= spec.memory_bytes_per_s <= 30e12
    assert spec.max_power_w is None or 100 <= spec.max_power_w <= 3000
    assert spec.purchase_usd is None or 1e3 <= spec.purchase_usd <= 1e5
    ridge_flop_per_byte = spec.dense_flop_per_s.bf16 / spec.memory_bytes_per_s
    assert 30 <= ridge_flop_per_byte <= 700


@pytest.mark.parametrize("name", files.system_names())
def test_a_system_is_consistent(name):
    system = files.load_system(name)
    part = files.load_accelerator(system.accelerator)
    up, out = system.scale_up, system.scale_out
    assert up.bytes_per_s < part.memory_bytes_per_s
    assert up.devices >= system.devices_per_node
    assert up.devices % system.devices_per_node == 0
    if up.peer_bytes_per_s and up.topology == "mesh":
        assert up.peer_bytes_per_s * (up.devices - 1) == pytest.approx(up.bytes_per_s)
    assert (up.topology == "none") == (up.devices == 1)
    if out:
        assert out.bytes_per_s < up.bytes_per_s or up.topology in ("pcie", "none")
        assert out.latency_s >= up.latency_s
    else:
        assert system.max_nodes or up.devices > 64
    if system.server_power_w_per_device and part.max_power_w:
        assert part.max_power_w < system.server_power_w_per_device <= 3 * part.max_power_w


def test_every_accelerator_is_in_a_system():
    sold = {files.load_system(name).accelerator for name in files.system_names()}
    assert sold == set(ACCELERATORS)


def test_prices_name_known_accelerators_and_dates():
    for price in PRICES:
        assert price.accelerator in ACCELERATORS
        assert re.fullmatch(r"20\d\d(-[01]\d(-[0-3]\d)?)?", price.retrieved)
        assert 0.2 <= price.usd_per_device_hour <= 20


def test_no_offer_is_listed_twice():
    offers = Counter((p.accelerator, p.provider, p.term) for p in PRICES)
    assert [offer for offer, count in offers.items() if count > 1] == []


def test_ownership_costs_less_than_renting_on_demand():
    for name in ACCELERATORS:
        prices = files.device_prices(name)
        owned = [p.usd_per_device_hour for p in prices if p.term == "ownership"]
        rented = [p.usd_per_device_hour for p in prices if p.term == "on-demand"]
        assert not owned or not rented or min(owned) < min(rented)


def test_every_term_of_a_price_is_in_use():
    assert {p.term for p in PRICES} == set(get_args(Price.model_fields["term"].annotation))


def test_api_prices_rise_from_cached_to_output():
    names = [api.name for api in files.api_prices()]
    assert len(names) == len(set(names))
    for api in files.api_prices():
        assert api.input_usd_per_million_tokens <= api.output_usd_per_million_tokens
        cached = api.cached_input_usd_per_million_tokens
        assert cached is None or cached < api.input_usd_per_million_tokens


@pytest.mark.parametrize("name", ACCELERATORS)
def test_a_calibration_covers_every_precision_of_its_part(name):
    precisions = set(files.load_accelerator(name).dense_flop_per_s.precisions())
    calibration = files.load_calibration(name)
    assert precisions <= set(calibration.gemm)
    assert precisions <= set(calibration.grouped_gemm)


def test_an_accelerator_has_at_most_one_calibration():
    claimed = Counter(name for c in CALIBRATIONS for name in c.accelerators)
    assert set(claimed) <= set(ACCELERATORS)
    assert set(claimed.values()) == {1}
    assert [c.name for c in CALIBRATIONS if not c.accelerators] == ["default"]


@pytest.mark.parametrize("calibration", CALIBRATIONS, ids=lambda c: c.name)
def test_grouped_gemm_that_no_row_was_fitted_to_never_beats_gemm(calibration):
    fitted = calibration.provenance.residual_sigma if calibration.provenance else {}
    for precision, gemm in calibration.gemm.items():
        grouped = calibration.grouped_gemm[precision]
        if f"grouped_gemm/{precision}" in fitted or grouped.compute_curve:
            continue
        assert grouped.compute_share <= gemm.compute_share
        assert grouped.memory_share <= gemm.memory_share
        assert grouped.floor_s >= gemm.floor_s


def test_numbers_read_by_hand():
    """Against the makers' sheets and driver listings, one of each kind."""
    load = files.load_accelerator
    assert load("h200-sxm").memory_bytes == 143_771 * 2**20 == 150_754_820_096
    assert load("gb200-nvl72").memory_bytes == 189_471 * 2**20
    assert load("tpu-v6e").memory_bytes == 32 * 2**30
    assert load("h20").peak_flop_per_s("fp8") == 296e12
    assert load("h100-sxm").peak_flop_per_s("bf16") == 989.4e12
    assert load("b200-sxm").peak_flop_per_s("fp4") == 9e15
    assert load("mi300x").memory_bytes_per_s == 5.3e12
    assert files.load_system("hgx-h800").scale_up.bytes_per_s == 200e9
    assert files.load_system("hgx-mi300x").scale_up.peer_bytes_per_s == 64e9
    assert files.load_system("hgx-b300").scale_out.bytes_per_s == 100e9
    assert files.load_system("gb200-nvl72").scale_up.devices == 72
    r1 = next(api for api in files.api_prices() if api.name == "deepseek-r1")
    assert r1.output_usd_per_million_tokens == 2.19
    assert r1.cached_input_usd_per_million_tokens == 0.14
    (own,) = (p for p in files.device_prices("h800-sxm") if p.term == "internal")
    assert own.usd_per_device_hour == 2.0


@pytest.mark.parametrize("name", ["a100-80g-sxm", "tpu-v6e", "ascend-910c"])
def test_a_part_without_fp8_says_what_it_has(name):
    with pytest.raises(InputError, match=r"no fp8 matrix units.*bf16, int8"):
        files.load_accelerator(name).peak_flop_per_s("fp8")


def sourced(value: float) -> dict[str, Any]:
    return {"value": value, "source": "test"}


def test_a_forgotten_power_of_ten_is_refused_by_name_and_unit():
    message = r"4\.8 is not a bandwidth in bytes/s .* 4\.8 TB/s is written 4\.8e12"
    with pytest.raises(ValidationError, match=message):
        ScaleOut(technology="x", bytes_per_s=sourced(4.8), latency_s=sourced(2e-6))
    with pytest.raises(ValidationError, match=r"2 is not a latency in seconds .* written 2e-6"):
        ScaleOut(technology="x", bytes_per_s=sourced(50e9), latency_s=sourced(2))
    with pytest.raises(ValidationError, match=r"350 is not a price in USD per device-hour"):
        Price(accelerator="x", provider="x", term="spot", retrieved="2026",
              usd_per_device_hour=sourced(350))  # fmt: skip


@pytest.mark.parametrize(
    ("topology", "devices", "torus", "message"),
    [
        ("torus2d", 16, (4, 5), "is 20 devices, not 16"),
        ("torus3d", 16, (4, 4), "2 axes do not make a torus3d"),
        ("switch", 16, (4, 4), "2 axes do not make a switch"),
    ],
)
def test_a_torus_has_the_axes_of_its_devices(topology, devices, torus, message):
    with pytest.raises(ValidationError, match=message):
        ScaleUp(technology="x", devices=devices, topology=topology, torus=torus,
                bytes_per_s=sourced(180e9), latency_s=sourced(1e-6))  # fmt: skip


def test_a_calibration_is_found_without_reading_the_others() -> None:
    """The index is read textually; every file says the same when it is parsed."""
    folder = files.profile_root() / "calibrations"
    parsed = [files.load_spec(path, CalibrationSpec) for path in sorted(folder.glob("*.yaml"))]
    for calibration in parsed:
        for part in calibration.accelerators:
            assert files.load_calibration(part) == calibration
    assert files.load_calibration("a part of nobody").name == "default"
