"""``allenhark-ws doctor``: one connection, made by the client itself, watched step by step and explained.

The steps come from the client's own log records, so what is diagnosed is what every program does.  Neighbours: `_steps`
makes the report, `_advice` explains, `_certificate` looks at a certificate that did not verify.  It must never show the
key.
"""

from __future__ import annotations

import contextlib
import json
import logging
import platform
import queue
import ssl
import textwrap
import time
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Any, Final, cast

from attrs import define, frozen
from rich.text import Text

from allenhark_ws import (
    AllenHarkError,
    AuthenticationError,
    Backoff,
    CertificateRejected,
    Client,
    Closed,
    Connected,
    ConnectionFailed,
    Event,
    LifecycleEvent,
    __version__,
)

from .._ports import Transport, TransportFactory
from ._certificate import look_at
from ._options import NO_KEY, Server
from ._output import paper, say
from ._render import printable
from ._steps import FAILED, NOT_REACHED, OK, SKIPPED, WARNING, Step, Steps

__all__ = ["run_doctor"]

_ROUND_TRIPS: Final = 3
_CLOCK_TOLERANCE: Final = 2.0
"""Seconds that a clock may be off before it is worth a warning; programs compare theirs with events' timestamps."""

_GOODBYE: Final = 1.0
_MARGIN: Final = " " * 21
_NO_BREAK: Final = "\xa0"
_MARKS: Final = {FAILED: "FAILED", WARNING: "WARNING"}
_STYLES: Final = {OK: "green", WARNING: "yellow", FAILED: "bold red", SKIPPED: "dim", NOT_REACHED: "dim"}


def run_doctor(server: Server, *, as_json: bool, timeout: float) -> int:
    """Connect once and tell how it went.

    Args:
        server: where to, and with which key.
        as_json: print one object at the end instead of lines as they come.
        timeout: seconds for connecting, and again for the first pong.

    Returns:
        The exit code: 0 all well, 2 there is no key, whatever else was found, 3 it was rejected, 1 anything else.

    Raises:
        ConfigurationError: the URL or the key cannot be used.
    """
    make = server.client if server.has_key else partial(server.client_without_key, _Keyless)
    client = make(connect_timeout=timeout, pong_timeout=timeout, backoff=Backoff(max_attempts=1))
    url = server.url.partition("?")[0]  # the query could hold anything
    steps = Steps(secure=url.startswith("wss:"))
    screen = _Screen(steps, quiet=as_json)
    screen.begin(url)
    error = _Examination(client, steps, url, timeout, screen.show).run()
    code = _code(error) if server.has_key else 2
    if as_json:
        print(_report(url, steps, code))
    else:
        screen.end()
    if not server.has_key:
        say(NO_KEY, style="red")
    return code


def _code(error: AllenHarkError | None) -> int:
    if isinstance(error, AuthenticationError):
        return 3
    return 0 if error is None else 1


class _FarEnough(ConnectionFailed):
    """Without a key the connection is not to be used: its opening fails when it is complete."""


@define(eq=False)
class _Unused:
    """A connection that is given up once it is open; it has what there is to a transport until then."""

    _transport: Transport

    @property
    def phase(self) -> str:
        """What opening it is at."""
        return self._transport.phase

    def open(self, wait: Any, wake: Callable[[], None]) -> None:
        """Open it, and leave.

        Raises:
            ConnectionFailed: it could not be opened; `_FarEnough`: it could.
        """
        self._transport.open(wait, wake)
        self._transport.abort(1000)
        raise _FarEnough("there is no key to send")

    def disown(self) -> None:
        """Let go of the descriptors."""
        self._transport.disown()


class _Keyless(Client):
    """A client that opens connections and sends nothing on them."""

    def _wire(self, settings: Any, connect: TransportFactory, *others: Any, **more: Any) -> None:
        def unused(settings: Any, redact: Callable[[str], str]) -> Transport:
            return cast("Transport", _Unused(connect(settings, redact)))

        super()._wire(settings, unused, *others, **more)


def _cause(error: AllenHarkError | None) -> AllenHarkError:
    """What failed, without that this was the only attempt."""
    if (
        isinstance(error, ConnectionFailed)
        and error.attempts is not None
        and isinstance(error.__cause__, AllenHarkError)
    ):
        return error.__cause__
    return error or ConnectionFailed("the client was closed")


@frozen
class _Examination:
    """One connection under watch.

    Attributes:
        client: not started; closed afterwards.
        steps: learns what happens.
        url: the endpoint.
        timeout: seconds for each answer.
        show: called with each step that is over.
    """

    client: Client
    steps: Steps
    url: str
    timeout: float
    show: Callable[[Step], object]

    def run(self) -> AllenHarkError | None:
        """Connect, watch, measure; the error that ended it, if one did."""
        with _watched(self.client) as happenings:
            self.client.start()
            while True:
                moment, what = happenings.get()
                if isinstance(what, Closed):
                    return self._failed(moment, _cause(what.error))
                if isinstance(what, Connected):
                    self.show(self.steps.accepted(moment))
                    return self._measure()
                step = self.steps.hear(moment, **what) if isinstance(what, Mapping) else None
                if step is not None:
                    self.show(step)

    def _failed(self, moment: float, error: AllenHarkError) -> AllenHarkError:
        if isinstance(error, _FarEnough):
            self.show(self.steps.not_tried())
            return error
        *before, failed = self.steps.failed(moment, error)
        for step in before:
            self.show(step)
        if isinstance(error, CertificateRejected):
            certificate = look_at(self.url, self.steps.proxy, self.timeout)
            failed.details = certificate.lines() if certificate else []
        self.show(failed)
        return error

    def _measure(self) -> AllenHarkError | None:
        """A few round trips more, and what the pongs tell of the clocks; the error, if one came."""
        error: AllenHarkError | None = None
        try:
            for _ in range(_ROUND_TRIPS):
                self.client.flush(self.timeout)
        except AllenHarkError as failure:
            error = failure
        stats = self.client.stats
        self.show(self.steps.add(_pong(stats.rtt_min, stats.rtt_avg, error)))
        self.show(self.steps.add(_clock(stats.clock_offset, stats.rtt_last)))
        return error


def _pong(best: float | None, mean: float | None, error: AllenHarkError | None) -> Step:
    if error is not None:
        hint = "the connection does not hold: try again; if it stays so, the server or something in between ends it"
        return Step("pong", FAILED, f"the first came, but then: {getattr(error, 'reason', error)}", advice=hint)
    told = [f"{name} {value * 1000:.1f} ms" for name, value in (("best", best), ("mean", mean)) if value is not None]
    return Step("pong", OK, f"round trip: {', '.join(told)}", seconds=best)


@contextlib.contextmanager
def _watched(client: Client) -> Generator[queue.SimpleQueue[tuple[float, Mapping[str, Any] | Event]]]:
    """What the client logs of its connecting and tells of its life, with the moment; it is closed afterwards."""
    happenings: queue.SimpleQueue[tuple[float, Mapping[str, Any] | Event]] = queue.SimpleQueue()
    watcher = _Watcher(happenings)
    logger = logging.getLogger("allenhark_ws")
    level = logger.level
    logger.addHandler(watcher)
    logger.setLevel(logging.DEBUG)
    client.on(LifecycleEvent, lambda event: happenings.put((time.monotonic(), event)))
    try:
        yield happenings
    finally:
        client.close(_GOODBYE)
        logger.removeHandler(watcher)
        logger.setLevel(level)


class _Watcher(logging.Handler):
    """Passes on the records of a connection being opened."""

    def __init__(self, happenings: queue.SimpleQueue[tuple[float, Mapping[str, Any] | Event]]) -> None:
        super().__init__()
        self._happenings = happenings

    def emit(self, record: logging.LogRecord) -> None:
        """Called on the thread that connects."""
        opening = getattr(record, "opening", None)
        if opening is not None:
            self._happenings.put((time.monotonic(), opening))


def _clock(offset: float | None, rtt: float | None) -> Step:
    """How far the clocks are apart, as far as a pong's timestamp tells: within half a round trip."""
    if offset is None or rtt is None:
        return Step("clock", SKIPPED, "the server's pongs carry no time to compare with")
    margin = max(rtt / 2, 0.001)  # a pong's time is told in milliseconds
    if abs(offset) <= margin:
        return Step("clock", OK, f"the server's agrees with this machine's within {margin:.3f} s")
    ahead = "ahead of" if offset > 0 else "behind"
    text = f"the server's is {abs(offset):.3f} s {ahead} this machine's, give or take {margin:.3f} s"
    if abs(offset) - margin <= _CLOCK_TOLERANCE:
        return Step("clock", OK, text)
    hint = "set this machine's clock (NTP): ages of events, and the dates of certificates, are judged by it"
    return Step("clock", WARNING, text, advice=hint)


class _Screen:
    """The report as lines, each when its step is over.

    Args:
        steps: all of them.
        quiet: print nothing.
    """

    def __init__(self, steps: Steps, *, quiet: bool) -> None:
        self._steps = steps
        self._out = paper()
        self._out.quiet = quiet
        self._printed = 0

    def begin(self, url: str) -> None:
        """What is examined, and with what."""
        self._print(f"{_versions()}\nconnecting to {url}\n", style="dim")

    def show(self, last: Step) -> None:
        """The steps up to this one, in order."""
        steps = self._steps.all()
        for step in steps[self._printed : steps.index(last) + 1]:
            self._printed += 1
            if step.name != "tunnel" or step.status != SKIPPED:
                self._show(step)

    def _show(self, step: Step) -> None:
        mark = f"{_MARKS.get(step.status, step.status):<12}"
        took = "" if step.seconds is None else f"  ({step.seconds * 1000:.1f}{_NO_BREAK}ms)"
        told = f"\n{_MARGIN}".join(self._wrapped(f"{printable(step.text)}{took}"))
        head = Text(f"{step.name:<8} {told}".rstrip().replace(_NO_BREAK, " "))
        head.highlight_regex(r"\([0-9.]+ ms\)$", "dim")
        self._out.print(Text(mark, _STYLES[step.status]) + head)
        for detail in step.details:
            for line in self._wrapped(printable(detail)):
                self._print(f"{_MARGIN}{line}", style="dim")
        advice = "" if step.status == SKIPPED else step.advice  # what to do about a key is said at the end, on stderr
        for line in self._lines(advice):
            self._print(f"{_MARGIN}{line}", style="yellow")

    def _lines(self, text: str) -> list[str]:
        """The text as it fits beside the margin."""
        return textwrap.wrap(text, max(30, self._out.width - len(_MARGIN)))

    def _wrapped(self, text: str) -> list[str]:
        """Likewise on a terminal; elsewhere one line, for whoever looks for something in it."""
        return self._lines(text) if self._out.is_terminal else [text]

    def end(self) -> None:
        """The steps that were not reached, and the verdict."""
        steps = self._steps.all()
        self.show(steps[-1])
        failed = [step.name for step in steps if step.status == FAILED]
        if failed:
            self._print(f"\nit fails at: {failed[0]}", style="bold red")
        elif any(step.name == "auth" and step.status == SKIPPED for step in steps):
            self._print("\nall is well as far as it goes without a key", style="yellow")
        else:
            self._print("\nall is well", style="green")

    def _print(self, text: str, style: str) -> None:
        self._out.print(Text(text, style=style))


def _report(url: str, steps: Steps, code: int) -> str:
    return json.dumps(
        {
            "url": url,
            "ok": code == 0,
            "exit_code": code,
            "failed": next((step.name for step in steps.all() if step.status == FAILED), None),
            "steps": [step.as_dict() for step in steps.all()],
            "versions": _versions(),
        }
    )


def _versions() -> str:
    return f"allenhark-ws {__version__}, Python {platform.python_version()}, {ssl.OPENSSL_VERSION}"
