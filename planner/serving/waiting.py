"""Requests that wait for a slot, the most urgent class first."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol


class Queue(Protocol):
    """What a scheduler needs of its queue; a plain deque has it."""

    def append(self, request: int, /) -> None:
        """Put behind all of its class."""
        ...

    def appendleft(self, request: int, /) -> None:
        """Put before all of its class."""
        ...

    def popleft(self) -> int:
        """Take the first."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> int: ...

    def __iter__(self) -> Iterator[int]: ...


class ClassQueue:
    """First come, first served within a class; a lower number goes before a higher one."""

    __slots__ = ("_classes", "_of", "_size")

    def __init__(self, priority: Sequence[int]) -> None:
        self._of = priority
        self._classes: dict[int, deque[int]] = {}
        self._size = 0

    def append(self, request: int) -> None:
        """Put behind all of its class."""
        self._own(request).append(request)

    def appendleft(self, request: int) -> None:
        """Put before all of its class."""
        self._own(request).appendleft(request)

    def popleft(self) -> int:
        """Take the first of the most urgent class."""
        self._size -= 1
        return self._first().popleft()

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> int:
        if index == 0:
            return self._first()[0]
        return list(self)[index]

    def __iter__(self) -> Iterator[int]:
        for number in sorted(self._classes):
            yield from self._classes[number]

    def _own(self, request: int) -> deque[int]:
        self._size += 1
        return self._classes.setdefault(self._of[request], deque())

    def _first(self) -> deque[int]:
        return self._classes[min(number for number, queue in self._classes.items() if queue)]
