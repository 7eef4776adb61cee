"""The live table as a person sees it: JupyterLab on loopback, in a headless Chromium."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

for needed in ("IPython", "pandas", "websockets"):
    pytest.importorskip(needed, reason="needs the extras notebook and testing")
for needed in ("ipykernel", "jupyterlab"):
    pytest.importorskip(needed, reason="tox's environment notebook has it")
webdriver = pytest.importorskip("selenium.webdriver", reason="tox's environment notebook has it")
support = pytest.importorskip("selenium.webdriver.support.ui")
service = pytest.importorskip("selenium.webdriver.chrome.service")

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
if CHROMIUM is None or DRIVER is None:
    pytest.skip("needs a Chromium and its driver: chromium and chromedriver on PATH", allow_module_level=True)

NOTEBOOK = Path(__file__).parents[1] / "examples" / "quickstart.ipynb"
TOKEN = "on-loopback-only"
PATIENCE = 120.0
"""Seconds after which a wait fails; a browser and a server start meanwhile, on whatever machine this is."""

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1100,1000"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
QUIET = {
    "fetchNews": "false",
    "checkForUpdates": False,
}
"""JupyterLab's own fetches from the network, switched off."""

TABLES = """
return Array.from(document.querySelectorAll('.jp-OutputArea-output'))
  .map(output => output.innerText).filter(text => text.includes('received') && text.includes('gaps'))
"""
RUN_ALL = """
const done = arguments[0];
const panel = window.jupyterapp.shell.currentWidget;
panel.sessionContext.ready
  .then(() => window.jupyterapp.commands.execute('notebook:run-all-cells'))
  .then(() => done('run'), error => done(String(error)));
"""
STATUS = "return window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status"
OPEN = "return document.querySelectorAll('.jp-Notebook .jp-CodeCell').length"


@pytest.fixture(params=["JupyterLab Light", "JupyterLab Dark"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A JupyterLab with the notebook, all but its goodbye, in either theme; its URL."""
    root = tmp_path / "notebooks"
    root.mkdir()
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    notebook["cells"] = notebook["cells"][:-2]
    (root / "quickstart.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    settings = tmp_path / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(QUIET), encoding="utf-8")
    (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": request.param}), encoding="utf-8")
    with serving(root, tmp_path) as url:
        yield url


@contextlib.contextmanager
def serving(root: Path, home: Path) -> Generator[str]:
    """JupyterLab over a directory, on loopback; ended, kernels and all, on leaving."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        *(f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={root}"),
        *("--LabApp.extension_manager=readonly", "--LabApp.news_url=None"),
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    names = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    environment = {**os.environ, **{name: str(home / name.lower()) for name in names}}
    environment["JUPYTERLAB_SETTINGS_DIR"] = str(home / "settings")
    for name in ("ALLENHARK_API_KEY", "ALLENHARK_WS_URL"):
        environment.pop(name, None)
    with (home / "jupyter.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            await_answer(f"http://127.0.0.1:{port}/api?token={TOKEN}", server)
            yield f"http://127.0.0.1:{port}/lab/tree/quickstart.ipynb?token={TOKEN}"
        finally:
            server.terminate()
            server.wait(PATIENCE)


def await_answer(url: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until the server answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(round(PATIENCE / 0.5)):
        try:
            with opener.open(url, timeout=10):
                return
        except (urllib.error.URLError, ConnectionError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                pytest.fail(f"JupyterLab ended with code {server.wait(0.5)}: see jupyter.log")
    pytest.fail("JupyterLab does not answer: see jupyter.log")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """A Chromium with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=service.Service(DRIVER))
    driver.set_script_timeout(PATIENCE)
    try:
        yield driver
    finally:
        driver.quit()


def wait(browser: Any, condition: Callable[[Any], object]) -> Any:
    """Wait until it holds; what it gave."""
    return support.WebDriverWait(browser, PATIENCE, 0.1).until(condition)


def received(browser: Any) -> list[int]:
    """How many messages each table on the page tells of."""
    tables = browser.execute_script(TABLES)
    return [int(match[1].replace(",", "")) for text in tables if (match := re.search(r"received\s+([\d,]+)", text))]


def more(than: int, browser: Any) -> list[int]:
    """Those that are above a number."""
    return [count for count in received(browser) if count > than]


def run_all(browser: Any) -> None:
    """Run all cells, and wait until the kernel is idle."""
    assert browser.execute_async_script(RUN_ALL) == "run"
    wait(browser, lambda page: page.execute_script(STATUS) == "idle")


def test_the_table_moves_while_the_kernel_is_idle(lab: str, browser: Any, tmp_path: Path) -> None:
    """Its counters grow, its prices have trends; run again, there is one table, and it moves again."""
    browser.get(lab)
    wait(browser, lambda page: page.execute_script("return !!window.jupyterapp && " + OPEN.removeprefix("return ")))
    for _ in range(2):
        run_all(browser)
        (before,) = wait(browser, received)
        for _ in range(3):
            (before,) = wait(browser, partial(more, before))
        assert browser.execute_script(STATUS) == "idle"
        assert len(received(browser)) == 1
        text = browser.execute_script(TABLES)[0]
        assert "READY" in text
        for word in ("So11…1112", "EPjF…Dt1v", "DezX…B263", "bot_abc123", "rtt", "dropped"):
            assert word in text
        assert browser.execute_script("return document.querySelectorAll('.jp-OutputArea-output polyline').length") == 3
    browser.execute_script("document.querySelector('.jp-OutputArea-output svg').scrollIntoView({block: 'center'})")
    assert browser.save_screenshot(str(tmp_path / "table.png"))
