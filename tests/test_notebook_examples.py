"""The notebooks among the examples run from top to bottom, by Jupyter's own client, on a simulated market."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

for needed in ("IPython", "pandas", "websockets"):
    pytest.importorskip(needed, reason="needs the extras notebook and testing")
for needed in ("ipykernel", "matplotlib"):
    pytest.importorskip(needed, reason="tox's environment notebook has it")
nbclient = pytest.importorskip("nbclient", reason="tox's environment notebook has it")
nbformat = pytest.importorskip("nbformat", reason="tox's environment notebook has it")

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(path.name for path in EXAMPLES.glob("*.ipynb"))


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, no server but the simulator, nobody's settings."""
    for name in ("ALLENHARK_API_KEY", "ALLENHARK_WS_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


def run(name: str) -> list[Any]:
    """Run a notebook; all its outputs, in order.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def told(outputs: list[Any]) -> str:
    """What the outputs show, as text."""
    return "\n".join(output["data"]["text/plain"] for output in outputs if "data" in output)


def test_quickstart() -> None:
    """It connects, shows a table that moved, prices and counters, and closes; no stderr, nothing empty."""
    outputs = run("quickstart.ipynb")
    assert [output for output in outputs if output["output_type"] == "stream"] == []
    shown = told(outputs)
    assert "READY, 0 channels>" in shown
    assert "PriceUpdate(mint='So11111111111111111111111111111111111111112'" in shown
    assert "\ntimestamp " in shown
    assert "Empty DataFrame" not in shown
    assert "stopped: the client is closed" in shown
    assert shown.endswith("CLOSED, 4 channels>")
    (table,) = (output["data"]["text/html"] for output in outputs if "stopped" in output["data"]["text/plain"])
    assert table.count("<polyline") == 3


def test_analysis() -> None:
    """It collects, makes a table, and draws two charts."""
    outputs = run("analysis.ipynb")
    assert [output for output in outputs if output["output_type"] == "stream"] == []
    assert sum("image/png" in output["data"] for output in outputs) == 2
    assert "datetime64[us, UTC]" in told(outputs)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_outputs_are_kept(name: str) -> None:
    """What was on somebody's screen is not in the repository, nor is who ran it."""
    notebook = json.loads((EXAMPLES / name).read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all((cell["outputs"], cell["execution_count"], cell["metadata"]) == ([], None, {}) for cell in code)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    nbformat.validate(notebook)


def test_every_notebook_has_a_test() -> None:
    """None rots unseen."""
    tested = {name.removeprefix("test_") + ".ipynb" for name in globals() if name.startswith("test_")}
    assert set(NOTEBOOKS) <= tested
