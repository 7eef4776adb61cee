"""The live table's life: in IPython's own shell, whose page takes notes; when it moves, and when it ends."""

from __future__ import annotations

import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

pytest.importorskip("websockets", reason="needs the extra testing")
pytest.importorskip("IPython", reason="needs the extra notebook")

from allenhark_ws import Client, Price
from allenhark_ws.notebook import _table, _watch
from allenhark_ws.testing import VirtualSimulator

from .cells import cells
from .patience import PATIENCE
from .scripted import outcome_aside, price, run_aside
from .simulators import Simulator

Play = Callable[[str], list[str]]


@pytest.fixture
def sim() -> Iterator[Simulator]:
    """A simulator of its own for each test."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def play(sim: Simulator, tmp_path: Path) -> Play:
    """Run a script in a notebook's shell to its end; the lines it says."""

    def run(text: str) -> list[str]:
        with cells(sim.url, tmp_path, CONNECTED, text, notebook=True) as script:
            code, out, err = script.end()
        assert (code, err) == (0, "")
        return out.splitlines()

    return run


CONNECTED = """
cell("client = Client('test-key', url=url).connect(); sub = client.subscribe(Price('mint-a'))")
"""


def test_it_moves_while_the_kernel_is_idle(sim: Simulator, tmp_path: Path) -> None:
    """One display, updated in place: a price that comes later is shown without any cell's doing."""
    text = """
    cell("table = client.watch(0.05)")
    say(len(shown), shown[0][1])
    say("idle")
    until(lambda: "2.5" in shown[-1][2])
    say(len({identity for identity, _, _ in shown}), all(update for _, update, _ in shown[1:]))
    say(shown[-1][2].splitlines()[1])
    """
    with cells(sim.url, tmp_path, CONNECTED, text, notebook=True) as script:
        assert script.line() == "1 False"
        assert script.line() == "idle"
        sim.wait_for(lambda: Price("mint-a") in sim.subscriptions)
        sim.publish(price("mint-a", 2.0))
        sim.publish(price("mint-a", 2.5))
        assert script.line() == "1 True"
        assert script.line().split()[:2] == ["mint-a", "2.5"]
        assert script.end() == (0, "", "")


def test_one_cell_shows_it_once(play: Play) -> None:
    """Its value in the cell that made it adds nothing; in another one it is a further view of the same display."""
    said = play("""
    cell("table = client.watch(60)\\ntable")
    say(len(shown))
    cell("table")
    say(len(shown), shown[1][:2] == shown[0][:2])
    """)
    assert said == ["1", "2 True"]


def test_stop(play: Play) -> None:
    """The thread ends, the table says so, and the client goes on; a second time does nothing."""
    said = play("""
    cell("table = client.watch(60)")
    say(ns("table").running, len(tables()), ns("table"))
    cell("table.stop(); table.stop()")
    say(ns("table").running, len(tables()), shown[-1][2].splitlines()[-1], ns("client").state.name, len(shown))
    say(ns("table"))
    cell("client.close()")
    say(len(shown))
    """)
    assert said[0].startswith("True 1 <Watch of <Client ws://127.0.0.1:")
    assert said[1] == "False 0 stopped READY 2"
    assert said[2].endswith("READY, 1 channel>, stopped>")
    assert said[3] == "2"


@pytest.mark.parametrize("refresh", [60, 0.05])
def test_the_clients_close_ends_it(play: Play, refresh: float) -> None:
    """At once, however long the time to the next update is."""
    said = play(f"""
    cell("table = client.watch({refresh})")
    cell("client.close()")
    ended()
    say(ns("table").running, shown[-1][2].splitlines()[0].split()[0], shown[-1][2].splitlines()[-1])
    """)
    assert said == ["False CLOSED stopped: the client is closed"]


@pytest.mark.parametrize("kept", ["table = client.watch(60)", "client.watch(60);"])
def test_it_keeps_no_client(play: Play, kept: str) -> None:
    """A client that is dropped, with the handle if there is one, is collected, and its table ends."""
    said = play(f"""
    import warnings, weakref
    warnings.simplefilter("ignore", ResourceWarning)
    cell("{kept}")
    gc.collect()
    client = weakref.ref(ns("client"))
    say(len(tables()), client() is not None)
    cell("table = client = sub = None")
    ended()
    say(client(), shown[-1][2].splitlines()[-1])
    """)
    assert said == ["1 True", "None stopped: nobody holds the client any more"]


def test_the_handle_keeps_the_client(play: Play) -> None:
    """As a stream does: the table of a client without a variable lives as long as its handle."""
    said = play("""
    cell("table = Client('test-key', url=url).connect().watch(60)")
    gc.collect()
    say(ns("table").client.state.name, len(tables()))
    """)
    assert said == ["READY 1"]


def test_the_cell_run_again(play: Play) -> None:
    """One thread, one table that moves; the one before says why it does not."""
    said = play("""
    for _ in range(3):
        cell("client.watch(60)")
    until(lambda: sum("newer" in text for _, _, text in shown) == 2)
    for thread in tables()[:-1]:
        thread.join(20)
    say(len(tables()), len({identity for identity, _, _ in shown}))
    told = lambda: len(ns("client")._router.callbacks_for(Closed(None)))
    say(told())
    cell("client.watch(60).stop()")
    say(told())
    """)
    assert said == ["1 3", "1", "0"]


def test_a_client_made_again(play: Play) -> None:
    """Its table ends with the one before, though that was displayed; the new one's moves."""
    said = play("""
    made = "client = Client('test-key', url=url).connect()\\nclient.watch(60)"
    for _ in range(3):
        cell(made)
    until(lambda: sum("closed" in text for _, _, text in shown) == 3 - 1)
    for thread in tables()[:-1]:
        thread.join(20)
    say(len(tables()), len([t for t in threading.enumerate() if t.name.startswith("allenhark-io")]))
    """)
    assert said == ["1 1"]


def test_a_page_that_is_gone(play: Play) -> None:
    """The table ends, quietly."""
    said = play("""
    cell("table = client.watch(0.05)")
    Page.broken = True
    ended()
    say(ns("table").running, ns("client").state.name)
    """)
    assert said == ["False READY"]


class View:
    """A display that takes whatever it is given."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def update(self, bundle: dict[str, str], *, raw: bool) -> None:
        """The same as IPython's."""
        assert raw
        self.shown.append(bundle["text/plain"])


class TellingLock:
    """A lock that says when somebody has to wait for it."""

    def __init__(self, waits: threading.Event) -> None:
        self._lock, self._waits = threading.RLock(), waits

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self._waits.set()
            self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()


@pytest.fixture
def watched() -> Iterator[Client]:
    """A client in virtual time that has had a price."""
    with VirtualSimulator() as sim:
        client = sim.client().connect()
        client.subscribe(Price("mint-a"))
        client.flush()
        sim.publish(price("mint-a"))
        yield client


def test_a_cell_shows_it_while_it_is_updated(watched: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is rendered as of one look; the other waits for that moment, and the table goes on."""
    view, met = View(), threading.Event()
    updates = _watch._Updates(weakref.ref(watched), 60.0, handle=view)
    updates.update()
    others: list[threading.Thread] = []

    def show_elsewhere() -> None:
        updates.update()
        met.set()

    def sparkline(seen: Any, _colour: str) -> str:
        """Drawn while another thread would show the table, too."""
        points = iter(seen)
        next(points)
        if not others:
            others.append(run_aside(show_elsewhere))
            assert met.wait(PATIENCE)
        return str(len(list(points)))

    monkeypatch.setattr(updates, "_lock", TellingLock(met))
    monkeypatch.setattr(_table, "sparkline", sparkline)
    assert updates.update()
    others[0].join(PATIENCE)
    assert len(view.shown) == 3
    assert updates.running


def test_what_is_no_fault_of_the_page_is_not_laid_at_its_door(watched: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in rendering is raised, and a table whose thread it ended does not take itself for running."""
    updates = _watch._Updates(weakref.ref(watched), 0.0, handle=View())
    monkeypatch.setattr(_table, "sparkline", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _watch._run(updates)
    assert (updates.running, updates._reasons) == (False, ["stopped by an error"])


def test_the_client_is_collected_by_the_tables_own_thread(watched: Client) -> None:
    """At whatever moment of its wait: that ends at once, and waits for no lock that this thread holds."""
    updates = _watch._Updates(weakref.ref(watched), PATIENCE)

    def finalizer(_frame: FrameType, _event: str, _argument: object) -> None:
        updates.client_gone()

    def wait() -> bool:
        before = sys.getprofile()
        sys.setprofile(finalizer)
        try:
            return updates.wait()
        finally:
            sys.setprofile(before)

    assert outcome_aside(wait) is False


def test_exit_with_a_live_table(sim: Simulator, tmp_path: Path) -> None:
    """Code 0, nothing on stderr, and the table tells that the kernel has ended."""
    before = "atexit.register(lambda: say(shown[-1][2].splitlines()[-1]))"
    with cells(sim.url, tmp_path, before, CONNECTED, 'cell("client.watch(0.05)")', notebook=True) as script:
        assert script.end() == (0, "stopped: the kernel has ended", "")


def test_wrong_arguments(play: Play) -> None:
    """They are told at once, and no thread is left."""
    said = play("""
    def fails(call):
        try:
            call()
        except Exception as error:
            say(type(error).__name__, error)
    client = ns("client")
    for refresh in ("1", True, -1, 0, 0.01, float("nan")):
        fails(lambda: client.watch(refresh))
    client.close()
    fails(client.watch)
    say(len(tables()))
    """)
    assert [line.split(":")[0] for line in said] == [
        "TypeError watch(refresh=…) takes seconds as a number, got str",
        "TypeError watch(refresh=…) takes seconds as a number, got bool",
        "ValueError watch(refresh=…) must be finite and not negative, got -1",
        "ValueError watch(refresh=…) takes at least 0.05 seconds, got 0.0",
        "ValueError watch(refresh=…) takes at least 0.05 seconds, got 0.01",
        "ValueError watch(refresh=…) must be finite and not negative, got nan",
        said[6].split(":")[0],
        "0",
    ]
    assert said[6].startswith("ClientClosed ")


def test_no_notebook(sim: Simulator, tmp_path: Path) -> None:
    """In a terminal's IPython it says what to do instead; so it does in a plain script."""
    text = """
    try:
        ns("client").watch()
    except RuntimeError as error:
        say(error)
    """
    with cells(sim.url, tmp_path, CONNECTED, text) as script:
        code, out, err = script.end()
    assert (code, err) == (0, "")
    assert out.startswith("watch() shows its table in a Jupyter notebook, and there is none here: in a terminal, ")
    done = subprocess.run([sys.executable, "-c", PLAIN], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == out, done.stderr


PLAIN = """
from allenhark_ws import Client
try:
    Client("key").watch()
except RuntimeError as error:
    print(error)
"""


def test_without_ipython_it_says_what_to_install() -> None:
    """In one line."""
    code = "import sys; sys.modules['IPython'] = None\n" + PLAIN.replace("Runtime", "Import")
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == 'watch() needs IPython: pip install "allenhark-ws[notebook]"', done.stderr
