"""Each notebook is a source and its executed twin; `make notebooks` writes the twin anew, `pytest --nbmake` runs it."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SOURCES = sorted(NOTEBOOKS.glob("*.py"))
LARGEST = 600_000  # bytes; outputs are to stay small


def cells(notebook):
    return [(cell["cell_type"], "".join(cell["source"]).strip()) for cell in notebook["cells"]]


def test_every_notebook_has_its_source():
    assert SOURCES
    assert {p.stem for p in NOTEBOOKS.glob("*.ipynb")} == {p.stem for p in SOURCES}


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_twin_is_executed_and_up_to_date(source):
    jupytext = pytest.importorskip("jupytext")
    twin = json.loads(source.with_suffix(".ipynb").read_text())
    assert cells(twin) == cells(jupytext.read(source)), "run `make notebooks`"
    for cell in twin["cells"]:
        if cell["cell_type"] == "code":
            assert cell["execution_count"], "run `make notebooks`"
            assert not any(output["output_type"] == "error" for output in cell["outputs"])
    assert source.with_suffix(".ipynb").stat().st_size < LARGEST
