"""Facts of the machine a run is on: the header of its file of rows."""

import datetime
import importlib
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

SMI_EVERY_S = 10.0
"""``nvidia-smi`` takes a tenth of a second: the clock is asked for no more often. [s]"""
SMI_FIELDS = {
    "sm": "clocks.sm",
    "memory": "clocks.mem",
    "max_sm": "clocks.max.sm",
    "max_memory": "clocks.max.mem",
}


def version(package: str) -> str | None:
    """Installed version of a package, or None; imports nothing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git_revision() -> str | None:
    """Revision of the tree this file is in, or None where it travels alone."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def cpu_name() -> str:
    """Name of the processor as its maker gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def memory_bytes() -> int:
    """Memory of this machine, 0 where it does not say. [bytes]"""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def smi_clocks() -> dict[str, int] | None:
    """Clocks of the first NVIDIA device by ``nvidia-smi``, or None. [MHz]"""
    found = smi(*SMI_FIELDS.values())
    try:
        return dict(zip(SMI_FIELDS, map(int, found or ()), strict=True)) or None
    except ValueError:
        return None


def smi(*fields: str) -> list[str] | None:
    """Fields of the first NVIDIA device by ``nvidia-smi``, or None where it does not answer."""
    query = "--query-gpu=" + ",".join(fields)
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    values = [part.strip() for part in found.stdout.partition("\n")[0].split(",")]
    return values if len(values) == len(fields) else None


class ClockReader:
    """Clock of the multiprocessors now, by NVML where it is installed, else ``nvidia-smi``. [MHz]

    ``nvidia-smi`` is asked once in ten seconds; a row between has no clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._next_s = now, 0.0
        self._nvml: Any = None
        try:
            self._nvml = importlib.import_module("pynvml")
            self._nvml.nvmlInit()
            self._handle = self._nvml.nvmlDeviceGetHandleByIndex(0)
        except Exception:  # any failure of an optional reader: clocks are a note, not a result
            self._nvml = None

    def mhz(self) -> int | None:
        """Clock now, or None. [MHz]"""
        if self._nvml is None:
            return self._smi_mhz()
        try:
            kind = self._nvml.NVML_CLOCK_SM
            return int(self._nvml.nvmlDeviceGetClockInfo(self._handle, kind))
        except Exception:  # as above
            return None

    def _smi_mhz(self) -> int | None:
        if self._now() < self._next_s:
            return None
        found = smi("clocks.sm")
        self._next_s = self._now() + SMI_EVERY_S if found else math.inf
        return int(found[0]) if found and found[0].isdecimal() else None

    def driver(self) -> str | None:
        """Version of the driver, or None."""
        if self._nvml is None:
            found = smi("driver_version")
            return found[0] if found and found[0][:1].isdecimal() else None
        version_ = self._nvml.nvmlSystemGetDriverVersion()
        return version_.decode() if isinstance(version_, bytes) else str(version_)


def header(backend: str, seed: int, budget_s: float, **device: Any) -> dict[str, Any]:
    """First line of a file of rows; ``device`` overrides what this machine's processor says."""
    facts: dict[str, Any] = {
        "op": "header",
        "device": cpu_name(),
        "backend": backend,
        "driver": None,
        "torch": version("torch"),
        "triton": version("triton"),
        "numpy": version("numpy"),
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git": git_revision(),
        "clocks_mhz": None,
        "memory_bytes": memory_bytes(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "seed": seed,
        "budget_s": budget_s,
    }
    return {**facts, **device}
