"""Errors: a tree, facts as attributes, texts that help, whole through a pickle."""

from __future__ import annotations

import copy
import pickle
import traceback
from datetime import datetime, timezone
from typing import Any

import pytest
from attrs import fields

from allenhark_ws import errors
from allenhark_ws.errors import (
    AllenHarkError,
    AuthenticationError,
    CertificateRejected,
    ClientClosed,
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    ConnectTimeout,
    FlushTimeout,
    HandshakeRejected,
    RecordingError,
    RequestRejected,
    SlowConsumer,
    StreamClosed,
    raise_again,
)
from allenhark_ws.events import ServerError

NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)
REFUSED = tuple(ServerError(f"no such bot {n}", n or None, raw=b"{}", received_at=NOW) for n in range(5))

CASES: list[tuple[AllenHarkError, str]] = [
    (ConfigurationError("pass a key"), "pass a key"),
    (ConnectionFailed("no route"), "no route; the client tries again by itself unless it was closed"),
    (
        ConnectionFailed("no route", attempts=3),
        "gave up after 3 failed attempts, the last one: no route; make a new client to try again",
    ),
    (
        ConnectTimeout("no route", timeout=2.5),
        (
            "not connected within 2.5 s: no route; "
            "pass a longer timeout to connect(), or use start() to keep trying in the background"
        ),
    ),
    (
        ConnectTimeout("no route", timeout=10.0, attempts=4),
        (
            "not connected within 10 s after 4 failed attempts: no route; "
            "pass a longer timeout to connect(), or use start() to keep trying in the background"
        ),
    ),
    (
        HandshakeRejected(404, {"server": "x"}),
        (
            "the server answered the WebSocket upgrade with HTTP 404; "
            "check the URL, and the server's status page if it goes on"
        ),
    ),
    (
        HandshakeRejected(429, {}, retry_after=7.0, attempts=2),
        (
            "the server answered the WebSocket upgrade with HTTP 429 and asks to wait 7 s; "
            "check the URL, and the server's status page if it goes on"
        ),
    ),
    (
        AuthenticationError("bad key"),
        "the server rejected the API key: bad key; check api_key or ALLENHARK_API_KEY",
    ),
    (
        AuthenticationError("bad key", 4401, attempts=1),
        "the server rejected the API key (4401): bad key; check api_key or ALLENHARK_API_KEY",
    ),
    (
        CertificateRejected("it has expired", "api.example.org"),
        (
            "the TLS certificate of api.example.org was rejected: it has expired; "
            "if a private authority signs it, pass ssl_context=ssl.create_default_context(cafile=…)"
        ),
    ),
    (
        CertificateRejected("it has expired"),
        (
            "the TLS certificate of the server was rejected: it has expired; "
            "if a private authority signs it, pass ssl_context=ssl.create_default_context(cafile=…)"
        ),
    ),
    (
        ConnectionLost("nothing came for 10 s", 1005, "bye"),
        "nothing came for 10 s; the client reconnects by itself unless it was closed",
    ),
    (
        RequestRejected(REFUSED[:2]),
        (
            "the server rejected a request: no such bot 0; no such bot 1 (1); "
            "check the ids of the channels subscribed last"
        ),
    ),
    (
        RequestRejected(REFUSED),
        (
            "the server rejected a request: no such bot 0; no such bot 1 (1); no such bot 2 (2) and 2 more; "
            "check the ids of the channels subscribed last"
        ),
    ),
    (
        FlushTimeout(0.5),
        "no answer from the server within 0.5 s; look at client.state, or pass a longer timeout",
    ),
    (StreamClosed(), "stream is closed and drained; make a new one with client.stream()"),
    (StreamClosed("stream-3"), "stream-3 is closed and drained; make a new one with client.stream()"),
    (
        SlowConsumer("stream-1", 100),
        (
            "stream-1 fell 100 events behind; read faster, make its queue larger, "
            'or choose overflow="drop_oldest", "latest" or "block"'
        ),
    ),
    (RecordingError("day.jsonl", "it cannot be read"), "day.jsonl: it cannot be read"),
    (RecordingError("day.jsonl", "not JSON", line=7), "day.jsonl, line 7: not JSON"),
    (
        RecordingError("day.jsonl", "not JSON", line=7, count=3),
        "day.jsonl, line 7: not JSON (and 2 more damaged lines; the others were read)",
    ),
    (ClientClosed(), "the client is closed; make a new Client"),
    (ClientClosed("inherited through a fork"), "inherited through a fork; make a new Client"),
]


def test_texts_of_the_server_are_quoted_in_part() -> None:
    """A message of a million characters does not make a text of a million characters."""
    error = RequestRejected([ServerError("m" * 1_000_000, "c" * 1_000_000)])
    assert f"{'m' * 500}… ({'c' * 500}…);" in str(error)
    assert len(str(error)) < 1200


IDS = [f"{type(error).__name__}-{number}" for number, (error, _) in enumerate(CASES)]


@pytest.mark.parametrize(("error", "text"), CASES, ids=IDS)
def test_texts(error: AllenHarkError, text: str) -> None:
    """The text is built from the facts and says what to do; the repr shows type and text."""
    assert str(error) == text
    assert repr(error) == f"{type(error).__name__}({text!r})"


@pytest.mark.parametrize("error", [error for error, _ in CASES], ids=IDS)
def test_copies_are_whole(error: AllenHarkError) -> None:
    """Every attribute survives pickling and copying, in every protocol."""
    twins = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for twin in (*twins, copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        for attribute in fields(type(error)):
            assert getattr(twin, attribute.name) == getattr(error, attribute.name), attribute.name


def test_events_in_an_error_keep_their_frames() -> None:
    """What hangs on the events of `RequestRejected` comes along."""
    twin = pickle.loads(pickle.dumps(RequestRejected(REFUSED)))
    assert twin.errors == REFUSED
    assert [(event.raw, event.received_at) for event in twin.errors] == [(b"{}", NOW)] * len(REFUSED)


def test_notes_are_pickled() -> None:
    """Notes (PEP 678) go along; without any there is no such attribute."""
    error: Any = ConnectionLost("gone")
    assert not hasattr(pickle.loads(pickle.dumps(error)), "__notes__")
    error.__notes__ = ["while testing"]
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while testing"]


def test_the_tree() -> None:
    """As the module's docstring draws it; two are timeouts and one a `ValueError` besides."""
    parents = {name: getattr(errors, name).__mro__[1] for name in errors.__all__}
    failed = {"ConnectTimeout", "HandshakeRejected", "AuthenticationError", "CertificateRejected"}
    assert parents.pop("AllenHarkError") is Exception
    assert {name for name, parent in parents.items() if parent is ConnectionFailed} == failed
    assert {parents[name] for name in set(parents) - failed} == {AllenHarkError}
    timeouts = {name for name in errors.__all__ if issubclass(getattr(errors, name), TimeoutError)}
    assert timeouts == {"ConnectTimeout", "FlushTimeout"}
    assert issubclass(ConfigurationError, ValueError)


def test_every_error_is_tested_here() -> None:
    """A new error needs a case above."""
    assert {type(error).__name__ for error, _ in CASES} == set(errors.__all__) - {"AllenHarkError"}


def test_the_base_names_itself() -> None:
    """It carries nothing; it is there to be caught."""
    assert str(AllenHarkError()) == "AllenHarkError"


def test_headers_are_copied() -> None:
    """What is done to the caller's headers later does not show; without any there is an empty mapping."""
    headers = {"server": "x"}
    error = HandshakeRejected(500, headers)
    headers.clear()
    assert error.headers == {"server": "x"}
    assert HandshakeRejected(500).headers == {}


def test_errors_can_be_raised_and_chained() -> None:
    """They are exceptions with an identity: two of equal facts differ, and a cause may be set."""
    cause = OSError("no route")
    with pytest.raises(ConnectionFailed) as caught:
        raise ConnectionFailed("no route") from cause
    assert caught.value.__cause__ is cause
    assert caught.value != ConnectionFailed("no route")
    assert hash(caught.value) == hash(caught.value)


def test_an_error_that_is_raised_again_keeps_nothing_of_anybody() -> None:
    """Neither what was being handled where it was raised, nor a frame of that; its cause is its own."""
    error, cause = ClientClosed(), OSError("gone")
    error.__cause__ = cause

    def handle(first: BaseException) -> None:
        try:
            raise first
        except LookupError:
            raise_again(error)

    for first in (KeyError("of the first one"), IndexError("of the other")):
        with pytest.raises(ClientClosed) as caught:
            handle(first)
        assert caught.value is error
        assert (error.__context__, error.__cause__) == (None, cause)
        names = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
        assert names == ["test_an_error_that_is_raised_again_keeps_nothing_of_anybody", "handle", "raise_again"]
