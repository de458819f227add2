"""Waiting for events: nothing in the tests sleeps and hopes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

#: Seconds after which something that should have happened is taken for lost. Generous: the tests share two cores.
PATIENCE = 20.0


class Inbox(Generic[T]):
    """Things that arrive from another thread, in order, and can be waited for."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._items: list[T] = []
        self._arrived = threading.Condition()

    def put(self, item: T) -> None:
        with self._arrived:
            self._items.append(item)
            self._arrived.notify_all()

    def wait(self, predicate: Callable[[T], bool] = lambda _: True, timeout: float = PATIENCE) -> T:
        """Takes out the first item for which `predicate` is true, waiting for it if need be."""
        deadline = time.monotonic() + timeout
        with self._arrived:
            while True:
                for index, item in enumerate(self._items):
                    if predicate(item):
                        return self._items.pop(index)
                if not self._arrived.wait(deadline - time.monotonic()):
                    raise AssertionError(self._nothing(timeout))

    def take(self, count: int, predicate: Callable[[T], bool] = lambda _: True, timeout: float = PATIENCE) -> list[T]:
        """The next `count` items for which `predicate` is true, in the order of their arrival."""
        deadline = time.monotonic() + timeout
        return [self.wait(predicate, deadline - time.monotonic()) for _ in range(count)]

    def peek(self, predicate: Callable[[T], bool] = lambda _: True) -> list[T]:
        """What is there now, left where it is."""
        with self._arrived:
            return [item for item in self._items if predicate(item)]

    def clear(self) -> None:
        with self._arrived:
            self._items.clear()

    def __iter__(self) -> Iterator[T]:
        return iter(self.peek())

    def _nothing(self, timeout: float) -> str:
        there = "\n  ".join(str(item) for item in self._items[-10:]) or "(nothing)"
        return f"{self._what}: not there after {timeout:.0f} s; {len(self._items)} other item(s), the last:\n  {there}"


def until(question: Callable[[], T], timeout: float = PATIENCE, pause: float = 0.02, what: str = "it") -> T:
    """Asks until the answer is true; for states of another program that come with no event."""
    deadline = time.monotonic() + timeout
    tick = threading.Event()
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: still {answer!r} after {timeout:.1f} s")
        tick.wait(pause)
