"""Facts of the machine a run is on: the header of its file of rows."""

import datetime
import importlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

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
    query = "--query-gpu=" + ",".join(SMI_FIELDS.values())
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        values = [int(part) for part in found.stdout.splitlines()[0].split(",")]
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    return dict(zip(SMI_FIELDS, values, strict=True))


class ClockReader:
    """Clock of the multiprocessors now, by NVML where it is installed. [MHz]"""

    def __init__(self) -> None:
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
            return None
        try:
            kind = self._nvml.NVML_CLOCK_SM
            return int(self._nvml.nvmlDeviceGetClockInfo(self._handle, kind))
        except Exception:  # as above
            return None

    def driver(self) -> str | None:
        """Version of the driver, or None."""
        if self._nvml is None:
            return None
        found = self._nvml.nvmlSystemGetDriverVersion()
        return found.decode() if isinstance(found, bytes) else str(found)


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
