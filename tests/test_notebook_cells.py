"""Cells that are run again: what their variables held before is closed, though IPython's `Out` still holds it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("websockets", reason="needs the extra testing")
pytest.importorskip("IPython", reason="needs the extra notebook")

from .cells import cells
from .patience import PATIENCE
from .simulators import Simulator

Play = Callable[[str], list[str]]

MAKE = """
make = "client = Client('test-key', url=url).connect()"
def states(*clients):
    say(*(client.state.name for client in clients))
"""


@pytest.fixture
def sim() -> Iterator[Simulator]:
    """A simulator of its own for each test."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def play(sim: Simulator, tmp_path: Path) -> Play:
    """Run a script in a shell to its end; the lines it says."""

    def run(text: str) -> list[str]:
        with cells(sim.url, tmp_path, MAKE, text) as script:
            code, out, err = script.end()
        assert (code, err) == (0, "")
        return out.splitlines()

    return run


def test_the_cell_run_again(sim: Simulator, tmp_path: Path) -> None:
    """One connection is left, every time, though each client was displayed and is in `Out` for ever."""
    text = """
    seen = []
    for _ in range(3):
        cell(make + "\\nclient")
        seen.append(ns("client"))
        states(*seen)
        sys.stdin.readline()
    say(len([value for value in ns("Out").values() if isinstance(value, Client)]))
    """
    with cells(sim.url, tmp_path, MAKE, text) as script:
        for number in range(3):
            assert script.line() == " ".join(["CLOSED"] * number + ["READY"])
            sim.wait_for(lambda: sim.connections == 1)
            script.tell()
        assert script.end() == (0, "3", "")


def test_without_displaying_it_is_collected(play: Play) -> None:
    """As in plain Python, before the hook could look: nothing of ours keeps a client."""
    said = play("""
    import warnings, weakref
    warnings.simplefilter("ignore", ResourceWarning)
    cell(make)
    shell.user_ns["before"] = weakref.ref(ns("client"))
    cell("client = None; left = before()")
    say(ns("left"))
    """)
    assert said == ["None"]


@pytest.mark.parametrize(
    "keep",
    [
        "old = client",
        "_old = client",
        "olds = [client]",
        "olds = {'a': client}",
        "olds = (1, client)",
        "olds = {client}",
        "import types\\nold = types.SimpleNamespace(client=client)",
        "class Old:\\n    __slots__ = ('client',)\\nold = Old()\\nold.client = client",
    ],
)
def test_what_is_kept_elsewhere_stays(play: Play, keep: str) -> None:
    """Under another name, or in a list, tuple, set or dictionary, it is not touched."""
    said = play(f"""
    cell(make + "\\nclient")
    first = ns("client")
    cell("{keep}")
    cell(make)
    states(first, ns("client"))
    """)
    assert said == ["READY READY"]


def test_other_values_close_nothing(play: Play) -> None:
    """A variable that is deleted, or holds something else now, is Python's affair; one that fails keeps what it had."""
    said = play("""
    cell(make + "\\nclient")
    first = ns("client")
    failed = shell.run_cell("client = Client('test-key', url='nonsense')", silent=False)
    states(first)
    cell("client = 5")
    states(first)
    cell("client = _1")
    cell("del client")
    states(first)
    """)
    assert [line for line in said if line in ("READY", "CLOSED")] == ["READY"] * 3


def test_a_traceback_keeps_no_connection(play: Play) -> None:
    """A loop that failed holds its client in the last traceback, which IPython keeps."""
    said = play("""
    cell(make)
    first = ns("client")
    shell.run_cell("def loop(client):\\n    1 / 0\\nloop(client)")
    say(sys.last_value.__class__.__name__)
    cell(make)
    states(first, ns("client"))
    """)
    assert said[-2:] == ["ZeroDivisionError", "CLOSED READY"]


def test_a_stream_made_again(play: Play) -> None:
    """The one before is closed and its channels with it; the client stays."""
    said = play("""
    cell(make)
    for mint in "ab":
        cell(f"prices = client.stream(Price('{mint}'))\\nprices")
    say(ns("client").state.name, *ns("client").subscriptions)
    """)
    assert said == ["READY Price(mint='b')"]


def test_a_stream_made_again_with_its_client(play: Play) -> None:
    """A client that has no variable of its own ends with the last stream that has one."""
    said = play("""
    cell(make.replace("client", "a") + ".stream()\\na")
    first = ns("a").client
    cell("b = a.client.stream()\\nb")
    cell(make.replace("client", "a") + ".stream()\\na")
    states(first, ns("a").client)
    cell("b = a.client.stream()\\nb")
    states(first, ns("a").client)
    """)
    assert said == ["READY READY", "CLOSED READY"]


APP = """
import gc, weakref
gc.disable()  # what is collected is collected by the hook
collections = []
gc.callbacks.append(lambda phase, info: collections.append(phase))
cell('''
from allenhark_ws import Event
class App:
    def __init__(self):
        self.client = Client('test-key', url=url).connect()
        self.client.on(Event, self.hear)
    def hear(self, event):
        pass
''')
"""
"""An object that has a client, which calls it back: a circle."""


def test_an_object_made_again_that_its_client_calls_back(sim: Simulator, tmp_path: Path) -> None:
    """Nobody holds the one before, so its connection ends, as without the circle, and not when Python comes to it."""
    text = """
    import warnings
    warnings.simplefilter("ignore", ResourceWarning)
    for _ in range(3):
        cell("app = App()")
        states(ns("app").client)
        sys.stdin.readline()
    """
    with cells(sim.url, tmp_path, MAKE, APP, text) as script:
        for _ in range(3):
            assert script.line() == "READY"
            sim.wait_for(lambda: sim.connections == 1)
            script.tell()
        assert script.end()[0] == 0


@pytest.mark.parametrize("keep", ["old = app", "old = [[[app]]]", "old = app.client", "def old(app=app):\n    pass"])
def test_an_object_kept_elsewhere_stays(play: Play, keep: str) -> None:
    """However deep, a collection takes nothing that is held."""
    said = play(
        APP
        + f"""
cell("app = App()")
first = weakref.ref(ns("app").client)
cell({keep!r})
cell("app = App()")
states(first(), ns("app").client)
"""
    )
    assert said == ["READY READY"]


def test_a_collection_costs_only_the_cells_that_need_it(play: Play) -> None:
    """None for a cell that makes no client, nor while a variable, or an object in one, has every client."""
    said = play(
        APP
        + """
cell("app = App()")
cell("client = Client('test-key', url=url).connect()")
cell("idle = [Client('test-key', url=url)]; del idle")
cell("kept = [[client]]; del client")
cell("number = 5")
say(len(collections))
cell("other = App()")
say(*collections)
cell("number = 6")
say(len(collections))
"""
    )
    assert said == ["0", "start stop", "2"]


@pytest.mark.parametrize(
    ("again", "kept"),
    [
        ("clients = [connected() for _ in 'ab']\nclients", ""),
        ("clients = {name: connected() for name in 'ab'}\nclients", ""),
        ("clients = tuple(connected() for _ in 'ab')\nclients", ""),
        ("clients['a'] = connected()\nclients", "b"),
        ("clients = {**clients, 'b': connected()}\nclients", "a"),
        ("clients = connected()\nclients", ""),
    ],
)
def test_containers_made_again(play: Play, again: str, kept: str) -> None:
    """What they held is closed, except what the new one has, or another variable."""
    said = play(f"""
    shell.user_ns["connected"] = lambda: Client("test-key", url=url).connect()
    cell("clients = {{name: connected() for name in 'abc'}}\\nother = clients['c']\\nclients")
    first = ns("clients").copy()
    cell({again!r})
    states(*first.values())
    """)
    assert said == [" ".join("READY" if name in (kept, "c") else "CLOSED" for name in "abc")]


@pytest.mark.parametrize("less", ["clients.pop()", "clients.clear()", "clients = []", "clients = clients[:1]"])
def test_containers_that_hold_less_close_nothing(play: Play, less: str) -> None:
    """Nothing came for what went: that is Python's affair, as with a variable that is deleted."""
    said = play(f"""
    cell(make + "; clients = [client]; " + make + "; clients.append(client); del client; clients")
    first = list(ns("clients"))
    cell("{less}")
    states(*first)
    """)
    assert said == ["READY READY"]


def test_a_long_container_is_not_looked_into(play: Play) -> None:
    """Data is; what is replaced elsewhere and kept in it stays all the same."""
    said = play("""
    cell(make + "; data = [client, *range(1_000)]; client")
    first = ns("client")
    cell(make)
    cell("del data; data = [client]")
    states(first)
    """)
    assert said == ["READY"]


@pytest.mark.parametrize("shown", ["", "\\nprices"])
def test_a_subscription_made_again(play: Play, shown: str) -> None:
    """Displayed or not, the one before is closed: a callback that is defined anew is called once."""
    said = play(f"""
    cell(make)
    for mint in "ab":
        cell(f"prices = client.subscribe(Price('{{mint}}'), callback=print){shown}")
    say(ns("client").state.name, *ns("client").subscriptions)
    cell("other = prices")
    cell("prices = client.subscribe(Price('c'), callback=print)")
    say(*sorted(channel.mint for channel in ns("client").subscriptions))
    cell("del prices")
    say(len(ns("client").subscriptions))
    """)
    assert said == ["READY Price(mint='b')", "b c", "2"]


def test_a_subscription_made_again_with_its_client(play: Play) -> None:
    """A client that has no variable of its own ends with its last handle that has one, be it in a list."""
    said = play("""
    again = make.replace("client", "a") + ".subscribe(Price('a'))\\na"
    cell(again)
    first = ns("a").client
    cell("b = [a.client.stream()]\\nb")
    cell(again)
    states(first, ns("a").client)
    cell("b = [a.client.stream()]\\nb")
    states(first, ns("a").client)
    """)
    assert said == ["READY READY", "CLOSED READY"]


def test_a_client_that_an_object_keeps_outlives_its_handle(play: Play) -> None:
    """The variable held a subscription only, and that is what is closed."""
    said = play("""
    cell("import types")
    cell(make.replace("client", "a") + "\\n" + make.replace("client", "b"))
    cell("bots = types.SimpleNamespace(a=a, b=b)\\ndel a, b")
    for bot in "ab":
        cell(f"handle = bots.{bot}.subscribe(Price('m'))\\nhandle")
    states(ns("bots").a, ns("bots").b)
    say(len(ns("bots").a.subscriptions), len(ns("bots").b.subscriptions))
    """)
    assert said == ["READY READY", "0 1"]


def test_values_that_fail_when_looked_at(play: Play) -> None:
    """What the user has beside clients is not asked anything."""
    said = play("""
    cell("class Odd(dict):\\n    def values(self):\\n        yield 1")
    cell("class Proxy:\\n    __class__ = property(lambda self: 1 / 0)")
    cell("odd, proxy = Odd(a=1), Proxy()")
    cell(make + "\\nclient")
    first = ns("client")
    cell(make + "\\nclient")
    states(first, ns("client"))
    """)
    assert said == ["CLOSED READY"]


def test_it_is_told_in_the_log(play: Play) -> None:
    """Which variable's, and what."""
    said = play("""
    import logging
    logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
    cell(make + "\\nclient")
    cell(make)
    """)
    (line,) = (line for line in said if "variable" in line)
    assert line.startswith("<Client ws://127.0.0.1:")
    assert line.endswith("closed, since the variable client holds another now")


def test_the_hook(play: Play) -> None:
    """One for a shell, however many clients there are; none where IPython is imported but does not run."""
    said = play("""
    for _ in range(3):
        cell(make + "\\nclient")
    say(len([f for f in shell.events.callbacks["post_run_cell"] if "CellMinder" in repr(f)]))
    """)
    assert said == ["1"]
    code = "import IPython; from allenhark_ws import Client; Client('k'); print(IPython.get_ipython())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("None", "")


def test_in_a_terminal(sim: Simulator, tmp_path: Path) -> None:
    """The program ipython itself: one connection after the cell was run again, and a quiet end without a close."""
    lines = [
        "from allenhark_ws import Client",
        f"client = Client('test-key', url={sim.url!r}).connect(); client",
        "client",
        f"client = Client('test-key', url={sim.url!r}).connect(); client",
        "print('states:', _2.state.name, client.state.name)",
        "exit",
    ]
    command = [
        sys.executable,
        "-m",
        "IPython",
        "--simple-prompt",
        "--no-banner",
        "--no-confirm-exit",
        "--colors=NoColor",
    ]
    done = subprocess.run(
        command,
        input="\n".join([*lines, ""]),
        env={**os.environ, "IPYTHONDIR": str(tmp_path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 3,
        check=False,
    )
    assert "states: CLOSED READY" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    sim.wait_for(lambda: sim.connections == 0)
