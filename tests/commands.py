"""The command ``allenhark-ws`` in a process of its own, with pipes that tests can wait on."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

from .patience import LONG
from .processes import without_torn_imports

if TYPE_CHECKING:
    from typing_extensions import Self

    from allenhark_ws.testing import FaultProxy, Simulator

COMMAND: Final = (sys.executable, "-W", "error", "-m", "allenhark_ws")

_OURS: Final = frozenset(
    {
        "ALLENHARK_API_KEY",
        "ALLENHARK_WS_URL",
        "FORCE_COLOR",
        "NO_COLOR",
        "SSL_CERT_FILE",
        "COLUMNS",
        "TERM",
        "PYTHONUNBUFFERED",
    }
)
_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})


def environment(**changes: str) -> dict[str, str]:
    """This process's environment, without whatever could change what the command does, and with the changes."""
    kept = {name: value for name, value in os.environ.items() if name not in _OURS and name.lower() not in _PROXIES}
    return kept | changes


def access(server: Simulator | FaultProxy, key: str = "test-key") -> dict[str, str]:
    """The environment that leads to a server."""
    return environment(ALLENHARK_WS_URL=server.url, ALLENHARK_API_KEY=key)


def run(*arguments: str, env: dict[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=LONG, check=False, env=env, **options
    )


@contextlib.contextmanager
def unread() -> Generator[int]:
    """The end of a pipe that takes what is written; nobody is at the other one."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


class Running:
    """A command that is running; ended for sure on leaving the ``with``.

    Attributes:
        process: the process, its pipes in bytes.
        talk: what was read of its stderr so far.
    """

    def __init__(self, *arguments: str, env: dict[str, str], **options: Any) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [*COMMAND, *arguments], env=env, bufsize=0, **(pipes | options)
        )
        self.talk = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def line(self) -> str:
        """The next line on stdout."""
        line = b""
        while not line.endswith(b"\n"):
            line += self._read(self.process.stdout, 1)
        return line.decode()

    def await_talk(self, text: str) -> None:
        """Wait until it has said something on stderr."""
        while text not in self.talk:
            self.talk += self._read(self.process.stderr, 4096).decode()

    def _read(self, pipe: Any, size: int) -> bytes:
        assert select.select([pipe], [], [], LONG)[0], f"it says nothing more: {self.talk}"
        data = os.read(pipe.fileno(), size)
        assert data, f"it ended: {self.talk}{self.process.communicate()}"
        return data

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; exit code as a shell has it, the rest of stdout, all of stderr, which has no traceback.

        A signal that comes when Python has put its handlers away ends the process by itself: 128 and its number.
        """
        out, err = self.process.communicate(timeout=LONG)
        self.talk = without_torn_imports(self.talk + err.decode())
        assert "Traceback" not in self.talk, self.talk
        code = self.process.returncode
        return 128 - code if code < 0 else code, (out or b"").decode(), self.talk
