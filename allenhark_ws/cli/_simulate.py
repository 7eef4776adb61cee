"""``allenhark-ws simulate``: a simulated server with a live market, for programs in other terminals.

Neighbours: `allenhark_ws.testing` brings the server.  It must never ask for an account or a key of the vendor's, nor
write over a file that is not its own.
"""

from __future__ import annotations

import re
import ssl
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

import click
from rich.console import Console

from allenhark_ws.testing import Simulator

from ._output import counted, talk, tell

__all__ = ["run_simulate"]

_LOOK_AGAIN: Final = 0.5
"""Seconds between looks at who is connected, for the user to see."""

_MARK: Final = "# The certificate authority of allenhark-ws simulate: made anew by every run\n"
"""The first line of its file, by which a later run knows that it may be replaced; what reads PEM skips it."""

_is_ours = re.compile(
    re.escape(_MARK.encode()) + rb"-----BEGIN CERTIFICATE-----\n(?:[A-Za-z0-9+/=]{1,64}\n)+-----END CERTIFICATE-----\n"
).fullmatch
_LONGEST: Final = 16_384
"""Bytes of a file that might be one."""

_MINT: Final = "So11111111111111111111111111111111111111112"


def run_simulate(*, port: int, tls: bool, ca_file: str | None, seed: int, quiet: bool) -> NoReturn:
    """Serve until a signal ends it.

    Args:
        port: on 127.0.0.1; 0: any free one.
        tls: serve ``wss://``.
        ca_file: where to write the authority's certificate, in the place of an earlier one's if there is one; None: a
            temporary file, removed at the end.
        seed: of the market.
        quiet: only the URL is printed.
    """
    console = talk(quiet=quiet)
    with (
        _started(Simulator(tls=tls, port=port, feed=True, seed=seed), port) as simulator,
        _authority(simulator, ca_file) as trust,
    ):
        sys.stdout.write(f"{simulator.url}\n")
        sys.stdout.flush()
        _introduce(simulator, trust, console)
        _watch(simulator, console)


def _started(simulator: Simulator, port: int) -> Simulator:
    try:
        return simulator.start()
    except OSError as error:
        told = f"port {port} cannot be had: {error.strerror}; choose another one, or --port 0 for any that is free"
    raise click.ClickException(told)


@contextmanager
def _authority(simulator: Simulator, path: str | None) -> Generator[str | None]:
    """Write the certificate of the simulator's authority; its path, None without TLS."""
    if simulator.ssl_context is None:
        yield None
        return
    (certificate,) = simulator.ssl_context.get_ca_certs(binary_form=True)
    text = (_MARK + ssl.DER_cert_to_PEM_cert(certificate)).encode("ascii")
    if path is not None:
        _write(Path(path), text)
        yield str(Path(path).resolve())  # other terminals may be elsewhere
        return
    with tempfile.TemporaryDirectory(prefix="allenhark-ws-") as directory:
        file = Path(directory) / "simulator-ca.pem"
        _write(file, text)
        yield str(file)


def _write(file: Path, text: bytes) -> None:
    """Write a new file, or one that an earlier run has left.

    Raises:
        click.BadParameter: there is another one: whoever means a file to be read may name it here, too.
    """
    try:
        with file.open("xb") as new:
            new.write(text)
    except FileExistsError:
        if not _is_replaceable(file):
            told = f"{str(file)!r} exists and is kept: this is where to write; name a new file, or remove that one"
            raise click.BadParameter(told, param_hint="'--ca-file'") from None
        file.write_bytes(text)


def _is_replaceable(file: Path) -> bool:
    if not file.is_file():  # a pipe would be waited for
        return False
    with file.open("rb") as old:
        return _is_ours(old.read(_LONGEST)) is not None


def _introduce(simulator: Simulator, trust: str | None, console: Console) -> None:
    """Tell how to connect, in a line to be copied."""
    option = "" if trust is None else f" --ca-file {trust}"
    command = f"ALLENHARK_API_KEY={simulator.api_key} allenhark-ws tail --url {simulator.url}{option} --price {_MINT}"
    tell(console, f"a simulated market is live; the key is {simulator.api_key!r}.  Try, in another terminal:")
    console.print(f"  {command}", markup=False, style="bold")
    if trust is not None:
        tell(console, f"its certificate authority is in {trust}: pass it as --ca-file here, in Python as")
        console.print(f"  Client(ssl_context=ssl.create_default_context(cafile={trust!r}))", markup=False)
    tell(console, "Ctrl-C ends it", style="dim")


def _watch(simulator: Simulator, console: Console) -> NoReturn:
    """Tell of clients that come, go, and do what the API does not allow, until a signal."""
    never, connections, violations = threading.Event(), 0, 0
    while True:
        never.wait(_LOOK_AGAIN)
        if simulator.connections != connections:
            connections = simulator.connections
            tell(console, f"{counted(connections, 'client')} connected", style="dim")
        for violation in simulator.violations[violations:]:
            violations += 1
            tell(console, f"a client broke the protocol: {violation}", style="yellow")
