"""Facts of the machine, where little is installed on it."""

import os
import stat
import sys
from pathlib import Path

import pytest

from planner.calibrate.runner import device
from planner.calibrate.runner.backend_cpu import CpuBackend
from planner.calibrate.runner.blas import VARIABLES, Blas

ANSWERS = {
    "driver_version": "580.95.05", "clocks.sm": "1980", "clocks.mem": "3201",
    "clocks.max.sm": "1980", "clocks.max.mem": "[N/A]",
}  # fmt: skip


def pretend(folder: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]) -> Path:
    """Put an ``nvidia-smi`` on the path that answers so, and notes each call."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    script = folder / "nvidia-smi"
    script.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        f"open({str(folder / 'calls')!r}, 'a').write('x')\n"
        f"answers = {answers!r}\n"
        "names = sys.argv[1].partition('=')[2].split(',')\n"
        "print(', '.join(answers[name] for name in names))\n",
        "utf-8",
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder / "calls"


def test_driver_and_clock_are_asked_of_nvidia_smi_without_nvml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, monkeypatch, ANSWERS)
    reader = device.ClockReader()
    assert reader.driver() == "580.95.05"
    assert reader.mhz() == 1980


def test_the_clock_is_asked_for_once_in_ten_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = pretend(tmp_path, monkeypatch, ANSWERS)
    now = [100.0]
    reader = device.ClockReader(lambda: now[0])
    seen = []
    for now[0] in (100.0, 101.0, 109.9, 110.0, 111.0):
        seen.append(reader.mhz())
    assert seen == [1980, None, None, 1980, None]
    assert calls.read_text("utf-8") == "xx"


def test_what_nvidia_smi_does_not_know_is_null(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, monkeypatch, ANSWERS | {"clocks.sm": "[N/A]", "driver_version": "[N/A]"})
    reader = device.ClockReader()
    assert (reader.driver(), reader.mhz()) == (None, None)
    assert device.smi_clocks() is None


def test_a_machine_without_nvidia_smi_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    reader = device.ClockReader()
    assert (reader.driver(), reader.mhz()) == (None, None)
    pretend(tmp_path, monkeypatch, ANSWERS)
    assert reader.mhz() is None


# --- threads of numpy's products -------------------------------------------------------------


def test_the_processor_multiplies_with_one_thread_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blas = Blas()
    before = blas.threads()
    if before is None:
        pytest.skip("numpy multiplies with a library that does not say")
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    backend = CpuBackend(0, quick=True)
    assert blas.threads() == backend.header(0, 1.0)["blas_threads"] == 1
    backend.close()
    assert blas.threads() == before
    blas.limit(2)
    told = blas.threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    backend = CpuBackend(0, quick=True)
    assert blas.threads() == told
    backend.close()
    blas.limit(before)
