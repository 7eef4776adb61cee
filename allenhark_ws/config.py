"""Settings: `Backoff` and the checked arguments of `Client`.

Everything wrong is found here, on construction, and answered with a `ConfigurationError` that says what to pass.
Neighbours: `client` builds `Settings` from its arguments, `_session` and `_transport` read them.  It must never show a
key: that travels as a `Secret`.
"""

from __future__ import annotations

import inspect
import ipaddress
import math
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import SplitResult, urlsplit

from attrs import field, frozen

from ._hints import Later
from .errors import ConfigurationError

if TYPE_CHECKING:
    import ssl

    from attrs import Attribute
else:
    ssl = Later("ssl")

__all__ = ["DEFAULT_URL", "INSTALL_SOCKS", "OVERFLOW_POLICIES", "Backoff", "Secret", "Settings", "is_loopback"]

_URL_VARIABLE: Final = "ALLENHARK_WS_URL"

DEFAULT_URL: Final = "wss://api.allenhark.com/v1/ws"
"""The vendor's endpoint."""

OVERFLOW_POLICIES: Final = ("drop_oldest", "drop_newest", "latest", "block", "error")
"""What a full queue may do; see `Client.stream`."""

INSTALL_SOCKS: Final = 'pip install "allenhark-ws[socks]"'
"""What brings the library for SOCKS proxies."""

_RESERVED_HEADERS: Final = frozenset({"host", "upgrade", "connection", "content-length", "transfer-encoding"})
_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def _name(instance: object, attribute: Attribute[Any]) -> str:
    owner = "Client" if isinstance(instance, Settings) else type(instance).__name__
    return f"{owner}({attribute.name}=…)"


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def _number(minimum: float, *, above: bool = False, optional: bool = False) -> Callable[[Any, Any, Any], None]:
    """A validator: a finite number of at least (or above) the minimum."""
    bound = f"{'more than' if above else 'at least'} {minimum:g}"

    def check(instance: object, attribute: Attribute[Any], value: object) -> None:
        if value is None and optional:
            return
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            kinds = "a number or None" if optional else "a number"
            raise ConfigurationError(f"{_name(instance, attribute)} takes {kinds}, got {type(value).__name__}")
        if not _is_finite(value):
            raise ConfigurationError(f"{_name(instance, attribute)} must be finite and {bound}")
        if value < minimum or (above and value == minimum):
            raise ConfigurationError(f"{_name(instance, attribute)} must be {bound}, got {value!r}")

    return check


def _whole(minimum: int, *, optional: bool = False) -> Callable[[Any, Any, Any], None]:
    """A validator: an integer of at least the minimum."""

    def check(instance: object, attribute: Attribute[Any], value: object) -> None:
        if value is None and optional:
            return
        if isinstance(value, bool) or not isinstance(value, int):
            kinds = "a whole number or None" if optional else "a whole number"
            raise ConfigurationError(f"{_name(instance, attribute)} takes {kinds}, got {type(value).__name__}")
        if value < minimum:
            raise ConfigurationError(f"{_name(instance, attribute)} must be at least {minimum}, got {value}")

    return check


def _instance_of(kind: type, plain: str) -> Callable[[Any, Any, Any], None]:
    def check(instance: object, attribute: Attribute[Any], value: object) -> None:
        if not isinstance(value, kind):
            raise ConfigurationError(f"{_name(instance, attribute)} takes {plain}, got {type(value).__name__}")

    return check


_INITIAL: Final = 0.5
"""Seconds of `Backoff.initial` where nothing is said."""


@frozen
class Backoff:
    """How long to wait between tries: exponential with full jitter.

    The n-th wait is drawn evenly from 0 to ``min(maximum, initial * multiplier ** n)`` ("Full Jitter" of Marc Brooker's
    "Exponential Backoff And Jitter", 2015); the first retry after the loss of a stable connection comes at once.

    Args:
        initial: upper bound of the first wait, seconds, more than 0.
        maximum: upper bound of any wait, seconds, at least `initial`, unless that is the default, which gives way.
        multiplier: growth of the bound from try to try, at least 1.
        reset_after: a connection that was READY this many seconds counts as stable and starts the count anew.
        max_attempts: this many failed attempts in a row end the client with `ConnectionFailed`; None: never.

    Raises:
        ConfigurationError: a value is out of range or of another type.

    Example:
        >>> Backoff(initial=1.0, max_attempts=5)
        Backoff(initial=1.0, maximum=30.0, multiplier=2.0, reset_after=30.0, max_attempts=5)
    """

    initial: float = field(default=_INITIAL, validator=_number(0, above=True))
    maximum: float = field(default=30.0, validator=_number(0, above=True))
    multiplier: float = field(default=2.0, validator=_number(1))
    reset_after: float = field(default=30.0, validator=_number(0))
    max_attempts: int | None = field(default=None, validator=_whole(1, optional=True))

    def __attrs_post_init__(self) -> None:
        if self.maximum < self.initial != _INITIAL:  # the default is no wish, and gives way
            raise ConfigurationError(
                f"Backoff(maximum={self.maximum!r}) is below initial={self.initial!r}; pass a larger maximum"
            )


class Secret:
    """Holds an API key, or the callable that gives it, so that no repr, pickle or stray local shows it."""

    __slots__ = ("__source", "__weakref__")

    def __init__(self, source: object) -> None:
        self.__source = source

    @classmethod
    def wrap(cls, source: object) -> Secret:
        """The source as a secret; one that is wrapped already stays as it is."""
        return source if isinstance(source, Secret) else cls(source)

    @property
    def is_callable(self) -> bool:
        """Whether this is a callable that has to be asked for the key."""
        return callable(self.__source)

    def problem(self) -> str | None:
        """What is wrong with the key as given, or None."""
        if not callable(self.__source):
            return self._problem_with(self)
        if does_nothing_yet(self.__source):
            return "the api_key callable is an async function or a generator, whose call gives no key"
        if not _takes_nothing(self.__source):
            return "the api_key callable needs arguments, but is called without any"
        return None

    @staticmethod
    def _problem_with(secret: Secret) -> str | None:
        if not isinstance(secret.__source, str):
            return f"the API key must be a string, got {type(secret.__source).__name__}"
        if not secret.__source.strip():
            return "the API key is empty"
        if not secret.__source.isprintable():
            return "the API key holds a control character, perhaps a line break from a file; strip it"
        return None

    def current(self) -> Secret:
        """The key to use now, itself wrapped; asks the callable if there is one.

        Raises:
            ConfigurationError: the callable returned something that is no key.
            Exception: whatever the callable raises.
        """
        if not callable(self.__source):
            return self
        secret = Secret(self.__source())
        problem = self._problem_with(secret)
        if problem is not None:
            raise ConfigurationError(f"{problem} (from the api_key callable)")
        return secret

    def reveal(self) -> str:
        """The key itself; never bind the result to a name."""
        if not isinstance(self.__source, str):
            raise TypeError("this secret is a callable: ask current() first")
        return self.__source

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a secret cannot be pickled")


def does_nothing_yet(function: Callable[..., object]) -> bool:
    """Whether a call only makes something that is to be awaited, or gone through."""
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)
    try:
        return any(is_kind(each) for is_kind in kinds for each in (function, type(function).__call__))
    except Exception:  # noqa: BLE001 - it looks at the user's object, which may raise anything
        return False


def _takes_nothing(function: Callable[..., object]) -> bool:
    """Whether it can be called without arguments, as far as it tells; some builtins do not, nor do some decorators."""
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except Exception:  # noqa: BLE001 - it looks at the user's object, which may raise anything
        return True
    try:
        signature.bind()
    except TypeError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether the host name or address is this machine's own."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _parts(url: str) -> SplitResult | None:
    """The parts of a URL whose port can be read, or None: the error, even as a context, could quote a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _split(url: object, what: str, schemes: tuple[str, ...]) -> SplitResult:
    if not isinstance(url, str):
        raise ConfigurationError(f"{what} takes a URL as text, got {type(url).__name__}")
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    parts = _parts(url)
    if parts is None:
        raise ConfigurationError(f"{what} is no URL; pass {wanted}host[:port]/path")
    if parts.scheme not in schemes:
        raise ConfigurationError(f"{what} must start with {wanted}")
    if not parts.hostname or parts.port == 0 or any(c.isspace() or not c.isprintable() for c in url):
        raise ConfigurationError(f"{what} needs a host, a port from 1 to 65535 if any, and no white space")
    return parts


def _check_url(instance: Settings, _attribute: Attribute[Any], value: object) -> None:
    what = f"the URL in {_URL_VARIABLE}" if value and value == os.environ.get(_URL_VARIABLE) else "Client(url=…)"
    parts = _split(value, what, ("wss", "ws"))
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"{what} must not carry a user name or password: pass api_key instead")
    if parts.fragment:
        raise ConfigurationError(f"{what} must not have a fragment (#…): RFC 6455, section 3")
    if parts.scheme == "ws" and not instance.allow_insecure and not is_loopback(parts.hostname or ""):
        raise ConfigurationError(
            f"{what} with ws:// would send the API key in clear: use wss://, or pass allow_insecure=True"
        )


def _check_proxy(_instance: object, _attribute: Attribute[Any], value: object) -> None:
    if value is None or value is False:
        return
    if value is True:
        raise ConfigurationError("Client(proxy=…) takes a URL, None (the environment) or False (direct), got True")
    parts = _split(value, "Client(proxy=…)", ("http", "socks4", "socks4a", "socks5", "socks5h"))
    if parts.scheme != "http" and not _is_installed("python_socks"):
        raise ConfigurationError(f"Client(proxy=…) with {parts.scheme}:// needs python-socks: {INSTALL_SOCKS}")


def _is_installed(name: str) -> bool:
    """Whether a package is there; it is not loaded."""
    from importlib.util import find_spec  # noqa: PLC0415 - few need it

    return find_spec(name) is not None


def _check_headers(_instance: object, _attribute: Attribute[Any], value: Mapping[object, object]) -> None:
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise ConfigurationError("Client(headers=…) takes a mapping of text to text")
        if not name or not set(name) <= _TOKEN:
            raise ConfigurationError(f"Client(headers=…) has the name {name!r}, which is no HTTP header name")
        if name.lower() in _RESERVED_HEADERS or name.lower().startswith("sec-websocket-"):
            raise ConfigurationError(f"Client(headers=…) must not set {name}: the upgrade needs its own")
        if not text.isascii() or not text.replace("\t", " ").isprintable():  # RFC 9110, section 5.5
            raise ConfigurationError(f"Client(headers=…) has a value for {name} that is not one line of ASCII text")


def _to_headers(value: object) -> Mapping[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"Client(headers=…) takes a mapping of text to text, got {type(value).__name__}")
    return dict(cast("Mapping[str, str]", value))


def _check_ssl_context(_instance: object, _attribute: Attribute[Any], value: object) -> None:
    if value is None:
        return
    import ssl  # noqa: PLC0415 - importing the package must not load it

    if not isinstance(value, ssl.SSLContext):
        raise ConfigurationError(f"Client(ssl_context=…) takes an ssl.SSLContext, got {type(value).__name__}")
    if value.protocol is ssl.PROTOCOL_TLS_SERVER:
        raise ConfigurationError("Client(ssl_context=…) is a server's: pass one of ssl.create_default_context()")


def _check_overflow(instance: object, attribute: Attribute[Any], value: object) -> None:
    if value not in OVERFLOW_POLICIES:
        raise ConfigurationError(f"{_name(instance, attribute)} must be one of {', '.join(OVERFLOW_POLICIES)}")


def _check_secret(_instance: object, _attribute: Attribute[Any], value: Secret) -> None:
    problem = value.problem()
    if problem is not None:
        raise ConfigurationError(f"{problem}: pass Client(api_key=…) or set ALLENHARK_API_KEY")


@frozen(kw_only=True)
class Settings:
    """The arguments of `Client`, checked; `Client` documents their meaning."""

    api_key: Secret = field(validator=_check_secret)
    allow_insecure: bool = field(validator=_instance_of(bool, "True or False"))
    url: str = field(validator=_check_url)
    heartbeat_interval: float = field(validator=_number(0, above=True))
    pong_timeout: float = field(validator=_number(0, above=True))
    connect_timeout: float = field(validator=_number(0, above=True))
    send_timeout: float = field(validator=_number(0, above=True))
    backoff: Backoff = field(validator=_instance_of(Backoff, "a Backoff"))
    decimal: bool = field(validator=_instance_of(bool, "True or False"))
    callback_buffer: int = field(validator=_whole(1))
    callback_overflow: str = field(validator=_check_overflow)
    inline_callbacks: bool = field(validator=_instance_of(bool, "True or False"))
    max_send_rate: float | None = field(validator=_number(0, above=True, optional=True))
    ssl_context: ssl.SSLContext | None = field(validator=_check_ssl_context)
    proxy: str | bool | None = field(validator=_check_proxy, repr=False)
    headers: Mapping[str, str] = field(converter=_to_headers, validator=_check_headers, repr=False)
    max_message_size: int = field(validator=_whole(125))


def key_from_environment() -> Secret:
    """The key in ``ALLENHARK_API_KEY``, wrapped.

    Raises:
        ConfigurationError: the variable is unset or empty.
    """
    if not os.environ.get("ALLENHARK_API_KEY", "").strip():
        raise ConfigurationError("no API key: pass Client(api_key=…) or set ALLENHARK_API_KEY")
    return Secret(os.environ["ALLENHARK_API_KEY"])


def url_from_environment() -> str:
    """``ALLENHARK_WS_URL``, or the vendor's endpoint."""
    return os.environ.get(_URL_VARIABLE) or DEFAULT_URL
