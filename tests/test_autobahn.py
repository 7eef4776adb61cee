"""The Autobahn cases, the usual measure of WebSocket conformance, run against the transport that the client uses.

The whole takes about 15 seconds, so that only one environment of tox has it.  Eight of them are pauses that the cases
5.19, 5.20 and 6.4.1 to 6.4.4 make between the parts of a message; most of the rest goes into the 9th chapter, whose
cases echo up to 16 MiB, whole, in fragments of 64 bytes, or in a thousand messages.
"""

from __future__ import annotations

import importlib.util
import json
import selectors
import subprocess
import sys
import time
from pathlib import Path

import pytest
from attrs import frozen
from websocket import ABNF

from allenhark_ws._frames import BinaryMessage
from allenhark_ws._transport import Batch, Transport

from .patience import PATIENCE
from .peers import Waiting, settings

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("kosoku") is None, reason="needs kosoku, which has the Autobahn cases"
)

SERVER = Path(__file__).with_name("autobahn_server.py")
CHAPTERS = {"1", "2", "3", "4", "5", "6", "7", "9", "10"}
"""All there are but compression; there is no 8th, nor an 11th."""

LARGEST = 16 * 1_048_576
"""Bytes of the largest message."""


@frozen
class Verdict:
    """What the suite says of one case: on the messages, and on how the connection ended."""

    case: str
    behavior: str
    closing: str
    text: str


class Echo(Transport):
    """A transport that can send binary messages too, which the client never does."""

    def echo(self, message: bytes) -> None:
        """Send a message back as the kind it came as."""
        if isinstance(message, BinaryMessage):
            self._queue(message, ABNF.OPCODE_BINARY)
            self.write()
        else:
            self.send(message)


def turn(transport: Transport, waiting: Waiting) -> Batch:
    """Wait as the loop does, write and read once."""
    if not transport.pending:
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if transport.wants_write else 0)
        assert waiting(transport.sock, mask, time.monotonic() + PATIENCE), "nothing happened"
    transport.write()
    return transport.receive()


def converse(url: str, *, echo: bool) -> list[bytes]:
    """Have one connection until the server ends it; the messages received, or sent back if they are to be."""
    waiting, received = Waiting(), list[bytes]()
    transport = Echo(settings(url=url, max_message_size=LARGEST))
    transport.open(waiting, waiting.wake)
    try:
        while True:
            batch = turn(transport, waiting)
            if echo:
                for message in batch.messages:
                    transport.echo(message)
            else:
                received += batch.messages
            if batch.end is not None:
                transport.linger(waiting, time.monotonic() + PATIENCE)
                return received
    finally:
        transport.abort()


def run_cases(port: int) -> int:
    """Have every case, in order, then have the report made, which ends the server; the number of cases."""
    server = f"ws://127.0.0.1:{port}"
    (count,) = converse(f"{server}/getCaseCount", echo=False)
    for index in range(1, int(count) + 1):
        converse(f"{server}/runCase?case={index}&agent=allenhark", echo=True)
    converse(f"{server}/updateReports?agent=allenhark", echo=False)
    return int(count)


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> list[Verdict]:
    """Run all cases once; the verdict on each."""
    directory = tmp_path_factory.mktemp("autobahn")
    with subprocess.Popen([sys.executable, SERVER], cwd=directory, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            count = run_cases(int(server.stdout.readline()))
            printed, _ = server.communicate(timeout=PATIENCE)
        finally:
            server.kill()
    assert server.returncode == 0
    assert list(directory.iterdir()) == []
    found = [Verdict(**verdict) for verdict in json.loads(printed)]
    assert len(found) == count
    return found


def test_every_case_was_run(verdicts: list[Verdict]) -> None:
    """No case of the suite is left out but those on compression; its first edition for Python 3 has 301."""
    assert {verdict.case.split(".")[0] for verdict in verdicts} == CHAPTERS
    assert len({verdict.case for verdict in verdicts}) >= 301


def test_no_case_fails(verdicts: list[Verdict]) -> None:
    """Messages are handled as RFC 6455 demands; informational are the cases that it leaves open."""
    good = {"OK", "NON-STRICT", "INFORMATIONAL"}
    assert [verdict for verdict in verdicts if verdict.behavior not in good] == []


def test_every_connection_ends_as_it_should(verdicts: list[Verdict]) -> None:
    """By the right side, cleanly where that is demanded, with the right close code."""
    assert [verdict for verdict in verdicts if verdict.closing not in {"OK", "INFORMATIONAL"}] == []


def test_two_cases_are_not_strict(verdicts: list[Verdict]) -> None:
    """Text that is not UTF-8 fails the connection with the frame it is in, these would have it before that is whole."""
    lax = {verdict.case for verdict in verdicts if verdict.behavior == "NON-STRICT"}
    assert lax <= {"6.4.3", "6.4.4"}
