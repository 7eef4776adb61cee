"""Every error of the package, each carrying its facts as attributes and a text that says what to do next.

::

    AllenHarkError
    ├── ConfigurationError (ValueError)      an argument or the environment is wrong
    ├── ConnectionFailed                     no connection could be made; the client may have ended
    │   ├── ConnectTimeout (TimeoutError)    connect() waited long enough
    │   ├── HandshakeRejected                the server answered the upgrade with an HTTP status
    │   ├── AuthenticationError              the server does not accept the API key
    │   └── CertificateRejected              the server's TLS certificate does not verify
    ├── ConnectionLost                       why an established connection ended
    ├── RequestRejected                      the server answered requests with errors; raised by flush()
    ├── FlushTimeout (TimeoutError)          flush() waited long enough
    ├── StreamClosed                         the stream is closed and drained
    ├── SlowConsumer                         a consumer with overflow="error" fell behind
    ├── RecordingError                       a recording, or a line of it, cannot be read
    └── ClientClosed                         the client is closed, or was inherited through a fork

All are picklable and can be built by hand with the fields named.  Neighbours: `_transport` translates foreign errors
into these, `_session` decides which of them end the client.  A text made here must never contain an API key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn

import attrs
from attrs import Factory, define, field

from ._hints import Later
from ._words import counted

if TYPE_CHECKING:
    import allenhark_ws
else:
    allenhark_ws = Later("allenhark_ws")

__all__ = [
    "AllenHarkError",
    "AuthenticationError",
    "CertificateRejected",
    "ClientClosed",
    "ConfigurationError",
    "ConnectTimeout",
    "ConnectionFailed",
    "ConnectionLost",
    "FlushTimeout",
    "HandshakeRejected",
    "RecordingError",
    "RequestRejected",
    "SlowConsumer",
    "StreamClosed",
]


_QUOTED: Final = 500
"""Characters of a server's text that an error's own may quote."""


def _to_dict(headers: Mapping[str, str]) -> dict[str, str]:
    return dict(headers)


def _to_tuple(errors: Iterable[allenhark_ws.ServerError]) -> tuple[allenhark_ws.ServerError, ...]:
    return tuple(errors)


def _rejection(error: HandshakeRejected) -> str:
    return f"the server answered the WebSocket upgrade with HTTP {error.status}"


def shortened(text: str) -> str:
    """As much of a server's text as belongs into one of ours: it may have a million characters."""
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"


def raise_again(error: Exception) -> NoReturn:
    """Raise an error that others may have been given before, or be given next, with nothing of theirs nor for them.

    Neither the frames through which it went, nor the exception that was being handled where it was raised.
    """
    try:
        raise error.with_traceback(None)
    finally:
        error.__context__ = None
        del error  # this frame is held by the error now


def _rebuild(cls: type[AllenHarkError], fields: dict[str, Any], notes: list[str]) -> AllenHarkError:
    error = cls(**fields)
    if notes:
        vars(error)["__notes__"] = notes  # what BaseException.add_note sets from Python 3.11 on
    return error


@define(slots=False, eq=False, repr=False)
class AllenHarkError(Exception):
    """Base of all errors of this package; catch it to catch them all.

    Example:
        >>> client.close()
        >>> try:
        ...     client.flush()
        ... except AllenHarkError as error:
        ...     print(error)
        the client is closed; make a new Client
    """

    def __str__(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        cls: type[Any] = type(self)
        fields = {a.name: getattr(self, a.name) for a in attrs.fields(cls) if a.init}
        return _rebuild, (cls, fields, list(getattr(self, "__notes__", ())))


@define(slots=False, eq=False, repr=False)
class ConfigurationError(AllenHarkError, ValueError):
    """An argument of `Client` or `Backoff`, or a value in the environment, cannot be used.

    Attributes:
        problem: what is wrong and what to pass instead.

    Example:
        >>> Client(pong_timeout=0)
        Traceback (most recent call last):
        allenhark_ws.errors.ConfigurationError: Client(pong_timeout=…) must be more than 0, got 0
    """

    problem: str

    def __str__(self) -> str:
        return self.problem


@define(slots=False, eq=False, repr=False)
class ConnectionFailed(AllenHarkError):
    """No connection could be made: an attempt failed, or, as `Client.error`, all that were allowed did.

    Attributes:
        reason: what failed, in words.
        attempts: how many attempts failed in a row when the client gave up; None for a single attempt.

    Example:
        >>> simulator.refuse()
        >>> try:
        ...     Client(backoff=Backoff(initial=0.01, max_attempts=2)).run_forever()
        ... except ConnectionFailed as error:
        ...     print(error.attempts)
        2
    """

    reason: str
    attempts: int | None = field(default=None, kw_only=True)

    def __str__(self) -> str:
        if self.attempts is None:
            return f"{self.reason}; the client tries again by itself unless it was closed"
        return (
            f"gave up after {counted(self.attempts, 'failed attempt')}, the last one: {self.reason}; "
            "make a new client to try again"
        )


@define(slots=False, eq=False, repr=False)
class ConnectTimeout(ConnectionFailed, TimeoutError):
    """`Client.connect` was not READY in time; the client is closed and the last failure is the `__cause__`.

    Attributes:
        timeout: seconds waited.

    Example:
        >>> simulator.refuse()
        >>> try:
        ...     Client().connect(timeout=0.1)
        ... except ConnectTimeout as error:
        ...     print(error.timeout)
        0.1
    """

    timeout: float = field(default=0.0, kw_only=True)

    def __str__(self) -> str:
        tries = "" if not self.attempts else f" after {counted(self.attempts, 'failed attempt')}"
        return (
            f"not connected within {self.timeout:g} s{tries}: {self.reason}; "
            "pass a longer timeout to connect(), or use start() to keep trying in the background"
        )


@define(slots=False, eq=False, repr=False)
class HandshakeRejected(ConnectionFailed):
    """The server, or something before it, answered the upgrade by another HTTP status than 101 (RFC 6455, 4.1).

    Attributes:
        status: the HTTP status code; 401 and 403 are an `AuthenticationError` instead.
        headers: the response's headers as received, names in lower case.
        retry_after: seconds the server asked us to wait (``Retry-After``; RFC 9110, 10.2.3), or None.

    Example:
        >>> error = HandshakeRejected(429, {"retry-after": "7"}, retry_after=7.0)
        >>> error.status, error.headers["retry-after"]
        (429, '7')
    """

    status: int
    headers: Mapping[str, str] = field(factory=dict[str, str], converter=_to_dict)
    retry_after: float | None = field(default=None, kw_only=True)
    reason: str = field(init=False, default=Factory(_rejection, takes_self=True))

    def __str__(self) -> str:
        wait = "" if self.retry_after is None else f" and asks to wait {self.retry_after:g} s"
        return f"{self.reason}{wait}; check the URL, and the server's status page if it goes on"


@define(slots=False, eq=False, repr=False)
class AuthenticationError(ConnectionFailed):
    """The server does not accept the API key.

    Attributes:
        reason: what the server said, the key itself redacted.
        code: the close code, HTTP status or error code it said it with, or None.

    Example:
        >>> try:
        ...     Client("a wrong key").connect()
        ... except AuthenticationError as error:
        ...     print(error.reason)
        invalid API key
    """

    code: int | str | None = None

    def __str__(self) -> str:
        code = "" if self.code is None else f" ({self.code})"
        return f"the server rejected the API key{code}: {self.reason}; check api_key or ALLENHARK_API_KEY"


@define(slots=False, eq=False, repr=False)
class CertificateRejected(ConnectionFailed):
    """The server's TLS certificate does not verify: wrong host, unknown issuer, or out of date.

    Attributes:
        reason: what the verification found.
        host: the host name that was to be verified.

    Example:
        >>> with Simulator(tls=True) as stranger:
        ...     try:
        ...         Client(url=stranger.url).connect()
        ...     except CertificateRejected as error:
        ...         print(error.host)
        localhost
    """

    host: str = ""

    def __str__(self) -> str:
        return (
            f"the TLS certificate of {self.host or 'the server'} was rejected: {self.reason}; "
            "if a private authority signs it, pass ssl_context=ssl.create_default_context(cafile=…)"
        )


@define(slots=False, eq=False, repr=False)
class ConnectionLost(AllenHarkError):
    """Why an established connection ended; found as `cause` of `Disconnected` and `Gap`.

    Attributes:
        reason: what happened, in words.
        code: the close code the server sent, 1005 for a close without one, 1006 when no close came (RFC 6455, 7.4.1).
        close_reason: the server's close reason, the key redacted; empty when there was none.

    Example:
        >>> losses = client.stream(Disconnected)
        >>> simulator.reset()
        >>> losses.get(timeout=5).cause.code
        1006
    """

    reason: str
    code: int = 1006
    close_reason: str = ""

    def __str__(self) -> str:
        return f"{self.reason}; the client reconnects by itself unless it was closed"


@define(slots=False, eq=False, repr=False)
class RequestRejected(AllenHarkError):
    """The server answered errors while `flush` waited: something sent before it was not accepted.

    Attributes:
        errors: the `ServerError` events, oldest first.

    Example:
        >>> RequestRejected([ServerError("no such mint", 404)]).errors
        (ServerError(message='no such mint', code=404),)
    """

    errors: tuple[allenhark_ws.ServerError, ...] = field(converter=_to_tuple)

    def __str__(self) -> str:
        told = "; ".join(
            shortened(e.message) + ("" if e.code is None else f" ({shortened(str(e.code))})") for e in self.errors[:3]
        )
        more = "" if len(self.errors) <= 3 else f" and {len(self.errors) - 3} more"
        return f"the server rejected a request: {told}{more}; check the ids of the channels subscribed last"


@define(slots=False, eq=False, repr=False)
class FlushTimeout(AllenHarkError, TimeoutError):
    """`Client.flush` got no answer in time; the connection may still be fine, or be reconnecting.

    Attributes:
        timeout: seconds waited.

    Example:
        >>> simulator.mute_pongs()
        >>> try:
        ...     client.flush(timeout=0.1)
        ... except FlushTimeout as error:
        ...     print(error)
        no answer from the server within 0.1 s; look at client.state, or pass a longer timeout
    """

    timeout: float

    def __str__(self) -> str:
        return f"no answer from the server within {self.timeout:g} s; look at client.state, or pass a longer timeout"


@define(slots=False, eq=False, repr=False)
class StreamClosed(AllenHarkError):
    """The stream is closed and everything queued was read.

    Attributes:
        name: the stream's name.

    Example:
        >>> stream = client.stream(Gap)
        >>> stream.close()
        >>> stream.get()
        Traceback (most recent call last):
        allenhark_ws.errors.StreamClosed: stream-1(Gap) is closed and drained; make a new one with client.stream()
    """

    name: str = "stream"

    def __str__(self) -> str:
        return f"{self.name} is closed and drained; make a new one with client.stream()"


@define(slots=False, eq=False, repr=False)
class SlowConsumer(AllenHarkError):
    """A consumer with ``overflow="error"`` did not keep up and its queue was full.

    Attributes:
        consumer: the consumer's name.
        maxsize: how many events its queue holds.

    Example:
        >>> error = SlowConsumer("stream-1(PriceUpdate)", maxsize=10_000)
        >>> error.consumer, error.maxsize
        ('stream-1(PriceUpdate)', 10000)
    """

    consumer: str
    maxsize: int

    def __str__(self) -> str:
        return (
            f"{self.consumer} fell {counted(self.maxsize, 'event')} behind; read faster, make its queue larger, "
            'or choose overflow="drop_oldest", "latest" or "block"'
        )


@define(slots=False, eq=False, repr=False)
class RecordingError(AllenHarkError):
    """A file is no recording, or a line of it is damaged.

    Attributes:
        path: the file.
        problem: what is wrong, and what can be done about it.
        line: the number of the line, the header's being 1; None when it is not about one.
        count: how many lines in all are damaged, this one being the first.

    Example:
        >>> from pathlib import Path
        >>> length = Path("notes.txt").write_text("no recording")
        >>> try:
        ...     replay("notes.txt")
        ... except RecordingError as error:
        ...     print(error.problem)
        this is no recording: its first line is not the header of one
    """

    path: str
    problem: str
    line: int | None = field(default=None, kw_only=True)
    count: int = field(default=1, kw_only=True)

    def __str__(self) -> str:
        where = self.path if self.line is None else f"{self.path}, line {self.line}"
        if self.count == 1:
            return f"{where}: {self.problem}"
        return f"{where}: {self.problem} (and {counted(self.count - 1, 'more damaged line')}; the others were read)"


@define(slots=False, eq=False, repr=False)
class ClientClosed(AllenHarkError):
    """The client is closed for good, or belongs to the parent of this forked process.

    Attributes:
        reason: why it cannot be used.

    Example:
        >>> client.close()
        >>> client.subscribe(Price("M"))
        Traceback (most recent call last):
        allenhark_ws.errors.ClientClosed: the client is closed; make a new Client
    """

    reason: str = "the client is closed"

    def __str__(self) -> str:
        return f"{self.reason}; make a new Client"
