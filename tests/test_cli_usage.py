"""The command line's usage: what is asked for wrongly, where the key comes from, help, completion."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

for needed in ("click", "rich", "websockets", "trustme", "cryptography"):
    pytest.importorskip(needed, reason="needs the extra cli")

import click
from click.testing import CliRunner

from allenhark_ws.cli import main
from allenhark_ws.cli._commands import commands
from allenhark_ws.cli._options import ENDPOINT, Server
from allenhark_ws.config import DEFAULT_URL

from .commands import environment, run, unread
from .patience import LONG
from .simulators import Simulator

NAMES = ("completion", "convert", "demo", "doctor", "record", "replay", "simulate", "tail")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a key nor an endpoint nor a proxy of this machine takes part."""
    for name in os.environ.keys() - environment().keys():
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def market() -> Iterator[Simulator]:
    """A simulated server with a live market."""
    with Simulator(feed=True) as simulator:
        yield simulator


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code, and what was said on stderr; nothing may be on stdout."""
    code = main(arguments)
    captured = capsys.readouterr()
    assert captured.out == ""
    return code, captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tail",), "--price MINT, --bot ID or --wallet ADDRESS"),
        (("tail", "--price", " "), "the identifier is empty"),
        (("tail", "--price", "m", "--limit", "0"), "--limit"),
        (("tail", "--price", "m", "--limit", "1.5"), "'--limit': '1.5' is not a whole number, 1 or more."),
        (("tail", "--price", "m", "--seconds", "0"), "'--seconds': '0' is not a number of seconds above 0."),
        (("tail", "--price", "m", "--seconds", "abc"), "'abc' is not a number of seconds above 0."),
        (("tail", "--price", "m", "--seconds", "nan"), "'nan' is not a number of seconds above 0."),
        (("record", "r.jsonl", "--price", "m", "--interval", "inf"), "'inf' is not a number of seconds above 0."),
        (("record", "r.jsonl", "--max-bytes", "0"), "'--max-bytes': '0' is not a whole number, 1 or more."),
        (("replay", "--speed", "-1", "r.jsonl"), "'--speed': '-1' is not a number, 0 or more."),
        (("replay", "--speed", "inf", "r.jsonl"), "'inf' is not a number, 0 or more."),
        (("tail", "--price", "m", "--nothing"), "No such option"),
        (("replay", "--api-key", "secret"), "No such option"),
        (("simulate", "--port", "65536"), "'--port': '65536' is not a port, 0 to 65535."),
        (("demo", "--seed", "x"), "'--seed': 'x' is not a whole number."),
        (("simulate", "--ca-file", "x.pem"), "pass --tls too"),
        (("completion", "tcsh"), "tcsh"),
        (("completion",), "bash"),
        (("doctor", "--timeout", "0"), "--timeout"),
    ],
)
def test_wrong_usage_is_2_and_says_what_to_do(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong with the arguments is told with the usage of the very command."""
    code, said = told(capsys, *arguments)
    assert code == 2
    usage, hint, empty, *rest = said.splitlines()
    assert usage.startswith(f"Usage: allenhark-ws {arguments[0]}")
    assert (hint, empty) == (f"Try 'allenhark-ws {arguments[0]} --help' for help.", "")
    assert rest[0].startswith("allenhark-ws: ")
    assert words.lower() in "\n".join(rest).lower()


@pytest.mark.parametrize("command", [("tail", "--price", "m"), ("record", "r.jsonl", "--price", "m")])
def test_no_key_is_2(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Without a key it says where one may come from."""
    code, said = told(capsys, *command)
    assert code == 2
    assert "no API key: set the variable ALLENHARK_API_KEY, or pass --api-key-file" in said


@pytest.mark.parametrize("words", [("--api-key", "sk-secret"), ("--api-key=sk-secret",)])
@pytest.mark.parametrize("command", [("tail", "--price", "m"), ("record", "r.jsonl"), ("doctor",)])
def test_a_key_on_the_command_line_is_2(
    command: tuple[str, ...], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """It says why there is no such option, and what to do instead, not what else is spelt like it."""
    code, said = told(capsys, *command, *words)
    assert code == 2
    assert "there is no option --api-key, since" in said
    assert "set the variable ALLENHARK_API_KEY, or pass --api-key-file" in said
    assert "Did you mean" not in said
    assert "sk-secret" not in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (b"first\nsecond\n", "more than a key"),
        (b"\xff\xfe\x00", "is no text"),
    ],
)
def test_a_key_file_without_a_key_is_2(
    content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the file holds instead is said, and not quoted."""
    file = tmp_path / "key"
    file.write_bytes(content)
    code, said = told(capsys, "doctor", "--api-key-file", str(file))
    assert code == 2
    assert words in said
    assert "second" not in said


@pytest.mark.parametrize("content", [b"sk-live-key\nrotated in May\n", b"sk-live-key \xff"])
def test_a_key_beside_something_else_is_in_no_frame(content: bytes, tmp_path: Path) -> None:
    """Nor in the error and what led to it: tools that show a traceback show local variables, too."""
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(click.BadParameter) as caught:
        Server(DEFAULT_URL, str(file), None).client()
    assert (caught.value.__context__, caught.value.__cause__) == (None, None)
    frames = [frame for frame, _ in traceback.walk_tb(caught.tb) if frame.f_code.co_filename != __file__]
    assert frames
    for frame in frames:
        assert "sk-live-key" not in repr(frame.f_locals)


def test_a_missing_key_file_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named, and a directory in its place is none."""
    code, said = told(capsys, "doctor", "--api-key-file", str(tmp_path / "none"))
    assert code == 2
    assert "does not exist" in said
    assert told(capsys, "doctor", "--api-key-file", str(tmp_path))[0] == 2


def test_the_key_file_goes_before_the_environment(
    tmp_path: Path, market: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """White space and a byte order mark around the key do not matter; no command shows it."""
    monkeypatch.setenv("ALLENHARK_API_KEY", "wrong-key")
    file = tmp_path / "key"
    file.write_bytes(b"\xef\xbb\xbf  test-key\r\n")
    assert main(["doctor", "--url", market.url, "--api-key-file", str(file)]) == 0
    shown = "".join(capsys.readouterr())
    assert "all is well" in shown
    assert "test-key" not in shown


def test_the_key_may_come_from_stdin(market: Simulator) -> None:
    """A dash stands for it, as for a password manager in front of a pipe."""
    done = run("doctor", "--url", market.url, "--api-key-file", "-", env=environment(), input="test-key\n")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "--url (or ALLENHARK_WS_URL) must start with wss:// or ws://"),  # of a variable that is not set
        ("http://example.com", "--url (or ALLENHARK_WS_URL) must start with wss:// or ws://"),
        ("ws://example.com", "in clear: use wss://"),
        ("wss://user:hidden@example.com", "--api-key-file"),
    ],
)
def test_a_wrong_url_is_2_in_the_words_of_the_command(
    url: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The library's advice to programmers is translated for users of the command."""
    monkeypatch.setenv("ALLENHARK_API_KEY", "test-key")
    code, said = told(capsys, "tail", "--price", "m", "--url", url)
    assert code == 2
    assert words in said
    assert "Client(" not in said
    assert "allow_insecure" not in said
    assert "hidden" not in said


def test_a_ca_file_that_is_none_is_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file without a certificate is told of before anything is connected."""
    monkeypatch.setenv("ALLENHARK_API_KEY", "test-key")
    file = tmp_path / "ca.pem"
    file.write_text("nothing")
    code, said = told(capsys, "doctor", "--ca-file", str(file))
    assert code == 2
    assert "no certificate in PEM form" in said


def test_the_default_endpoint_is_the_library_s() -> None:
    """The command and `Client` mean the same server."""
    assert ENDPOINT == DEFAULT_URL


def test_a_server_does_not_show_a_key() -> None:
    """It holds where the key is, not the key."""
    assert "test-key" not in repr(Server(ENDPOINT, None, None))


def test_help_shows_every_default() -> None:
    """A number that is taken when none is given."""
    options = [
        each for command in commands.commands.values() for each in command.params if isinstance(each, click.Option)
    ]
    numbers = [each for each in options if each.metavar and isinstance(each.default, (int, float))]
    assert numbers
    assert all(each.show_default for each in numbers)


@pytest.mark.parametrize("name", NAMES)
def test_help_of_every_command_ends_in_examples(name: str) -> None:
    """Each line of them runs this very command."""
    shown = CliRunner().invoke(commands, [name, "--help"], prog_name="allenhark-ws")
    assert shown.exit_code == 0
    _, _, examples = shown.output.partition("Examples:\n")
    lines = [line for line in examples.splitlines() if line.strip()]
    assert lines
    assert all(f"allenhark-ws {name}" in line or "allenhark-ws tail" in line for line in lines)


def test_help_lists_every_command() -> None:
    """With a line each that is not cut off, and the exit codes."""
    shown = CliRunner().invoke(commands, ["--help"], prog_name="allenhark-ws").output
    assert sorted(commands.commands) == sorted(NAMES)
    for name in NAMES:
        assert f"\n  {name} " in shown
    assert "..." not in shown.partition("Commands:")[2]
    assert "130  Ctrl-C" in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It calls this command back, by the variable that it listens to."""
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert "allenhark-ws" in printed
    assert f"_ALLENHARK_WS_COMPLETE={shell}_complete" in printed


def test_completion_answers_a_shell() -> None:
    """What the script asks at a TAB is answered, without a traceback or an extra word."""
    asked = {"_ALLENHARK_WS_COMPLETE": "bash_complete", "COMP_WORDS": "allenhark-ws tail --pr", "COMP_CWORD": "2"}
    done = run(env=environment(**asked))
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain,--price\n", "")


def test_help_and_completion_load_nothing_heavy() -> None:
    """A TAB has no time for the client, rich, or a web server."""
    script = (
        "import sys; from allenhark_ws.cli import main; code = main(['--help']);"
        "print(*[name for name in ('rich', 'ssl', 'cattrs', 'websockets', 'cryptography') if name in sys.modules]);"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_version() -> None:
    """As a module and as a command alike."""
    done = run("--version", env=environment())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("allenhark-ws, version ")


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("completion", "zsh"), ("tail", "--help")])
def test_a_pipe_closed_before_is_no_failure(arguments: tuple[str, ...]) -> None:
    """`allenhark-ws --help | true` ends with 0, whoever is faster."""
    command = [sys.executable, "-W", "error", "-m", "allenhark_ws", *arguments]
    with unread() as pipe:
        done = subprocess.run(
            command, stdout=pipe, stderr=subprocess.PIPE, env=environment(), check=False, timeout=LONG
        )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [("--help",), ("completion", "bash"), ("demo", "--json")])
def test_a_full_disk_is_1_in_one_line(arguments: tuple[str, ...]) -> None:
    """What cannot be written is told, without a traceback."""
    command = [sys.executable, "-W", "error", "-m", "allenhark_ws", *arguments]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), check=False, timeout=LONG
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "allenhark-ws: No space left on device"
    assert "Traceback" not in done.stderr
