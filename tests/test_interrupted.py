"""Ctrl-C at every call of every verb: whatever it cuts off, the client goes on, and says and does what is wanted.

CPython looks for signals when a function begins, and when a call of another has come back.  A profile function raises
`KeyboardInterrupt` at the first of these moments that a verb comes to in the package or in `threading`, in another
client at the second, and so on until the verb is through.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

import allenhark_ws
from allenhark_ws import (
    Bot,
    BotUpdate,
    Client,
    ClientClosed,
    Closed,
    Price,
    PriceUpdate,
    State,
    StreamClosed,
    recording,
)
from allenhark_ws._routes import RouteTable

from .patience import PATIENCE
from .scripted import Scripted, price, threads_of

A, B = Price("a"), Bot("b")

_PACKAGE: Final = str(Path(allenhark_ws.__file__).parent)
_MAX_MOMENTS: Final = 5_000
"""Moments that no verb has."""


def _raise() -> None:
    """Python's own handler."""
    raise KeyboardInterrupt


class _CtrlC:
    """Comes at one of the moments, counted from 1.

    Args:
        moment: at which.
        places: where moments count; `Thread.start` takes what comes within it for an error of its own.
        handler: what it does.
    """

    def __init__(
        self,
        moment: int,
        places: tuple[str, ...] = (_PACKAGE, threading.__file__),
        handler: Callable[[], object] = _raise,
    ) -> None:
        self._left = moment
        self._places = places
        self._handler = handler

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(self._places):
            self._left -= 1
            if self._left == 0:
                self._handler()

    def cuts_off(self, verb: Callable[[], object]) -> bool:
        """Whether it came while the verb ran."""
        before = sys.getprofile()
        sys.setprofile(self)
        try:
            verb()
        except KeyboardInterrupt:
            return True
        finally:
            sys.setprofile(before)
        return self._left <= 0


def moments() -> Iterator[int]:
    """One after the other; whoever comes to the end has a verb without one."""
    yield from range(1, _MAX_MOMENTS)
    pytest.fail("it has no end")


def ignore(_event: object) -> None:
    """A callback."""


def stream(client: Client) -> None:
    """Read one for a moment."""
    with client.stream(A, B, overflow="block") as events:
        events.get_batch(1, timeout=0)


def subscribe(client: Client) -> None:
    """Open a handle and close it."""
    client.subscribe(A, B, callback=ignore).close()


def unsubscribe(client: Client) -> None:
    """Whoever holds them."""
    client.subscribe(A, callback=ignore)
    client.unsubscribe(A, B)


def register(client: Client) -> None:
    """Callbacks for a class and for a channel, once more."""
    client.off(ignore)
    client.on(PriceUpdate, ignore)
    client.on(A, ignore)
    client.off(ignore)


def flush(client: Client) -> None:
    """A round trip."""
    client.flush(PATIENCE)


def ask(client: Client) -> None:
    """What changes nothing."""
    assert client.stats.state is State.READY
    client.latest(A)
    repr(client)


VERBS = [stream, subscribe, unsubscribe, register, flush, ask]


half_made = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
"""What was cut off while a socket or a file was being made is closed by the interpreter, which says so."""


def on_the_wire(s: Scripted) -> set[str]:
    """What the server was asked for and not asked to stop."""
    wanted: set[str] = set()
    for message in s.wire.sent:
        key = message.get("mint") or message.get("botId", "")
        if message["type"] == "subscribe":
            wanted.add(key)
        elif message["type"] == "unsubscribe":
            wanted.remove(key)
    return wanted


def names(client: Client) -> set[str]:
    """The ids of what is wanted."""
    return {str(getattr(channel, "mint", None) or getattr(channel, "bot_id", "")) for channel in client.subscriptions}


def check_truth(s: Scripted) -> None:
    """The client lives, and the server knows what is wanted."""
    gc.collect()  # a stream that the verb did not come to give back lets go of its channels
    s.client.flush(PATIENCE)
    s.settle()
    assert s.client.state is State.READY
    assert on_the_wire(s) == names(s.client)


def check_delivery(s: Scripted) -> None:
    """What is registered gets its events, and nobody else; nothing is left of what is let go of."""
    client, calls = s.client, list[Any]()
    client.off(ignore)
    client.unsubscribe(A, B)
    client.on(A, calls.append)
    with client.stream(A) as events:
        client.flush(PATIENCE)
        s.wire.push(price("a"))
        assert events.get(timeout=PATIENCE).mint == "a"
    client.flush(PATIENCE)
    s.settle()
    assert [event.mint for event in calls] == ["a"]
    assert on_the_wire(s) == names(client) == set()
    assert client.stats.callback_errors == 0
    assert client._router._callbacks.targets() == [calls.append]
    assert client._router._blocking == {}


@pytest.mark.parametrize("before", [False, True], ids=["alone", "beside others"])
@pytest.mark.parametrize("verb", VERBS)
def test_ctrl_c_at_every_call(verb: Callable[[Client], None], before: bool) -> None:
    """The verb can be used again, nobody waits for ever, and server and client agree on what is wanted."""
    for moment in moments():
        with Scripted(inline_callbacks=True) as s:
            s.ready()
            if before:
                s.client.subscribe(A)
            came = _CtrlC(moment).cuts_off(lambda s=s: verb(s.client))  # type: ignore[misc]
            check_truth(s)
            verb(s.client)
            check_delivery(s)
        if not came:
            assert moment > 1, "it never came"
            break


def edit(routes: RouteTable[Callable[..., object]]) -> None:
    """In every way."""
    routes.add("first", [A, B], ignore)
    routes.narrow("first", [A])
    routes.add("second", [A], ignore)
    routes.narrow("first", [B])
    routes.remove("second")


def test_ctrl_c_at_every_call_of_an_edit_of_routes() -> None:
    """What is known by target is what is known by token, and can be removed."""
    for moment in moments():
        routes: RouteTable[Callable[..., object]] = RouteTable()
        assert routes.tokens_of(ignore) == []
        came = _CtrlC(moment).cuts_off(lambda routes=routes: edit(routes))  # type: ignore[misc]
        found = routes.tokens_of(ignore)
        assert found == list(routes._registered)
        for token in found:
            routes.remove(token)
        assert (routes.tokens_of(ignore), routes.targets()) == ([], [])
        assert (routes.find(PriceUpdate, "a"), routes.find(BotUpdate, "b")) == ((), ())
        if not came:
            assert moment > 1, "it never came"
            break


def test_ctrl_c_at_every_call_of_closing() -> None:
    """What it leaves undone another close does; the threads end, and `Closed` comes last."""
    for moment in moments():
        s = Scripted().ready()
        ends = s.client.stream(allenhark_ws.Closed)
        came = _CtrlC(moment).cuts_off(s.client.close)
        s.client.close()
        assert ends.get(timeout=PATIENCE) == allenhark_ws.Closed(None)
        assert s.client.state is State.CLOSED
        if not came:
            assert moment > 1, "it never came"
            break


@half_made
def test_ctrl_c_at_every_call_of_connecting() -> None:
    """The client can be closed, and leaves no thread."""
    for moment in moments():
        s = Scripted()
        came = _CtrlC(moment, (_PACKAGE,)).cuts_off(lambda s=s: s.client.connect(PATIENCE))  # type: ignore[misc]
        s.client.close()
        assert s.client.state is State.CLOSED
        assert threads_of(s.client) == []
        if not came:
            assert moment > 1, "it never came"
            break
    gc.collect()


@half_made
def test_ctrl_c_at_every_call_of_recording(tmp_path: Path) -> None:
    """The next recording is whole."""
    for moment in moments():
        with Scripted() as s:
            s.ready()

            def record(name: str, s: Scripted = s) -> None:
                with s.client.record(tmp_path / name):
                    s.client.flush(PATIENCE)

            came = _CtrlC(moment, (_PACKAGE,)).cuts_off(lambda record=record, moment=moment: record(f"{moment}"))  # type: ignore[misc]
            record(f"{moment}-again")
        with recording.read(tmp_path / f"{moment}-again") as frames:
            assert [frame.raw for frame in frames][-1:] == [b'{"type": "pong"}']
        if not came:
            assert moment > 1, "it never came"
            break
    gc.collect()


AMIDST: dict[str, Callable[[Client], object]] = {
    "_launch": lambda client: client.start(),
    "_hold": lambda client: client.subscribe(A),
    "_hooks": lambda client: client.stream(A).get_batch(1, timeout=0),
    "_send": lambda client: client.reconnect(),
}
"""Functions that the end of the client has to wait for, and what calls them: the first starts the threads, the others
run under the lock of the tables, of a stream and of the wake-up."""


@pytest.mark.parametrize("amidst", AMIDST)
def test_a_signal_handler_that_closes_does_not_wait_for_what_it_interrupts(amidst: str) -> None:
    """It begins the end, which comes when the interrupted call goes on."""
    with Scripted() as s:
        client, taken, told = s.client, list[float](), list[Closed]()
        client.on(Closed, told.append)
        if amidst != "_launch":
            s.ready()

        def close(frame: FrameType, event: str, _argument: object) -> None:
            if event == "call" and frame.f_code.co_name == amidst and not taken:
                began = time.monotonic()
                taken.append(began)
                client.close(PATIENCE)
                taken.append(time.monotonic() - began)

        before = sys.getprofile()
        sys.setprofile(close)
        try:
            with contextlib.suppress(ClientClosed, StreamClosed):
                AMIDST[amidst](client)
        finally:
            sys.setprofile(before)
        client.close(PATIENCE)
        assert taken[1] < PATIENCE
        assert told == [Closed(None)]
        assert threads_of(client) == []


def closes_at(moment: int, verb: str) -> bool:
    """Whether a handler that closes came while the verb ran, and all was well."""
    with Scripted() as s:
        client, told, took = s.client, list[Closed](), list[float]()
        client.on(Closed, told.append)

        def close() -> None:
            began = time.monotonic()
            client.close(PATIENCE)
            took.append(time.monotonic() - began)

        with contextlib.suppress(ClientClosed):
            _CtrlC(moment, handler=close).cuts_off(getattr(client, verb))
        client.close(PATIENCE)
        callbacks = client._loop.callbacks
        assert callbacks is not None
        callbacks.join(time.monotonic() + PATIENCE)
        assert (told, threads_of(client)) == ([Closed(None)], []), moment
        assert not took or took[0] < PATIENCE, moment
        return bool(took)


@pytest.mark.parametrize("verb", ["start", "close"])
def test_a_signal_handler_that_closes_at_every_call(verb: str) -> None:
    """Of whatever begins or ends a client that was never started: it ends once, and nothing of it is left."""
    for moment in moments():
        if not closes_at(moment, verb):
            assert moment > 1, "it never came"
            break
