"""Where cases are worked on: this process, a local pool, any executor, a Dask cluster."""

import os
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from planner.errors import InputError

CONNECT_S = 10
"""How long a scheduler may take to answer."""
CHUNK_S = 0.25
"""Work a process is given at once: far more than it takes to send, short enough to stop soon."""
FAR_CHUNK_S = 2.0
"""The same of a cluster: its scheduler spends some milliseconds on every chunk."""


class Workers(Protocol):
    """Something that runs functions elsewhere, and may have to be replaced."""

    @property
    def count(self) -> int:
        """How many cases it works on at once."""

    @property
    def chunk_s(self) -> float:
        """Work to give each of them at once. [s]"""

    def executor(self) -> Executor:
        """The pool; a new one where a dead worker broke the last."""


class Here(Executor):
    """Runs everything at once, in this process."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run now; the future is done when it is returned."""
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done


@dataclass(frozen=True, slots=True)
class Given:
    """An executor of the caller's own; broken, it stays broken."""

    pool: Executor
    count: int
    chunk_s: float = CHUNK_S

    def executor(self) -> Executor:
        """The one that was given."""
        return self.pool


@dataclass(frozen=True, slots=True)
class Local:
    """Processes of this machine; loky replaces a pool whose worker died."""

    count: int
    chunk_s: float = CHUNK_S

    def executor(self) -> Executor:
        """The reusable pool."""
        from loky import get_reusable_executor

        pool: Executor = get_reusable_executor(max_workers=self.count)
        return pool


def workers_of(executor: Executor | None, workers: int | Workers | None) -> Workers:
    """Workers for a study: the executor given, else ``workers`` processes, else one a core.

    Raises
    ------
    InputError
        Fewer than one worker.
    """
    if workers is not None and not isinstance(workers, int):
        return workers
    if executor is not None:
        count = workers or getattr(executor, "_max_workers", None) or 8
        return Given(executor, int(count))
    count = workers if workers is not None else os.cpu_count() or 1
    if count < 1:
        raise InputError("--workers", str(count), "must be 1 or more")
    return Given(Here(), 1) if count == 1 else Local(count)


@contextmanager
def dask_workers(address: str) -> Iterator[Workers]:
    """Workers of the Dask cluster whose scheduler is at ``address`` (``tcp://host:8786``).

    Every worker must have this package, at this version.

    Raises
    ------
    InputError
        Dask is not installed, the scheduler does not answer, it has no workers, or they have
        another version of the package.
    """
    try:
        distributed: Any = import_module("distributed")
    except ImportError:
        raise InputError(
            "--dask", address, "needs dask.distributed: pip install 'moe-planner[cluster]'"
        ) from None
    try:
        client = distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            "--dask", address,
            f"no scheduler answers there within {CONNECT_S} s ({reason}); "
            "start one with `dask scheduler`, or leave --dask out",
        ) from None  # fmt: skip
    try:
        yield Given(client.get_executor(), _threads(client, address), FAR_CHUNK_S)
    finally:
        client.close()


def _threads(client: Any, address: str) -> int:
    """Threads of all workers, once every worker is known to have the same package."""
    from planner.study.digest import package_digest

    threads = sum(client.nthreads().values())
    if not threads:
        raise InputError("--dask", address, "the scheduler has no workers; start `dask worker`")
    ours = package_digest()
    try:
        theirs = client.run(package_digest)
    except Exception as error:
        raise InputError(
            "--dask", address, f"a worker cannot load this package: {type(error).__name__}: {error}"
        ) from None
    for worker, version in theirs.items():
        if version != ours:
            raise InputError(
                "--dask", str(worker), f"runs planner {version}, this is {ours}; install the same"
            )
    return int(threads)
