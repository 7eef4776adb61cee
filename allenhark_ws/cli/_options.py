"""The options that commands share, and what comes of them: channels, and a client that is ready to start.

The key comes from the environment or a file; it must never come from the command line, where every user of the machine
could read it.  Neighbours: `_commands` puts these on its commands.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TextIO, TypeVar, cast

import click
from attrs import frozen

from allenhark_ws import Bot, Channel, Price, Transactions

if TYPE_CHECKING:
    import ssl

    from allenhark_ws import Client

__all__ = [
    "COUNT",
    "ENDPOINT",
    "FACTOR",
    "NO_KEY",
    "PORT",
    "SECONDS",
    "SEED",
    "Server",
    "channel_options",
    "chosen_channels",
    "connect_timeout_option",
    "examples",
    "no_such_key_option",
    "output_options",
    "seconds_option",
    "series_option",
    "server_options",
    "talk_options",
    "verbose_option",
]

F = TypeVar("F", bound=Callable[..., Any])

ENDPOINT: Final = "wss://api.allenhark.com/v1/ws"
"""The vendor's, where nothing else is asked for; what `Client` takes then, too."""

NO_KEY: Final = "no API key: set the variable ALLENHARK_API_KEY, or pass --api-key-file FILE (-: stdin)"
"""What is missing, and how to give it."""


class _Number(click.ParamType):  # type: ignore[type-arg]  # pyright: ignore[reportMissingTypeArgument] - generic since click 8.2
    """A number; the error for anything else says what is wanted, where click's own types speak of ranges.

    Args:
        wanted: what it is, in words.
        read: makes a number of a text, or raises `ValueError`.
        fits: whether it is one that is wanted.
    """

    name = "number"

    def __init__(self, wanted: str, read: Callable[[str], Any], fits: Callable[[Any], bool] = lambda _: True) -> None:
        self._wanted = wanted
        self._read = read
        self._fits = fits

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = None
        with contextlib.suppress(ValueError):
            number = self._read(value)
        if number is None or not self._fits(number):
            self.fail(f"{value!r} is not {self._wanted}.", param, ctx)
        return number


# Below infinity: there are floats that have no end, and one, nan, that is no number.
SECONDS: Final = _Number("a number of seconds above 0", float, lambda number: 0 < number < math.inf)
FACTOR: Final = _Number("a number, 0 or more", float, lambda number: 0 <= number < math.inf)
COUNT: Final = _Number("a whole number, 1 or more", int, lambda number: number >= 1)
PORT: Final = _Number("a port, 0 to 65535", int, lambda number: 0 <= number <= 65535)
SEED: Final = _Number("a whole number", int)

_MAX_KEY_FILE: Final = 65_536
"""Bytes of a key file that are read: a key has a hundred at most, and a wrong path may lead to anything."""


@frozen
class Server:
    """Where to connect to, and where the key is.

    Attributes:
        url: the endpoint.
        api_key_file: a path, ``-`` for stdin; None: the key is in the environment.
        ca_file: whom to trust instead of the system's authorities, or None.
    """

    url: str
    api_key_file: str | None
    ca_file: str | None

    @property
    def has_key(self) -> bool:
        """Whether a key was given at all; a file that is named has to hold one."""
        return self.api_key_file is not None or bool(os.environ.get("ALLENHARK_API_KEY", "").strip())

    def client(self, **options: Any) -> Client:
        """A client for it, not started.

        Raises:
            click.UsageError: there is no key, or a file does not hold what it should.
            ConfigurationError: the URL or the key cannot be used.
        """
        from allenhark_ws import Client  # noqa: PLC0415 - help and shell completion need not load it

        if not self.has_key:
            raise click.UsageError(NO_KEY)
        # The key is bound to no name here: an exception would carry it in its frames.
        return Client(
            None if self.api_key_file is None else _key(self.api_key_file),
            url=self.url,
            ssl_context=_trust(self.ca_file),
            **options,
        )

    def client_without_key(self, make: Callable[..., Client], **options: Any) -> Client:
        """A client, not started, made by a class whose clients send nothing: what it has for a key is none.

        Raises:
            click.UsageError: a file does not hold what it should.
            ConfigurationError: the URL cannot be used.
        """
        return make("there-is-no-key", url=self.url, ssl_context=_trust(self.ca_file), **options)


def examples(*lines: str) -> str:
    """Examples at the end of a command's help, each on a line of its own."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


class _ChannelType(click.ParamType):  # type: ignore[type-arg]  # pyright: ignore[reportMissingTypeArgument] - generic since click 8.2
    """An identifier on the command line, as the channel that it names."""

    def __init__(self, make: Callable[[str], Channel], name: str) -> None:
        self.make = make
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, Channel):
            return value
        try:
            return self.make(value)
        except ValueError:
            self.fail("the identifier is empty", param, ctx)


def channel_options(command: F) -> F:
    """``--price``, ``--bot`` and ``--wallet``, each as often as wanted."""
    for make, name, metavar, what in (
        (Transactions, "--wallet", "ADDRESS", "Confirmed transactions of a wallet."),
        (Bot, "--bot", "ID", "Updates of a trading bot."),
        (Price, "--price", "MINT", "Prices of a token, by its mint address."),
    ):
        kind = _ChannelType(make, metavar)
        command = click.option(name, type=kind, metavar=metavar, multiple=True, help=f"{what}  Repeatable.")(command)
    return command


def chosen_channels(
    price: tuple[Channel, ...], bot: tuple[Channel, ...], wallet: tuple[Channel, ...]
) -> tuple[Channel, ...]:
    """All that was asked for, each once.

    Raises:
        click.UsageError: nothing was.
    """
    chosen = tuple(dict.fromkeys((*price, *bot, *wallet)))
    if not chosen:
        raise click.UsageError(
            "nothing to listen to: pass at least one of --price MINT, --bot ID or --wallet ADDRESS, for example\n"
            "  --price So11111111111111111111111111111111111111112"
        )
    return chosen


def server_options(command: F) -> F:
    """``--url``, ``--api-key-file`` and ``--ca-file``; the command gets a `Server` as ``server``."""

    @wraps(command)
    def with_server(*, url: str | None, api_key_file: str | None, ca_file: str | None, **options: Any) -> Any:
        where = (os.environ.get("ALLENHARK_WS_URL") or ENDPOINT) if url is None else url
        return command(server=Server(where, api_key_file, ca_file), **options)

    readable = click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True)
    for option in (
        click.option(
            "--ca-file",
            type=click.Path(exists=True, dir_okay=False, readable=True),
            help="Trust the certificate authorities in this PEM file instead of the system's.",
        ),
        click.option(
            "--api-key-file",
            type=readable,
            help="Read the API key from this file (-: from stdin).  [default: the variable ALLENHARK_API_KEY]",
        ),
        click.option(
            "--url",
            metavar="URL",
            help="The endpoint.  [default: the variable ALLENHARK_WS_URL, else AllenHark's own]",
        ),
    ):
        with_server = option(with_server)
    return cast("F", with_server)


def no_such_key_option(error: click.ClickException) -> str | None:
    """What to do instead for somebody who looked for the option that there must not be; None: it is another error."""
    if not isinstance(error, click.NoSuchOption) or error.option_name != "--api-key" or error.ctx is None:
        return None
    if all(parameter.name != "api_key_file" for parameter in error.ctx.command.params):
        return None
    return (
        "there is no option --api-key, since every user of this machine can read a command line: "
        "set the variable ALLENHARK_API_KEY, or pass --api-key-file FILE (-: stdin)"
    )


def _key(path: str) -> str:
    """The key in the file."""
    if path == "-":
        stdin: TextIO | None = sys.stdin
        if stdin is None:  # closed before the program began (``<&-``)
            raise click.BadParameter("stdin is closed", param_hint="'--api-key-file'")
        return _read_key(stdin.buffer, "stdin")
    try:
        with Path(path).open("rb") as file:
            return _read_key(file, f"the file {path!r}")
    except OSError as error:
        raise click.BadParameter(f"{path!r}: {error.strerror}", param_hint="'--api-key-file'") from error


def _read_key(file: IO[bytes], name: str) -> str:
    """What the file holds, without white space around it; no error here may quote it."""
    problem = ""
    try:
        text = file.read(_MAX_KEY_FILE).decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        text, problem = "", "is no text"
    if not problem and not text:
        problem = "is empty"
    elif not text.isprintable():
        problem = "holds more than a key on one line"
    if problem:
        del text  # it may be a key, beside something else, and the error's traceback would hold it
        raise click.BadParameter(f"{name} {problem}", param_hint="'--api-key-file'")
    return text


def _trust(path: str | None) -> ssl.SSLContext | None:
    if path is None:
        return None
    import ssl  # noqa: PLC0415 - few need it

    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise click.BadParameter(f"{path!r} holds no certificate in PEM form", param_hint="'--ca-file'") from error


def output_options(command: F) -> F:
    """``--json``/``--text``, ``--decimal`` and ``--limit``, of commands that print events."""
    for option in (
        click.option("--limit", type=COUNT, metavar="N", help="End after N events."),
        click.option("--decimal", is_flag=True, help="Exact numbers, every digit the server sent; as strings in JSON."),
        click.option(
            "--json/--text",
            "as_json",
            default=None,
            help="One JSON object per line, or lines for a person.  [default: text on a terminal, else JSON]",
        ),
    ):
        command = option(command)
    return command


def series_option(command: F) -> F:
    """``--series``, of commands that read recordings."""
    words = "Read each FILE and those that follow it: day.jsonl, day_0001.jsonl, day_0002.jsonl…"
    return click.option("--series", is_flag=True, help=words)(command)


def seconds_option(command: F) -> F:
    """``--seconds``."""
    words = "End after so long; without it, on Ctrl-C."
    return click.option("--seconds", type=SECONDS, metavar="SECONDS", help=words)(command)


def connect_timeout_option(command: F) -> F:
    """``--connect-timeout``."""
    return click.option(
        "--connect-timeout",
        type=SECONDS,
        metavar="SECONDS",
        default=10.0,
        show_default=True,
        help="For the first connection, retries included; once connected, it comes back for ever.",
    )(command)


def talk_options(command: F) -> F:
    """``-q`` and ``-v``; the command gets ``quiet``."""
    option = click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but errors.")
    return option(verbose_option(command))


def verbose_option(command: F) -> F:
    """``-v``; the command need not know."""
    return click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=_log_if,
        help="Log on stderr what the library does; of a connection, each step of opening it.",
    )(command)


def _log_if(_context: click.Context, _parameter: click.Parameter, verbose: bool) -> None:  # noqa: FBT001 - click's
    if verbose:
        _log()


class _InUTC(logging.Formatter):
    """Times as all others that the command shows: in UTC, and saying so."""

    converter = staticmethod(time.gmtime)
    default_msec_format = "%s.%03dZ"


def _log() -> None:
    """Show the library's log records on stderr; without this, as everywhere, its warnings alone."""
    handler = logging.StreamHandler()
    handler.setFormatter(_InUTC("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("allenhark_ws")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
