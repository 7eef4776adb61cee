"""Cells run in IPython, in a process of its own: the shell is the real one, its page and its kernel are stand-ins."""

from __future__ import annotations

import textwrap
from pathlib import Path

from .processes import Script

_SHELL = """
import atexit
from allenhark_ws import _process
from traitlets.config import Config
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

shown, changed = [], threading.Condition()

class Page(DisplayPublisher):
    broken = False
    def publish(self, data, metadata=None, *, transient=None, update=False, **rest):
        if Page.broken:
            raise OSError("the page is gone")
        with changed:
            shown.append(((transient or {}).get("display_id"), update, data["text/plain"]))
            changed.notify_all()

class Quiet(DisplayHook):
    def write_output_prompt(self):
        pass
    def write_format_data(self, data, metadata=None):
        pass
    def finish_displayhook(self):
        self._is_active = False

config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config, display_pub_class=Page, displayhook_class=Quiet)
atexit.unregister(_process._at_exit)  # as if a cell had imported the package, once there was a shell
atexit.register(_process._at_exit)
shell.user_ns.update(url=url, Bot=Bot, Client=Client, Price=Price)

def cell(code):
    return shell.run_cell(code, store_history=True).raise_error()

def ns(name):
    return shell.user_ns[name]

def until(predicate):
    with changed:
        assert changed.wait_for(predicate, 60), (shown[-1:], tables())

def tables():
    return [thread for thread in threading.enumerate() if "notebook table" in thread.name]

def ended():
    for thread in tables():
        thread.join(60)
    assert tables() == []
"""
_KERNEL = "shell.kernel = object()"


def cells(url: str, directory: Path, *texts: str, notebook: bool = False) -> Script:
    """A script with a shell: `cell` runs a cell, `ns` gives a variable's value, `shown` is what the page was sent.

    Args:
        url: of the server.
        directory: for IPython's files.
        texts: the script, part by part, each indented as it likes.
        notebook: whether the shell takes itself for a notebook's.
    """
    parts = [_SHELL, _KERNEL if notebook else "", *map(textwrap.dedent, texts)]
    return Script(url, "\n".join(parts), IPYTHONDIR=str(directory), COLUMNS="200")
