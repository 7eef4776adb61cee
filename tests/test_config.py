"""Settings: every wrong argument is named on construction, and no key shows anywhere."""

from __future__ import annotations

import copy
import pickle
import ssl
import sys
import traceback
from collections.abc import Callable
from functools import partial, wraps
from importlib.machinery import ModuleSpec
from types import MappingProxyType, ModuleType
from typing import Any

import pytest
from attrs.exceptions import FrozenInstanceError

from allenhark_ws._backoff import bound
from allenhark_ws.config import (
    DEFAULT_URL,
    OVERFLOW_POLICIES,
    Backoff,
    Secret,
    Settings,
    is_loopback,
    key_from_environment,
    url_from_environment,
)
from allenhark_ws.errors import ConfigurationError

KEY = "s3cret-key"
DEFAULTS: dict[str, Any] = {
    "allow_insecure": False,
    "url": DEFAULT_URL,
    "heartbeat_interval": 30.0,
    "pong_timeout": 10.0,
    "connect_timeout": 10.0,
    "send_timeout": 10.0,
    "backoff": Backoff(),
    "decimal": False,
    "callback_buffer": 10_000,
    "callback_overflow": "drop_oldest",
    "inline_callbacks": False,
    "max_send_rate": None,
    "ssl_context": None,
    "proxy": None,
    "headers": None,
    "max_message_size": 1_048_576,
}


def make(**changes: Any) -> Settings:
    """Settings with the defaults of `Client` and a key."""
    return Settings(**{"api_key": Secret(KEY), **DEFAULTS, **changes})


def problem_of(**changes: Any) -> str:
    """What `Settings` has against the arguments; checked on the way: no frame and no text shows the key."""
    with pytest.raises(ConfigurationError) as caught:
        make(**changes)
    assert_no_key_in(caught.value)
    return str(caught.value)


def assert_no_key_in(error: BaseException) -> None:
    """Neither texts nor the local variables of the frames left show the key, the chain included."""
    link: BaseException | None = error
    while link is not None:
        assert KEY not in "".join(traceback.format_exception(type(link), link, link.__traceback__))
        for frame, _ in traceback.walk_tb(link.__traceback__):
            assert not [name for name, value in frame.f_locals.items() if KEY in repr(value)]
        link = link.__cause__ or link.__context__


# Values that fit ------------------------------------------------------------------------------------------------------


def test_the_defaults_fit() -> None:
    """What `Client` passes without arguments is accepted, and cannot be changed then."""
    settings: Any = make()
    assert settings.url == "wss://api.allenhark.com/v1/ws"
    assert settings.headers == {}
    assert settings.api_key.reveal() == KEY
    with pytest.raises(FrozenInstanceError):
        settings.decimal = True


@pytest.mark.parametrize(
    "changes",
    [
        {"heartbeat_interval": 1},
        {"pong_timeout": 0.001},
        {"max_send_rate": 20},
        {"callback_buffer": 1},
        {"max_message_size": 125},
        {"ssl_context": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)},
        {"proxy": False},
        {"proxy": "http://user:word@proxy.example:3128"},
        {"proxy": "http://[::1]:1080"},
        {"url": "wss://example.org"},
        {"url": "WSS://example.org:8443/path?query=1"},
        {"url": "ws://127.0.0.1:1234"},
        {"url": "ws://[::1]:1234/"},
        {"url": "ws://localhost/"},
        {"url": "ws://example.org/", "allow_insecure": True},
        {"headers": {"X-Trace": "a\tb c"}},
        {"headers": MappingProxyType({"Authorization": ""})},
        *({"callback_overflow": policy} for policy in OVERFLOW_POLICIES),
    ],
)
def test_values_that_fit(changes: dict[str, Any]) -> None:
    """At the edges of what is allowed, values are kept as passed."""
    settings = make(**changes)
    assert {name: getattr(settings, name) for name in changes} == changes


def test_headers_are_copied() -> None:
    """What is done to the caller's mapping later does not show."""
    headers = {"X-Trace": "1"}
    settings = make(headers=headers)
    headers["X-Trace"] = "2"
    assert settings.headers == {"X-Trace": "1"}


# Values that do not ---------------------------------------------------------------------------------------------------

DURATIONS = ["heartbeat_interval", "pong_timeout", "connect_timeout", "send_timeout", "max_send_rate"]


@pytest.mark.parametrize("name", DURATIONS)
def test_numbers_out_of_range(name: str) -> None:
    """Durations and rates are finite and more than 0."""
    for value in (0, 0.0, -1, -0.5):
        assert problem_of(**{name: value}) == f"Client({name}=…) must be more than 0, got {value!r}"
    for value in (float("nan"), float("inf"), float("-inf"), 10**400):
        assert problem_of(**{name: value}) == f"Client({name}=…) must be finite and more than 0"


@pytest.mark.parametrize("name", DURATIONS)
def test_numbers_of_another_type(name: str) -> None:
    """A bool or a text is no number; None is one where it means "none"."""
    kinds = "a number or None" if name == "max_send_rate" else "a number"
    for value in (True, "10", [10], *([] if name == "max_send_rate" else [None])):
        assert problem_of(**{name: value}) == f"Client({name}=…) takes {kinds}, got {type(value).__name__}"


@pytest.mark.parametrize(("name", "minimum"), [("callback_buffer", 1), ("max_message_size", 125)])
def test_whole_numbers(name: str, minimum: int) -> None:
    """Sizes are whole and not too small."""
    assert problem_of(**{name: minimum - 1}) == f"Client({name}=…) must be at least {minimum}, got {minimum - 1}"
    for value in (1000.0, True, None, "1000"):
        assert problem_of(**{name: value}) == f"Client({name}=…) takes a whole number, got {type(value).__name__}"


@pytest.mark.parametrize("name", ["decimal", "inline_callbacks", "allow_insecure"])
def test_switches(name: str) -> None:
    """Only True and False are switches: a text "false" would be true."""
    for value in (1, "false", None):
        assert problem_of(**{name: value}) == f"Client({name}=…) takes True or False, got {type(value).__name__}"


def test_other_types() -> None:
    """Each says what it takes."""
    assert problem_of(backoff=0.5) == "Client(backoff=…) takes a Backoff, got float"
    assert problem_of(ssl_context=True) == "Client(ssl_context=…) takes an ssl.SSLContext, got bool"
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    wanted = "Client(ssl_context=…) is a server's: pass one of ssl.create_default_context()"
    assert problem_of(ssl_context=server) == wanted
    wanted = "Client(callback_overflow=…) must be one of drop_oldest, drop_newest, latest, block, error"
    assert problem_of(callback_overflow="drop") == wanted
    assert problem_of(callback_overflow=["block"]) == wanted


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (None, "Client(url=…) takes a URL as text, got NoneType"),
        (b"wss://example.org", "Client(url=…) takes a URL as text, got bytes"),
        ("", "Client(url=…) must start with wss:// or ws://"),
        ("https://example.org", "Client(url=…) must start with wss:// or ws://"),
        ("example.org", "Client(url=…) must start with wss:// or ws://"),
        ("wss://[::1", "Client(url=…) is no URL; pass wss:// or ws://host[:port]/path"),
        ("wss://example.org:99999", "Client(url=…) is no URL; pass wss:// or ws://host[:port]/path"),
        ("wss://", "Client(url=…) needs a host, a port from 1 to 65535 if any, and no white space"),
        ("wss://example.org:0", "Client(url=…) needs a host, a port from 1 to 65535 if any, and no white space"),
        ("wss://example.org/a b", "Client(url=…) needs a host, a port from 1 to 65535 if any, and no white space"),
        ("wss://example.org/a\nb", "Client(url=…) needs a host, a port from 1 to 65535 if any, and no white space"),
        ("wss://exa\u200bmple.org", "Client(url=…) needs a host, a port from 1 to 65535 if any, and no white space"),
        ("wss://u:p@example.org", "Client(url=…) must not carry a user name or password: pass api_key instead"),
        ("wss://@example.org", "Client(url=…) must not carry a user name or password: pass api_key instead"),
        ("wss://example.org/#x", "Client(url=…) must not have a fragment (#…): RFC 6455, section 3"),
        (
            "ws://example.org",
            "Client(url=…) with ws:// would send the API key in clear: use wss://, or pass allow_insecure=True",
        ),
    ],
)
def test_urls(url: Any, told: str) -> None:
    """What is wrong with a URL is told without quoting it: it may hold a password."""
    assert problem_of(url=url) == told


@pytest.mark.parametrize(
    ("proxy", "told"),
    [
        (True, "Client(proxy=…) takes a URL, None (the environment) or False (direct), got True"),
        (8080, "Client(proxy=…) takes a URL as text, got int"),
        ("proxy:8080", "Client(proxy=…) must start with http:// or socks4:// or socks4a:// or socks5:// or socks5h://"),
        ("http://", "Client(proxy=…) needs a host, a port from 1 to 65535 if any, and no white space"),
    ],
)
def test_proxies(proxy: Any, told: str) -> None:
    """As with URLs; True is neither yes nor an address."""
    assert problem_of(proxy=proxy) == told


@pytest.mark.parametrize("scheme", ["socks4", "socks4a", "socks5", "socks5h"])
def test_socks_proxies_need_an_extra(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """A missing one is told at once, with the command that installs it; one that is there is not loaded for that."""
    proxy = f"{scheme}://user:word@[::1]:1080"
    monkeypatch.setitem(sys.modules, "python_socks", None)
    assert problem_of(proxy=proxy) == (
        f'Client(proxy=…) with {scheme}:// needs python-socks: pip install "allenhark-ws[socks]"'
    )
    there = ModuleType("python_socks")
    there.__spec__ = ModuleSpec("python_socks", None)
    monkeypatch.setitem(sys.modules, "python_socks", there)
    assert make(proxy=proxy).proxy == proxy


def test_a_proxy_password_is_in_no_error() -> None:
    """A slash in a password makes the rest of it look like a port, which Python's own error would quote."""
    with pytest.raises(ConfigurationError) as caught:
        make(proxy="http://user:pass/word@proxy.example")
    assert str(caught.value).startswith("Client(proxy=…) is no URL; pass http://")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ([("a", "b")], "Client(headers=…) takes a mapping of text to text, got list"),
        ({"a": 1}, "Client(headers=…) takes a mapping of text to text"),
        ({1: "a"}, "Client(headers=…) takes a mapping of text to text"),
        ({"": "a"}, "Client(headers=…) has the name '', which is no HTTP header name"),
        ({"a b": "c"}, "Client(headers=…) has the name 'a b', which is no HTTP header name"),
        ({"a:": "c"}, "Client(headers=…) has the name 'a:', which is no HTTP header name"),
        ({"Host": "a"}, "Client(headers=…) must not set Host: the upgrade needs its own"),
        ({"Sec-WebSocket-Key": "a"}, "Client(headers=…) must not set Sec-WebSocket-Key: the upgrade needs its own"),
        ({"A": KEY + "\r\nB: c"}, "Client(headers=…) has a value for A that is not one line of ASCII text"),
        ({"A": KEY + "\x01"}, "Client(headers=…) has a value for A that is not one line of ASCII text"),
        ({"A": KEY + "é"}, "Client(headers=…) has a value for A that is not one line of ASCII text"),
    ],
)
def test_headers(headers: Any, told: str) -> None:
    """Names and values that would break or forge the upgrade are refused; values, perhaps secrets, are not quoted."""
    with pytest.raises(ConfigurationError) as caught:
        make(headers=headers)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (None, "the API key must be a string, got NoneType"),
        (KEY.encode(), "the API key must be a string, got bytes"),
        ("", "the API key is empty"),
        (" \t", "the API key is empty"),
        (KEY + "\n", "the API key holds a control character, perhaps a line break from a file; strip it"),
    ],
)
def test_keys(source: Any, told: str) -> None:
    """What is wrong is told on construction without showing the key; a callable is asked later."""
    assert problem_of(api_key=Secret(source)) == f"{told}: pass Client(api_key=…) or set ALLENHARK_API_KEY"
    secret = make(api_key=Secret(lambda: source)).api_key
    with pytest.raises(ConfigurationError) as caught:
        secret.current()
    assert str(caught.value) == f"{told} (from the api_key callable)"
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)][1:]
    assert frames
    assert not [name for frame in frames for name, value in frame.f_locals.items() if KEY in repr(value)]


async def fetch() -> str:
    """A key, for those who await it."""
    return KEY


class Fetcher:
    """Likewise, by an object."""

    async def __call__(self) -> str:
        """The key."""
        return KEY


def given(function: Callable[[str], str]) -> Callable[[], str]:
    """A decorator that gives what the function needs."""
    return wraps(function)(lambda: function(KEY))


class Secretive:
    """An object that tells nothing of itself."""

    def __getattr__(self, name: str) -> object:
        raise KeyError(name)

    def __call__(self) -> str:
        """The key."""
        return KEY


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (fetch, "the api_key callable is an async function or a generator, whose call gives no key"),
        (Fetcher(), "the api_key callable is an async function or a generator, whose call gives no key"),
        (lambda path: path, "the api_key callable needs arguments, but is called without any"),
        (str.strip, "the api_key callable needs arguments, but is called without any"),
    ],
)
def test_callables_that_give_no_key(source: Any, told: str) -> None:
    """Told on construction, since no connection would ever be made."""
    assert problem_of(api_key=Secret(source)) == f"{told}: pass Client(api_key=…) or set ALLENHARK_API_KEY"


@pytest.mark.parametrize(
    "source",
    [lambda path="key": path, partial(str.strip, KEY), lambda *_, **__: KEY, max, given(str.strip), Secretive()],
    ids=["optional", "given", "any", "not told", "decorated", "secretive"],
)
def test_callables_that_may_give_a_key(source: Any) -> None:
    """Those whose arguments are optional, are given already, or are not told of."""
    assert make(api_key=Secret(source)).api_key.is_callable


# Backoff --------------------------------------------------------------------------------------------------------------


def test_backoff() -> None:
    """The documented defaults; equal by value."""
    backoff = Backoff()
    assert (backoff.initial, backoff.maximum, backoff.multiplier, backoff.reset_after) == (0.5, 30.0, 2.0, 30.0)
    assert backoff.max_attempts is None
    assert Backoff(initial=1, maximum=1, multiplier=1, reset_after=0, max_attempts=1).max_attempts == 1
    assert pickle.loads(pickle.dumps(backoff)) == backoff == Backoff()


def test_a_short_maximum_needs_no_initial() -> None:
    """The default gives way; what both are given must fit."""
    assert bound(Backoff(maximum=0.1), 0) == 0.1
    with pytest.raises(ConfigurationError, match=r"is below initial=0\.2"):
        Backoff(initial=0.2, maximum=0.1)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"initial": 0}, "Backoff(initial=…) must be more than 0, got 0"),
        ({"maximum": -1}, "Backoff(maximum=…) must be more than 0, got -1"),
        ({"maximum": float("inf")}, "Backoff(maximum=…) must be finite and more than 0"),
        ({"multiplier": 0.5}, "Backoff(multiplier=…) must be at least 1, got 0.5"),
        ({"reset_after": -0.1}, "Backoff(reset_after=…) must be at least 0, got -0.1"),
        ({"reset_after": None}, "Backoff(reset_after=…) takes a number, got NoneType"),
        ({"max_attempts": 0}, "Backoff(max_attempts=…) must be at least 1, got 0"),
        ({"max_attempts": 2.0}, "Backoff(max_attempts=…) takes a whole number or None, got float"),
        ({"initial": 40}, "Backoff(maximum=30.0) is below initial=40; pass a larger maximum"),
    ],
)
def test_backoff_out_of_range(changes: dict[str, Any], told: str) -> None:
    """Each says its argument and its range."""
    with pytest.raises(ConfigurationError) as caught:
        Backoff(**changes)
    assert str(caught.value) == told


# Secrets --------------------------------------------------------------------------------------------------------------


def test_a_secret_shows_its_key_to_reveal_alone() -> None:
    """Neither repr, str, format nor attributes without the mangled name show it."""
    for secret in (Secret(KEY), make().api_key):
        assert secret.reveal() == KEY
        assert {repr(secret), str(secret), f"{secret}"} == {"<secret>"}
    assert KEY not in repr(make())
    assert KEY not in repr(make(proxy=f"http://u:{KEY}@proxy.example", headers={"A": KEY}))


@pytest.mark.parametrize("leak", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("holder", [lambda: Secret(KEY), lambda: Secret(lambda: KEY)], ids=["key", "callable"])
def test_a_secret_cannot_be_pickled(leak: Any, holder: Any) -> None:
    """Nor copied, by which it would be pickled; the error does not show it."""
    with pytest.raises(TypeError, match="a secret cannot be pickled") as caught:
        leak(holder())
    assert_no_key_in(caught.value)


def test_settings_cannot_be_pickled() -> None:
    """They hold the secret."""
    with pytest.raises(TypeError, match="secret cannot be pickled"):
        pickle.dumps(make())


def test_a_callable_is_asked_every_time() -> None:
    """For keys that rotate; each answer is wrapped."""
    keys = iter(["one", "two"])
    secret = Secret(lambda: next(keys))
    assert secret.problem() is None
    assert [secret.current().reveal(), secret.current().reveal()] == ["one", "two"]
    with pytest.raises(TypeError, match=r"ask current\(\) first"):
        secret.reveal()
    fixed = Secret(KEY)
    assert fixed.current() is fixed


def test_wrapping() -> None:
    """A key or callable is wrapped once; what is a secret already stays the same object."""
    fixed, asked = Secret.wrap(KEY), Secret.wrap(lambda: KEY)
    assert fixed.reveal() == asked.current().reveal() == KEY
    assert Secret.wrap(fixed) is fixed
    assert (fixed.is_callable, asked.is_callable) == (False, True)


def test_what_the_callable_raises_goes_through() -> None:
    """The caller decides what to make of it."""

    def broken() -> str:
        raise OSError("vault is sealed")

    with pytest.raises(OSError, match="vault is sealed"):
        Secret(broken).current()


# Environment and hosts ------------------------------------------------------------------------------------------------


def test_key_from_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ALLENHARK_API_KEY`, wrapped; without it the error says both ways to give a key."""
    monkeypatch.setenv("ALLENHARK_API_KEY", KEY)
    assert key_from_environment().reveal() == KEY
    told = r"^no API key: pass Client\(api_key=…\) or set ALLENHARK_API_KEY$"
    monkeypatch.setenv("ALLENHARK_API_KEY", "  ")
    with pytest.raises(ConfigurationError, match=told):
        key_from_environment()
    monkeypatch.delenv("ALLENHARK_API_KEY")
    with pytest.raises(ConfigurationError, match=told):
        key_from_environment()


def test_a_url_of_the_environment_is_called_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever passed none is not told of an argument."""
    monkeypatch.setenv("ALLENHARK_WS_URL", "ws://example.org")
    told = "the URL in ALLENHARK_WS_URL with ws:// would send the API key in clear: "
    assert problem_of(url=url_from_environment()) == f"{told}use wss://, or pass allow_insecure=True"
    monkeypatch.setenv("ALLENHARK_WS_URL", "example.org")
    assert problem_of(url=url_from_environment()) == "the URL in ALLENHARK_WS_URL must start with wss:// or ws://"


def test_url_from_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ALLENHARK_WS_URL`, or the vendor's endpoint when it is unset or empty."""
    monkeypatch.setenv("ALLENHARK_WS_URL", "wss://example.org")
    assert url_from_environment() == "wss://example.org"
    monkeypatch.setenv("ALLENHARK_WS_URL", "")
    assert url_from_environment() == DEFAULT_URL
    monkeypatch.delenv("ALLENHARK_WS_URL")
    assert url_from_environment() == DEFAULT_URL


@pytest.mark.parametrize(
    ("host", "mine"),
    [
        ("localhost", True),
        ("LocalHost.", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::1%lo", True),
        ("10.0.0.1", False),
        ("128.0.0.1", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("notlocalhost", False),
        ("", False),
    ],
)
def test_is_loopback(host: str, mine: bool) -> None:
    """Only this machine's own names and addresses: a key in clear must not leave it."""
    assert is_loopback(host) is mine
