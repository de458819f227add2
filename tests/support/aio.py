"""One event loop in one thread, for the peers in the tests; the tests themselves are synchronous."""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any, TypeVar

from .waiting import PATIENCE

T = TypeVar("T")


# slixmpp forgets a task of its own when a connection ends, and asyncio would report it beside every failing test.
logging.getLogger("asyncio").addFilter(lambda record: not record.getMessage().startswith("Task was destroyed"))


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
    atexit.register(_close, made)
    return made


def _close(made: asyncio.AbstractEventLoop) -> None:
    async def cancel() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.wait(others, timeout=1) if others else None

    asyncio.run_coroutine_threadsafe(cancel(), made).result(2)
    made.call_soon_threadsafe(made.stop)


def run(work: Coroutine[Any, Any, T], timeout: float = PATIENCE) -> T:
    """Runs a coroutine on the loop and waits for its result."""
    return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, timeout), loop()).result(timeout + 5)


def call(work: Callable[..., T], *arguments: Any) -> T:
    """Calls a function on the loop's thread and waits for its result."""

    async def inside() -> T:
        return work(*arguments)

    return run(inside())
