"""Threads of the library that numpy multiplies with: one, so that a neighbour's load counts once.

A product that is split over all processors waits for the slowest; on a machine that does anything
else the same product was seen to take thirty times as long.
"""

import ctypes
import os
from pathlib import Path

VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
"""Where a person says how many there are to be."""
PREFIXES = ("scipy_openblas", "openblas")
SUFFIXES = ("64_", "", "_64")


class Blas:
    """Threads of OpenBLAS, found among the libraries of this process; not of others."""

    def __init__(self) -> None:
        self._library, self._name = _find()

    def threads(self) -> int | None:
        """How many there are, or None where the library does not say."""
        if self._library is None:
            return None
        return int(getattr(self._library, self._name.format("get"))())

    def limit(self, threads: int) -> None:
        """Use so many from now on."""
        if self._library is not None:
            getattr(self._library, self._name.format("set"))(ctypes.c_int(threads))


def said() -> bool:
    """Whether a person said how many threads there are to be."""
    return any(os.environ.get(name) for name in VARIABLES)


def _find() -> tuple[ctypes.CDLL | None, str]:
    try:
        lines = Path("/proc/self/maps").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return None, ""
    paths = {line.split(maxsplit=5)[-1] for line in lines if "openblas" in line}
    for path in sorted(paths):
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        for prefix in PREFIXES:
            for suffix in SUFFIXES:
                name = prefix + "_{}_num_threads" + suffix
                if all(hasattr(library, name.format(verb)) for verb in ("get", "set")):
                    return library, name
    return None, ""
