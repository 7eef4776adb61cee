"""An asyncio event loop on a background thread of its own, driven from other threads.

Neighbours: `_simulator` owns one while it is started; everything in `_server` runs on it.  It must never know what runs
on it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

__all__ = ["LoopThread"]

_T = TypeVar("_T")


class LoopThread:
    """A running loop; a selector loop on every platform, since it alone calls the listening socket's ``accept``."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=_spin, args=(self._loop,), name=name, daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, _T], timeout: float) -> _T:
        """Run the coroutine on the loop and wait for its result.

        Args:
            coroutine: what to run; whatever it raises is raised here.
            timeout: seconds to wait.

        Raises:
            RuntimeError: no result in time; the coroutine is cancelled.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout)
        except FutureTimeoutError:
            if future.done():
                raise
            future.cancel()
        raise RuntimeError(f"the background thread did not answer within {timeout:g} s; stop() it and start a new one")

    def stop(self, timeout: float) -> None:
        """End the loop and the thread, cancelling what still runs; wait for it at most this many seconds."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout)


def _spin(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(_cancel_all())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
