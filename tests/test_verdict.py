"""What a server's words mean: the key, trouble, or something else."""

from __future__ import annotations

from typing import Any

import pytest

from allenhark_ws._verdict import of_close, of_early_message, of_fresh_error
from allenhark_ws.errors import AuthenticationError, ConnectionFailed, ConnectionLost
from allenhark_ws.events import InvalidMessage, Pong, ServerError, UnknownMessage

from .fakes import off_the_wire

TROUBLE = [
    {"message": "Rate limit exceeded"},
    {"message": "rate-limited"},
    {"message": "ratelimit"},
    {"message": "Too many connections"},
    {"message": "too many requests"},
    {"message": "throttled"},
    {"message": "quota used up"},
    {"message": "slow down"},
    {"message": "server overloaded"},
    {"message": "at capacity"},
    {"message": "server is busy"},
    {"message": "service unavailable"},
    {"message": "down for maintenance"},
    {"message": "internal error"},
    {"message": "Internal Server Error"},
    {"message": "server error"},
    {"message": "bad gateway"},
    {"message": "auth backend timed out"},
    {"message": "gateway timeout"},
    {"message": "temporary failure"},
    {"message": "try again later"},
    {"message": "try again in 5 s"},
    {"message": "connection limit reached"},
    {"message": "maximum number of connections"},
    {"message": "max sessions"},
    {"message": "concurrent sessions exceeded"},
    {"message": "limit has been reached"},
    {"message": "you exceeded your limit"},
    {"message": "HTTP 503"},
    {"message": "status: 502"},
    {"message": "error 504"},
    {"message": "no", "code": 429},
    {"message": "no", "code": "429"},
    {"message": "no", "code": 500},
    {"message": "no", "code": 1013},
    {"message": "no", "code": "RATE_LIMITED"},
    {"message": "no", "code": "TooManyConnections"},
    {"message": "no", "code": "CONNECTION_LIMIT_EXCEEDED"},
    {"message": "no", "code": "GATEWAY_TIMEOUT"},
    {"message": "no", "statusCode": 503},
    {"message": "no", "http_status": 503},
    {"error": {"code": "x", "message": "no", "status": 503}},
    {"error": {"code": 429, "message": "no"}},
    {"reason": "rate limit"},
    {"message": "no", "detail": "too many connections"},
    {"message": "no", "details": {"text": "too many connections"}},
    {"message": "invalid api key or rate limit exceeded"},
    {"message": "invalid api key", "code": 503},
    {"message": "An error occurred on the server"},
    {"message": "internal exception"},
    {"message": "server crashed"},
    {"message": "the backend is unavailable"},
    {"message": "could not reach the database"},
    {"message": "database error"},
    {"message": "the server is restarting"},
    {"message": "a restart is scheduled"},
    {"message": "shutting down"},
    {"message": "no", "code": "ServerError"},
    {"message": "Rate exceeded"},
    {"message": "no more than 5 requests per second"},
    {"message": "no (429)"},
    {"message": "[503] no"},
    {"message": "no", "code": 429.0},
    {"message": {"text": "too many connections"}},
    {"message": "no", "error": {"type": "rate_limit_error"}},
    {"problem": "too many connections"},
    {"status": "error", "info": "rate limit exceeded"},
    {"code": 1, "info": "Too many connections"},
    {"code": 3, "statusText": "Too Many Requests"},
    {"error": {"code": -32000, "data": "too many connections"}},
    {"message": "Error", "err": "rate limit exceeded"},
    {"status": False, "info": "too many connections"},
]
"""Errors that say trouble, some of them naming the key too: those are retried all the same."""

NO_TROUBLE: list[dict[str, Any]] = [
    {},
    {"message": "nope"},
    {"message": "Invalid API key"},
    {"message": "Invalid API key, please try again"},
    {"message": "no", "code": 401},
    {"message": "no", "code": 5000},
    {"message": "no", "code": "X429"},
    {"message": "no", "id": 503},
    {"message": "no such code: É503"},
    {"message": "no", "timestamp": 500},
    {"message": "no", "requestId": "a-503-b"},
    {"message": "no", "status": ["rate limit"]},
    {"message": "no", "deep": {"deeper": {"text": "rate limit"}}},
    {"message": "Invalid API key", "docs": "https://docs.example/errors#rate-limits"},
    {"message": "Invalid API key", "server": "backend-7"},
    {"message": "Unauthorized", "upgrade": "raise your quota"},
    {"message": "API key not found in database"},
    {"message": "Your key has been restarted"},
    {"message": "server: authentication failed"},
    {"message": "the server refused the API key"},
    {"message": "API key revoked. Reach out to customer service."},
    {"message": "Account closed. Reach out to customer service."},
    {"message": "Auth error: this service needs a valid API key"},
    {"message": "Error in service authentication"},
    {"message": "Authentication error: unknown to this server"},
    {"message": "Invalid API key [512]"},
    {"message": "no", "code": 4.5},
]
"""Errors that do not clearly say trouble."""

KEY = [
    {"message": "Invalid API key"},
    {"message": "the api-key is wrong"},
    {"message": "bad apiKey"},
    {"message": "access key denied"},
    {"message": "auth key"},
    {"message": "Authentication failed"},
    {"message": "not authenticated"},
    {"message": "Unauthenticated"},
    {"message": "auth required"},
    {"message": "Unauthorized"},
    {"message": "unauthorised"},
    {"message": "wrong credentials"},
    {"message": "your key has been revoked"},
    {"message": "key is expired"},
    {"message": "key was disabled"},
    {"message": "key unknown"},
    {"message": "invalid key"},
    {"message": "rejected key"},
    {"message": "no", "code": "AUTH_FAILED"},
    {"message": "no", "code": "AuthError"},
    {"message": "no", "code": "InvalidApiKey"},
    {"message": "no", "code": "UNAUTHORIZED_CLIENT"},
    {"message": "no", "code": 401},
    {"message": "no", "code": "401"},
    {"message": "no", "code": 3000},
    {"message": "no", "code": 4001},
    {"message": "no", "code": 4401},
    {"message": "no", "status": 401},
    {"error": {"message": "no", "code": "INVALID_KEY"}},
    {"message": "no", "reason": "invalid api key"},
    {"message": "missing key"},
    {"message": "key required"},
    {"message": "no such key"},
    {"message": "key suspended"},
    {"message": "your key is missing"},
    {"message": "Expired key: renew your plan"},
    {"message": "Revoked key: contact support"},
    {"message": "Invalid key: expired"},
    {"message": "HTTP 401"},
    {"error": {"type": "authentication_error", "message": "no"}},
]
"""Errors that clearly speak of the key or of authentication."""

NO_KEY: list[dict[str, Any]] = [
    {},
    {"message": "unknown channel"},
    {"message": "invalid public key"},
    {"message": "the public key is invalid"},
    {"message": "unknown author"},
    {"message": "monkey is wrong about this"},
    {"message": "the step préauth failed"},
    {"message": "no", "code": 400},
    {"message": "no", "code": 4010},
    {"message": "no", "code": 403},
    {"message": "no", "id": 401},
    {"message": "access denied"},
    {"message": "unknown mint", "docs": "https://docs.example/api-keys"},
    {"message": "unknown mint", "hint": "see /docs/authentication"},
    {"message": "already authenticated"},
    {"message": "unknown message type: auth"},
    {"message": "unknown type auth"},
    {"message": "Unknown key 'foo' in message"},
    {"message": "invalid key in JSON: botID"},
    {"message": 'unknown key: "foo"'},
    {"message": "missing key botId"},
    {"message": "botId key is required"},
    {"message": "JSON key missing: mint"},
]
"""Errors that do not."""


def error(message: dict[str, Any]) -> ServerError:
    """An ``error`` as it comes off the wire."""
    event = off_the_wire({"type": "error"} | message)
    assert isinstance(event, ServerError)
    return event


def unknown(message: dict[str, Any]) -> UnknownMessage:
    """A reply of a type nobody documented, as it comes off the wire."""
    event = off_the_wire(message)
    assert isinstance(event, UnknownMessage)
    return event


@pytest.mark.parametrize("message", TROUBLE)
def test_an_early_error_that_says_trouble_is_retried(message: dict[str, Any]) -> None:
    """Rate limits, too many connections and server trouble pass; they say nothing about the key."""
    failure = of_early_message(error(message))
    assert type(failure) is ConnectionFailed


@pytest.mark.parametrize("message", NO_TROUBLE + NO_KEY)
def test_any_other_early_error_is_a_rejection(message: dict[str, Any]) -> None:
    """Before the first pong nothing but auth was asked for, so an error is its answer."""
    event = error(message)
    failure = of_early_message(event)
    assert isinstance(failure, AuthenticationError)
    assert failure.code == event.code
    assert failure.reason == (event.message or "an error without a text")


def test_what_a_retried_error_tells() -> None:
    """The text and the code."""
    told = [of_early_message(ServerError("too many", code)) for code in (None, 429)]
    assert [getattr(failure, "reason", None) for failure in told] == [
        "the server answered an error to auth: too many",
        "the server answered an error to auth: too many (429)",
    ]


NEGATIVE = [
    {"type": "auth_error"},
    {"type": "auth_failed", "success": True},
    {"type": "unauthorized"},
    {"type": "auth", "success": False},
    {"type": "authenticated", "success": False},
    {"type": "auth", "error": "no"},
    {"type": "auth", "error": {}},
    {"type": "auth", "success": True, "error": "no"},
    *({"type": "auth", "status": status} for status in ("error", "failed", "failure", "denied", "Unauthorized")),
    *({"type": "authenticated", "status": status} for status in ("FORBIDDEN", "invalid")),
]


@pytest.mark.parametrize("message", NEGATIVE)
def test_negative_replies(message: dict[str, Any]) -> None:
    """A reply of an auth-like type that says no is a rejection."""
    failure = of_early_message(unknown(message))
    assert isinstance(failure, AuthenticationError)
    assert failure.reason == f"it answered {message['type']!r} to auth"
    assert failure.code is None


@pytest.mark.parametrize("message", NEGATIVE)
def test_negative_replies_that_say_trouble_are_retried(message: dict[str, Any]) -> None:
    """As with errors: too many connections are no wrong key."""
    failure = of_early_message(unknown(message | {"message": "too many connections"}))
    assert type(failure) is ConnectionFailed
    assert failure.reason == f"the server answered an error to auth: it answered {message['type']!r} to auth"


@pytest.mark.parametrize(
    "message",
    [
        {"type": "auth"},
        {"type": "auth", "success": True},
        {"type": "auth", "success": 0},
        {"type": "auth", "success": True, "error": None},
        {"type": "authenticated", "error": False},
        {"type": "auth", "error": ""},
        {"type": "auth", "status": "ok"},
        {"type": "auth", "status": 401},
        {"type": "auth", "status": ["error"]},
        {"type": "auth_success", "success": False},
        {"type": "connected", "status": "error"},
        {"type": "AUTH_ERROR"},
        {"type": "authentication_notice", "error": "no"},
    ],
)
def test_replies_that_are_not_negative(message: dict[str, Any]) -> None:
    """Positive, undecided or of another type: not waited for, and no harm."""
    assert of_early_message(unknown(message)) is None


@pytest.mark.parametrize(
    "event",
    [
        Pong(),
        InvalidMessage("not JSON: unauthorized"),
        off_the_wire(
            {"type": "bot_update", "botId": "b", "event": "unauthorized", "data": {"error": "invalid api key"}}
        ),
    ],
)
def test_other_early_messages_say_nothing(event: Any) -> None:
    """Only errors and auth-like replies can reject."""
    assert of_early_message(event) is None


@pytest.mark.parametrize("message", KEY)
def test_a_fresh_error_about_the_key_is_a_rejection(message: dict[str, Any]) -> None:
    """A server may answer the ping before it has checked the key."""
    event = error(message)
    failure = of_fresh_error(event)
    assert failure is not None
    assert (failure.reason, failure.code) == (event.message, event.code)


@pytest.mark.parametrize("message", NO_KEY + TROUBLE)
def test_other_fresh_errors_are_none(message: dict[str, Any]) -> None:
    """Not clearly about the key, or trouble: a message like any other."""
    assert of_fresh_error(error(message)) is None


@pytest.mark.parametrize("key", ["channel", "botId", "mint", "wallet"])
@pytest.mark.parametrize(
    "message",
    [
        {"message": "unauthorized"},
        {"message": "no", "code": 401},
        {"message": "your API key has no access to this bot"},
        {"message": "invalid key"},
    ],
)
def test_a_fresh_error_about_a_channel_is_none(key: str, message: dict[str, Any]) -> None:
    """A bot one may not watch does not make the key wrong."""
    assert of_fresh_error(error(message | {key: "x"})) is None


@pytest.mark.parametrize("key", ["channel", "botId", "mint", "wallet"])
@pytest.mark.parametrize(
    "message",
    [
        {"message": "Invalid API key"},
        {"message": "no", "code": "BAD_API_KEY"},
        {"message": "the api key is wrong"},
        {"message": "apiKey has been revoked"},
        {"message": "the API\u00a0key is wrong"},
    ],
)
def test_a_fresh_error_that_calls_the_key_bad_is_a_rejection(key: str, message: dict[str, Any]) -> None:
    """Whatever channel it names: a server may check the key no sooner than it needs it."""
    assert isinstance(of_fresh_error(error(message | {key: "x"})), AuthenticationError)
    assert of_fresh_error(error(message | {key: "x", "detail": "too many connections"})) is None


def test_a_fresh_error_without_a_text() -> None:
    """The code alone can reject."""
    failure = of_fresh_error(error({"code": "UNAUTHORIZED"}))
    assert failure is not None
    assert (failure.reason, failure.code) == ("an error without a text", "UNAUTHORIZED")


@pytest.mark.parametrize("code", [1008, 3000, 3003, 4001, 4003, 4401, 4403])
@pytest.mark.parametrize("reason", ["", "who are you?", "too many connections"])
def test_auth_like_closes(code: int, reason: str) -> None:
    """The code decides, whatever the reason says."""
    failure = of_close(ConnectionLost("closed", code, reason))
    assert failure is not None
    assert failure.code == code
    assert failure.reason == (reason or "the connection was closed without a reason")


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1005, 1006, 1007, 1009, 1011, 1012, 1013, 3001, 4000, 4002, 4400])
def test_every_other_close_is_retried(code: int) -> None:
    """Even one whose reason speaks of the key."""
    assert of_close(ConnectionLost("closed", code, "unauthorized: invalid api key")) is None


def test_long_texts_are_read_and_quoted_in_part() -> None:
    """What an error says beyond the first few thousand characters decides nothing, and its text stays readable."""
    late = of_early_message(ServerError("x" * 5000 + " rate limit", "c" * 5000))
    assert isinstance(late, AuthenticationError)
    assert late.reason == "x" * 500 + "…"
    assert late.code == "c" * 500 + "…"
    early = of_early_message(ServerError("rate limit " + "x" * 5000))
    assert type(early) is ConnectionFailed
    assert len(early.reason) < 600
    fresh = of_fresh_error(ServerError("invalid api key " + "x" * 5000, "c" * 5000))
    assert isinstance(fresh, AuthenticationError)
    assert fresh.reason.endswith("x…")
    assert fresh.code == "c" * 500 + "…"


def test_a_reply_of_many_texts_is_read_in_part() -> None:
    """Texts are read in the order in which they came, the message first, and no more than so many characters."""
    many = {f"key{number}": "x" * 100 for number in range(100)}
    message = {"type": "error", "message": "no", **many, "last": "rate limit"}
    assert isinstance(of_early_message(off_the_wire(message)), AuthenticationError)


@pytest.mark.parametrize(
    "text", ["auth " * 50_000, "key " * 50_000, "limit " * 50_000, "auth" + " " * 200_000, "error auth " * 20_000]
)
def test_long_texts_cost_no_time_worth_mentioning(text: str) -> None:
    """A message of the largest size is judged in one pass, or this test would not come back."""
    assert isinstance(of_early_message(ServerError(text)), AuthenticationError)
