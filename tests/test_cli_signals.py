"""Ctrl-C and SIGTERM: 130 and 143 at every moment of every command, never a traceback, never a hang."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading

import pytest

for needed in ("click", "rich", "websockets", "trustme", "cryptography"):
    pytest.importorskip(needed, reason="needs the extra cli")

from allenhark_ws import Client
from allenhark_ws.cli import main
from allenhark_ws.cli._signals import listening, raising
from allenhark_ws.testing import FaultProxy

from .commands import Running, access, environment
from .patience import LONG
from .processes import posix
from .simulators import Simulator

pytestmark = posix

NUMBERS = ((signal.SIGINT, 130), (signal.SIGTERM, 143))


@pytest.mark.parametrize(("number", "code"), NUMBERS)
@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        ("tail --price m", "click"),
        ("tail --price m", "click.shell_completion"),
        ("tail --price m", "rich.console"),
        ("tail --price m", "allenhark_ws.client"),
        ("tail --price m", "cattrs"),
        ("doctor", "cryptography.x509"),
        ("simulate", "websockets"),
        ("demo", "asyncio"),
        ("--help", "click.core"),
    ],
)
def test_while_importing(arguments: str, module: str, number: signal.Signals, code: int) -> None:
    """A signal that comes while a module is being loaded ends the process, without a word."""
    script = f"""
    import os, sys
    class Presses:
        def find_spec(self, name, path=None, target=None):
            if name == {module!r}:
                os.kill(os.getpid(), {int(number)})
    sys.meta_path.insert(0, Presses())
    from allenhark_ws.cli import main
    sys.argv[1:] = {arguments!r}.split()
    sys.exit(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
        env=environment(ALLENHARK_API_KEY="test-key", ALLENHARK_WS_URL="ws://127.0.0.1:9"),
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


@pytest.mark.parametrize(("number", "code"), NUMBERS)
@pytest.mark.parametrize("command", [("tail", "--price", "m"), ("doctor",)])
def test_while_connecting_to_a_server_that_hangs(command: tuple[str, ...], number: signal.Signals, code: int) -> None:
    """Nobody has to wait for a server that accepts and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LONG)
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        env = environment(ALLENHARK_API_KEY="test-key", ALLENHARK_WS_URL=url)
        with Running(*command, env=env) as running:
            conn, _ = listener.accept()
            with conn:
                conn.recv(1)
                running.process.send_signal(number)
                assert running.end()[0] == code


@pytest.mark.parametrize(("number", "code"), NUMBERS)
def test_while_waiting_for_the_next_attempt(number: signal.Signals, code: int) -> None:
    """A backoff is cut short."""
    with Simulator() as simulator, FaultProxy(simulator.url) as proxy:
        proxy.refuse()
        with Running("tail", "--price", "m", "--connect-timeout", "600", env=access(proxy)) as running:
            running.await_talk("attempt 3 failed")
            running.process.send_signal(number)
            assert running.end()[0] == code


@pytest.mark.parametrize(("number", "code"), NUMBERS)
@pytest.mark.parametrize("option", ["--json", "--text"])
def test_during_output(option: str, number: signal.Signals, code: int) -> None:
    """The lines that were written are whole."""
    with Simulator(feed=True) as market, Running("tail", "--price", "m", option, env=access(market)) as running:
        running.line()
        running.process.send_signal(number)
        ended, rest, _ = running.end()
    assert ended == code
    assert rest == "" or rest.endswith("\n")


@pytest.mark.parametrize(("number", "code"), NUMBERS)
@pytest.mark.parametrize("arguments", [("simulate",), ("simulate", "--tls")])
def test_simulate_ends_by_a_signal(arguments: tuple[str, ...], number: signal.Signals, code: int) -> None:
    """It is the only way to end it."""
    with Running(*arguments, env=environment()) as running:
        running.await_talk("Ctrl-C ends it")
        running.process.send_signal(number)
        assert running.end()[0] == code


def test_demo_ends_by_sigterm() -> None:
    """As a supervisor would."""
    with Running("demo", "--json", env=environment()) as running:
        running.line()
        running.process.terminate()
        assert running.end()[0] == 143


@pytest.mark.parametrize(("number", "code"), NUMBERS)
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_demo_waits_for_no_reader(options: tuple[str, ...], number: signal.Signals, code: int) -> None:
    """Whoever ends it need not read its output first, least of all what it would say at the end."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(1))
    os.set_blocking(writer, True)
    try:
        with Running("demo", *options, env=environment(), stdout=writer) as running:
            running.await_talk("nobody reads stdout")
            running.process.send_signal(number)
            assert running.process.wait(LONG) == code
            assert "Traceback" not in running.end()[2]
    finally:
        os.close(reader)
        os.close(writer)


def test_ctrl_c_twice() -> None:
    """The second one, whatever the first has begun, ends it at once."""
    with Simulator(feed=True) as market, Running("tail", "--price", "m", env=access(market)) as running:
        running.line()
        running.interrupt()
        running.interrupt()
        assert running.end()[0] == 130


def test_the_second_signal_does_not_wait_for_the_first() -> None:
    """What the first one is still busy with is left where it is."""
    script = """
    import os, signal, sys, threading
    from allenhark_ws.cli._signals import listening, raising
    with listening(to_the_end=True), raising():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            print("busy", flush=True)
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                threading.Event().wait()
            except BaseException:
                print("disturbed", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, "busy\n", "")


def test_a_signal_at_the_very_end_is_no_traceback() -> None:
    """While the interpreter exits, too."""
    script = """
    import atexit, os, signal, sys
    from allenhark_ws.cli import main
    atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
    sys.argv[1:] = ["--version"]
    sys.exit(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False)
    assert (done.returncode, done.stderr) == (130, "")


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    """As `nohup`, and scripts for their background jobs, want it; SIGTERM still ends it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        running = Running("simulate", env=environment())
    finally:
        signal.signal(signal.SIGINT, before)
    with running:
        url = running.line().strip()
        running.await_talk("Ctrl-C ends it")
        running.interrupt()
        with Client("test-key", url=url):
            running.await_talk("1 client connected")
        running.process.terminate()
        assert running.end()[0] == 143


def test_handlers_are_put_back() -> None:
    """A program that calls `main` with arguments of its own keeps its signals."""
    before = [signal.getsignal(number) for number, _ in NUMBERS]
    assert main(["--version"]) == 0
    assert [signal.getsignal(number) for number, _ in NUMBERS] == before


def test_a_command_can_run_on_any_thread(capsys: pytest.CaptureFixture[str]) -> None:
    """Where signals cannot be set, they need not be."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["completion", "bash"])))
    thread.start()
    thread.join(LONG)
    assert codes == [0]
    assert "allenhark-ws" in capsys.readouterr().out


def test_raising_leaves_listening_as_it_was() -> None:
    """Between two commands a signal ends the process as before."""
    with listening(to_the_end=False):
        outside = signal.getsignal(signal.SIGINT)
        with raising():
            assert signal.getsignal(signal.SIGINT) != outside
        assert signal.getsignal(signal.SIGINT) is outside


def test_what_nobody_reads_is_not_waited_for() -> None:
    """Ctrl-C while a pipe is full: what Python would still write at its exit is dropped, or it would hang."""
    script = """
    import os, sys
    from allenhark_ws.cli._exit import exit_code
    def command():
        os.set_blocking(1, False)
        try:
            while True:
                os.write(1, bytes(1))
        except BlockingIOError:
            os.set_blocking(1, True)
        sys.stdout.write("rest")
        raise KeyboardInterrupt
    sys.exit(exit_code(command))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        assert process.wait(LONG) == 130
        assert process.communicate()[1] == b""
