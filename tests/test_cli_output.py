"""What the command line writes: events as JSON and as text, whole lines, talk that is never too much."""

from __future__ import annotations

import io
import json
import re
import sys
import threading
from collections.abc import Iterable
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest

for needed in ("click", "rich", "websockets", "trustme", "cryptography"):
    pytest.importorskip(needed, reason="needs the extra cli")

from rich.console import Console

from allenhark_ws import (
    AllenHarkError,
    AuthenticationError,
    BotUpdate,
    CertificateRejected,
    Closed,
    ConfigurationError,
    Connected,
    ConnectionFailed,
    ConnectionLost,
    Disconnected,
    Event,
    Gap,
    HandshakeRejected,
    InvalidMessage,
    Price,
    PriceUpdate,
    Reconnecting,
    ServerError,
    TradeExecuted,
    TransactionConfirmed,
    Transactions,
    UnknownMessage,
)
from allenhark_ws._codec import Codec
from allenhark_ws.cli._exit import exit_code, in_words
from allenhark_ws.cli._live import Notices
from allenhark_ws.cli._output import Pipe
from allenhark_ws.cli._render import Trend, as_json, as_talk, as_text, printable

NOON = datetime(2024, 1, 15, 12, 0, 0, 5000, tzinfo=timezone.utc)
LOST = ConnectionLost("the cable was cut")


def update(price: Any, mint: str = "m") -> PriceUpdate:
    """A price."""
    return PriceUpdate(mint, price, 2.0, NOON, received_at=NOON)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (update(1.5), {"mint": "m", "price": 1.5, "volume": 2.0}),
        (update(Decimal("0.10")), {"price": "0.10"}),
        (BotUpdate("b", "trade_executed", TradeExecuted("s", 0.5, NOON)), {"bot_id": "b"}),
        (BotUpdate("b", "odd", {"deep": {"er": [1]}}), {"data": {"deep": {"er": [1]}}}),
        (TransactionConfirmed("s", "confirmed", 7, channel=Transactions("w")), {"slot": 7, "wallet": "w"}),
        (Gap(NOON, NOON, 1.5, frozenset({Price("m")}), LOST), {"channels": [{"mint": "m"}], "duration": 1.5}),
        (Closed(None), {"error": None}),
    ],
)
def test_json_has_the_documented_fields(event: Event, expected: dict[str, Any]) -> None:
    """And the class's name; numbers stay numbers."""
    shown = json.loads(as_json(event))
    assert shown["event_type"] == type(event).__name__
    assert shown.items() >= expected.items()


def test_json_leaves_out_what_is_not_known() -> None:
    """No wallet when the server did not say, no extra keys when there were none, no time when nothing was received."""
    shown = json.loads(as_json(TransactionConfirmed("s", "confirmed", 7)))
    assert shown.keys() == {"event_type", "signature", "status", "slot"}


@pytest.mark.parametrize("decimal", [False, True])
def test_json_is_json_whatever_the_server_sent(decimal: bool) -> None:
    """A number that no float can hold is a text, like an exact one; deep inside, and among undocumented keys too."""
    raw = b'{"type":"bot_update","botId":"b","event":"e","data":{"deep":[{"er":1e999},0.1]},"more":-1e999}'
    shown = json.loads(as_json(Codec(decimal=decimal).decode(raw, NOON)), parse_constant=pytest.fail)
    assert shown["data"] == {"deep": [{"er": "1E+999"}, "0.1"] if decimal else [{"er": "Infinity"}, 0.1]}
    assert shown["extra"] == {"more": "-Infinity"}


@pytest.mark.parametrize("fraction", ["", ".5", ".123456"])
def test_times_are_of_one_form(fraction: str) -> None:
    """Whatever the server's have, or a table that is made of the lines may refuse those that differ."""
    raw = f'{{"type":"price_update","mint":"m","price":1,"volume":1,"timestamp":"2024-01-15T10:30:00{fraction}Z"}}'
    shown = json.loads(as_json(Codec().decode(raw.encode(), NOON)))
    assert shown["timestamp"] == f"2024-01-15T10:30:00.{fraction[1:]:0<6}+00:00"
    assert shown["received_at"] == NOON.isoformat(timespec="microseconds")


def test_a_trend_is_a_token_s_own() -> None:
    """Up, down, and nothing for the first one, for the same again, and for what is no price."""
    trend = Trend()
    events = [update(2), update(9, "other"), update(3), update(3), update(1), Closed(None), update(Decimal(2))]
    assert [trend.of(event) for event in events] == ["", "", "up", "", "down", "", "up"]


def test_text_of_a_price() -> None:
    """Time, kind, token, direction, every digit of a Decimal."""
    line = as_text(update(Decimal("0.00000000010"), "So11111111111111111111111111111111111111112"), "up").plain
    assert line.split() == ["12:00:00.005Z", "PriceUpdate", "So11…1112", "▲", "0.00000000010", "volume", "2"]


@pytest.mark.parametrize(
    "event",
    [
        update(0.123456789, "So11111111111111111111111111111111111111112"),
        BotUpdate("bot_abc123", "trade_executed", TradeExecuted("x" * 88, -0.123456, NOON), received_at=NOON),
        TransactionConfirmed("x" * 88, "confirmed", 250_000_000, received_at=NOON),
        Connected(1, 0.0123),
    ],
)
def test_a_line_of_text_has_its_time_and_fits_into_80_columns(event: Event) -> None:
    """Of the client's own events, which are not received, it is the time at which they are shown."""
    line = as_text(event, "up").plain
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3}Z ", line)
    assert len(line.rstrip()) <= 80


def test_what_a_server_sends_does_not_command_the_terminal() -> None:
    """Escape sequences, line breaks and bells are spelt out."""
    assert printable("a\x1b[2J\nb\a\x9bé") == "a\\x1b[2J\\nb\\x07\\x9bé"
    assert as_text(BotUpdate("b\x1b[2J", "e", {})).plain.isprintable()
    assert as_text(update(1.0, "m\x1b[2J")).plain.isprintable()


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (Connected(1, 0.0123), "connected, round trip 12.3 ms"),
        (Disconnected(1006, "", LOST, 0.0), "connection lost: the cable was cut"),
        (Reconnecting(1, 0.0, LOST), "connecting again at once"),
        (Reconnecting(2, 0.04, LOST), "attempt 1 failed: the cable was cut; connecting again at once"),
        (Reconnecting(3, 1.25, ConnectionFailed("no route")), "attempt 2 failed: no route; connecting again in 1.2 s"),
        (Reconnecting(2, 1.0, ConfigurationError("no key")), "attempt 1 failed: no key; connecting again in 1.0 s"),
        (Gap(NOON, NOON, 1.5, frozenset(), LOST), "gap: events of 1.5 s may be missing"),
        (ServerError("no such mint", 7), "the server says: error (7): no such mint"),
        (ServerError("no\nsuch"), "the server says: error: no\\nsuch"),
        (InvalidMessage("not JSON"), "not a message: not JSON"),
        (UnknownMessage("subscribed"), None),
        (Closed(None), None),
    ],
)
def test_talk(event: Event, words: str | None) -> None:
    """What happens to the connection, in words; what is of no consequence is not told."""
    told = as_talk(event)
    assert (told is None) is (words is None)
    assert told is None or told[0].startswith(str(words))


def notices(*, lifecycle: bool = True) -> tuple[Notices, io.StringIO]:
    """Notices, and where they are written."""
    page = io.StringIO()
    return Notices(Console(file=page, soft_wrap=True), lifecycle=lifecycle), page


def test_a_backlog_is_told_of_once_and_its_end_too() -> None:
    """Only when the queue is full, and again when it is nearly empty."""
    told, page = notices()
    for waiting in (9_999, 10_000, 10_000, 5_000, 10_000, 1_000, 999, 10):
        told.tell_backlog(waiting)
    first, second = page.getvalue().splitlines()
    assert "10000 are waiting, the server is held back; nothing is dropped" in first
    assert second == "allenhark-ws: caught up"


def test_without_lifecycle_only_the_server_s_complaints() -> None:
    """Losses and gaps are not told, errors are."""
    told, page = notices(lifecycle=False)
    told.tell(Connected(1, 0.1))
    told.tell(ServerError("no such mint"))
    assert page.getvalue() == "allenhark-ws: the server says: error: no such mint\n"


class Paper(io.StringIO):
    """A stdout that remembers how much was handed over at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def write(self, text: str) -> int:
        """Note the size."""
        self.sizes.append(len(text))
        return super().write(text)


def written(lines: Iterable[str], monkeypatch: pytest.MonkeyPatch) -> Paper:
    """What a pipe writes."""
    paper = Paper()
    monkeypatch.setattr(sys, "stdout", paper)
    Pipe(pytest.fail, pytest.fail).write(lines)
    return paper


def test_lines_are_handed_over_whole_and_not_too_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a pipe with room takes at once (PIPE_BUF, 4096 bytes on Linux); a line longer than that goes alone."""
    lines = ["x" * 99] * 80 + ["y" * 9_000] + ["z"]
    paper = written(lines, monkeypatch)
    assert paper.getvalue() == "".join(f"{line}\n" for line in lines)
    assert paper.sizes == [4_000, 4_000, 9_001, 2]
    assert written(["x" * 2_047, "y" * 2_047, "z"], monkeypatch).sizes == [4_096, 2]
    assert written([], monkeypatch).sizes == []


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (AuthenticationError("revoked", 4001), 3, "the server rejected the API key (4001): revoked; check ALLENHARK"),
        (AuthenticationError("revoked"), 3, "the server rejected the API key: revoked"),
        (AuthenticationError("no\x1b[2J\r\nforged"), 3, r"the server rejected the API key: no\x1b[2J\r\nforged; check"),
        (
            CertificateRejected("expired", "h"),
            1,
            "the TLS certificate of h was rejected: expired; `allenhark-ws doctor`",
        ),
        (HandshakeRejected(503, retry_after=2.0), 1, "HTTP 503 and asks to wait 2 s"),
        (ConnectionFailed("no route"), 1, "no route; `allenhark-ws doctor` looks closer"),
        (ConfigurationError("Client(url=…) is no URL"), 2, "--url (or ALLENHARK_WS_URL) is no URL"),
        (OSError(28, "No space left on device"), 1, "allenhark-ws: No space left on device"),
    ],
)
def test_how_a_command_ends(
    error: Exception, code: int, words: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code that the error stands for, and one line in the command's own words."""

    def fail() -> int:
        raise error

    monkeypatch.setattr("allenhark_ws.cli._exit._mute_output", lambda: None)
    assert exit_code(fail) == code
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("allenhark-ws: ")
    assert words in line
    assert not isinstance(error, AllenHarkError) or printable(in_words(error)) in line


def test_ctrl_c_that_the_interpreter_stumbles_over() -> None:
    """It can come when a wait has just let go of its lock; any other RuntimeError is told with its traceback."""

    def stumble() -> int:
        try:
            raise KeyboardInterrupt
        finally:
            threading.RLock().release()

    def fail() -> int:
        raise RuntimeError("cannot release un-acquired lock")

    assert exit_code(stumble) == 130
    with pytest.raises(RuntimeError, match="un-acquired"):
        exit_code(fail)
