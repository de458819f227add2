"""One event loop in one thread, for the peers in the tests; the tests themselves are synchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any, TypeVar

from .waiting import PATIENCE

T = TypeVar("T")


@cache
def loop() -> asyncio.AbstractEventLoop:
    made = asyncio.new_event_loop()
    started = threading.Event()

    def run() -> None:
        asyncio.set_event_loop(made)
        made.call_soon(started.set)
        made.run_forever()

    threading.Thread(target=run, name="peers", daemon=True).start()
    started.wait()
    return made


def run(work: Coroutine[Any, Any, T], timeout: float = PATIENCE) -> T:
    """Runs a coroutine on the loop and waits for its result."""
    return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, timeout), loop()).result(timeout + 5)


def call(work: Callable[..., T], *arguments: Any) -> T:
    """Calls a function on the loop's thread and waits for its result."""

    async def inside() -> T:
        return work(*arguments)

    return run(inside())
