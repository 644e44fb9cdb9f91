"""Triton where it is installed; where it is not, kernels can be read but not launched."""

import importlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

tl: Any
triton: Any
try:
    triton = importlib.import_module("triton")
    tl = importlib.import_module("triton.language")
except ImportError:
    triton = tl = None

if TYPE_CHECKING:
    Arg = Any
    constexpr = Any
elif tl is None:
    Arg = constexpr = object
else:
    Arg, constexpr = tl.tensor, tl.constexpr  # annotations are resolved: they must be Triton's own

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Kernels run in Python on the host: right, slow, and without a GPU."""

Kernel = Callable[..., Any]


class _Mode:
    compile_only = False


def jit(**options: Any) -> Callable[[Callable[..., None]], Any]:
    """Decorate a kernel; its source is compiled when it is first launched."""
    if triton is None:
        return lambda function: function
    made: Callable[[Callable[..., None]], Any] = triton.jit(**options)
    return made


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **options: Any) -> None:
    """Launch a kernel, or compile it for these arguments where nothing is to run."""
    if _Mode.compile_only:
        kernel.warmup(*args, grid=grid, **options)
    else:
        kernel[grid](*args, **options)


class PretendDriver:
    """Tell Triton of a device that is not there, so that it compiles for it."""

    def __init__(self, capability: int) -> None:
        compiler = importlib.import_module("triton.backends.compiler")
        self._target = compiler.GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> Any:
        """What to compile for."""
        return self._target

    def get_current_device(self) -> int:
        """Return the only device."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """No stream: nothing is launched."""
        return 0


def compile_for(capability: int) -> None:
    """From here on, compile kernels for ``sm_<capability>`` and launch none."""
    triton.runtime.driver.set_active(PretendDriver(capability))
    _Mode.compile_only = True


def power_of_two(value: int) -> int:
    """Smallest power of two that is not less.

    >>> power_of_two(129)
    256
    """
    return 1 << max(0, value - 1).bit_length()
