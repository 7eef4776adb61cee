"""`Watch`: the handle of a live table, and the thread that keeps that going.

The thread and what it works on must never hold their client but weakly, so that a table keeps none alive; the handle
holds it, as a subscription's does.  A client has one table at a time: the cell that makes it may be run again and
again.  Neighbours: `_table` makes what is shown here.  `_Updates.end` must never wait for a lock, and nor must what it
wakes the thread with: a finalizer calls it, in the midst of whatever its thread does.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections.abc import MutableMapping
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field

from .._hints import Later
from ..events import Closed
from ..state import State
from ._table import LiveTable

if TYPE_CHECKING:
    from IPython.core import interactiveshell

    import allenhark_ws
else:
    allenhark_ws, interactiveshell = Later("allenhark_ws"), Later("IPython.core.interactiveshell")

__all__ = ["Watch", "watch"]

_logger = logging.getLogger("allenhark_ws")

_SHORTEST: Final = 0.05
"""Seconds between updates at least: a browser needs its time, and so does the kernel."""

_AT_EXIT: Final = 1.0
"""Seconds that the end of the interpreter waits for a table's last update."""

_tables: MutableMapping[allenhark_ws.Client, _Updates] = weakref.WeakKeyDictionary()
"""The table of each client; collected with it."""


def watch(client: allenhark_ws.Client, refresh: float) -> Watch:
    """Show a live table of the client, in the place of any it has; see `Client.watch`."""
    if refresh < _SHORTEST:
        raise ValueError(f"watch(refresh=…) takes at least {_SHORTEST} seconds, got {refresh!r}")
    shell = _notebook()
    before = _tables.get(client)
    if before is not None:
        before.end("stopped: there is a newer table of this client")
        before.let_go(client)
    updates = _Updates(weakref.ref(client), refresh)
    # Told by the client's end in either way; the callback and the reference hold nothing of the client's.
    client.on(Closed, updates.client_closed)
    updates.gone = weakref.finalize(client, updates.client_gone)
    updates.gone.atexit = False
    _tables[client] = updates
    updates.show()
    updates.start()
    return Watch(client, updates, shell)


def _notebook() -> interactiveshell.InteractiveShell:
    """The shell of the notebook that this runs in.

    Raises:
        ImportError: IPython is missing.
        RuntimeError: this is no notebook: a script, or IPython in a terminal, which shows text once and for all.
    """
    try:
        from IPython import get_ipython  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise ImportError('watch() needs IPython: pip install "allenhark-ws[notebook]"', name="IPython") from None
    shell: interactiveshell.InteractiveShell | None = get_ipython()
    if shell is None or getattr(shell, "kernel", None) is None:
        raise RuntimeError(
            "watch() shows its table in a Jupyter notebook, and there is none here: "
            "in a terminal, look at client.stats and client.latest(channel), or run allenhark-ws tail"
        )
    return shell


@define(eq=False)
class _Updates:
    """What the thread works on: shows the table anew, until it is told to end."""

    client: weakref.ref[allenhark_ws.Client]
    seconds: float
    table: LiveTable = field(factory=LiveTable)
    handle: Any = None  # IPython's `DisplayHandle`, not typed
    gone: weakref.finalize[Any, allenhark_ws.Client] | None = None
    _reasons: list[str] = field(factory=list[str])
    _alarm: SimpleQueue[None] = field(factory=SimpleQueue[None])  # may be put to while its reader is in `get`
    _lock: threading.RLock = field(factory=threading.RLock)  # of the table: cells show it, too
    _thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether it was not told to end."""
        return not self._reasons

    def start(self) -> None:
        """Begin to update."""
        self._thread = threading.Thread(target=_run, args=(self,), name="allenhark notebook table", daemon=True)
        self._thread.start()

    def end(self, why: str) -> None:
        """Show the table once more, with the reason, and then no more; the first reason counts.  Does not wait."""
        self._reasons.append(why)
        self._alarm.put(None)

    def join(self, timeout: float) -> None:
        """Wait for the thread's end."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def client_closed(self, _event: Closed) -> None:
        """The client's own word."""
        self.end("stopped: the client is closed")

    def client_gone(self) -> None:
        """The client was collected."""
        self.end("stopped: nobody holds the client any more")

    def let_go(self, client: allenhark_ws.Client) -> None:
        """Be told of the client's end no more; otherwise it would hold every table it ever had."""
        client.off(self.client_closed)
        if self.gone is not None:
            self.gone.detach()

    # --- Showing

    def show(self) -> None:
        """Show the table under the cell that runs now; further ones show the same."""
        import IPython.display  # noqa: PLC0415 - an extra, there when this is called

        bundle = self._look()
        identity = True if self.handle is None else self.handle.display_id
        shown: Any = IPython.display  # not typed
        self.handle = shown.display(bundle, raw=True, display_id=identity)

    def update(self) -> bool:
        """Look at the client and show what has become of the table; False when there is no end to show it to."""
        bundle = self._look()
        try:
            self.handle.update(bundle, raw=True)
        except Exception:  # whatever a kernel that shuts down makes of it
            _logger.debug("the live table cannot be shown any more", exc_info=True)
            self.end("stopped: the notebook takes no more updates")
            return False
        return True

    def wait(self) -> bool:
        """Wait for the next update; False when there will be none."""
        try:
            self._alarm.get(timeout=self.seconds)
        except Empty:
            return True
        return False

    def _look(self) -> dict[str, str]:
        """Look at the client, and render what has become of the table."""
        with self._lock:
            client = self.client()
            if client is not None:
                self._take_in(client)
            why = "" if self.running else self._reasons[0]
            return {"text/html": self.table.as_html(why), "text/plain": self.table.as_text(why)}

    def _take_in(self, client: allenhark_ws.Client) -> None:
        stats = client.stats
        self.table.look(time.monotonic(), stats, {channel: client.latest(channel) for channel in client.subscriptions})
        if stats.state is State.CLOSED:
            self.end("stopped: the client is closed")


def _run(updates: _Updates) -> None:
    """The thread; with what it was told to end for, the table is shown for the last time."""
    try:
        while updates.wait() and updates.update():
            pass
        updates.update()
    finally:
        updates.end("stopped by an error")  # unless it had ended before


def _end_all() -> None:
    """At exit, while there still is a notebook to tell, and before threads may not run any more."""
    running = list(_tables.values())
    for updates in running:
        updates.end("stopped: the kernel has ended")
    deadline = time.monotonic() + _AT_EXIT
    for updates in running:
        updates.join(max(0.0, deadline - time.monotonic()))


atexit.register(_end_all)


class Watch:
    """A live table in a notebook; `stop()` ends it, and so does the client's end.

    It holds its client.  A handle that is simply dropped leaves the table going, as that of a subscription does.
    Shown again, in another cell, it gives that cell the same live table.
    """

    def __init__(
        self, client: allenhark_ws.Client, updates: _Updates, shell: interactiveshell.InteractiveShell
    ) -> None:
        self.client = client
        """The client that is watched."""
        self._updates = updates
        self._shell = shell
        self._shown_in = shell.execution_count

    @property
    def running(self) -> bool:
        """Whether the table is kept up to date."""
        return self._updates.running

    def stop(self) -> None:
        """Show the table once more, and then leave it as it is; idempotent, from any thread."""
        self._updates.end("stopped")
        self._updates.let_go(self.client)
        self._updates.join(_AT_EXIT)

    def _ipython_display_(self) -> None:
        """Nothing in the cell that made it, which shows it already."""
        if self._shell.execution_count != self._shown_in:
            self._shown_in = self._shell.execution_count
            self._updates.show()

    def __repr__(self) -> str:
        return f"<Watch of {self.client!r}, {'running' if self.running else 'stopped'}>"
