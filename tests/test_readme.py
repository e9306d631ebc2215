"""The README's Python runs, and its table of statuses and files is true."""

import json
import re
from pathlib import Path

import pytest

import feasible
from benchmarks.peers import latency_report, report

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def test_python_examples_run(monkeypatch, capsys):
    """One after the other, as a reader would: the second uses names of the first."""
    monkeypatch.chdir(ROOT)
    first, second = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    space: dict = {}
    exec(compile(first, "README.md", "exec"), space)
    printed = capsys.readouterr().out
    for expected in re.findall(r"# (Projection\(.*?\))", first):
        assert expected in printed
    assert "trajectories feasible" in printed
    # A machine that is busy may miss the deadline; what the example says is true with time enough.
    exec(compile(second.replace("deadline=0.05", "deadline=5.0"), "README.md", "exec"), space)
    assert capsys.readouterr().out == "True True\n"


def test_every_status_is_explained():
    for status in feasible.Status:
        assert f"`{status.name}`" in TEXT
        assert status.meaning.endswith(".")


@pytest.mark.parametrize(("name", "table"), [("peers", report.brief), ("latency", latency_report.table)])
def test_the_tables_are_those_of_the_committed_results(name, table):
    results = json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())
    assert f"<!-- {name}: begin -->\n{table(results)}\n<!-- {name}: end -->" in TEXT


def test_named_files_exist():
    for name in re.findall(r"`?((?:benchmarks|feasible|tests)/[\w/]+\.(?:py|png|md))", TEXT):
        assert (ROOT / name).is_file(), name


def test_contributing_limit_example_works():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert len(text.splitlines()) <= 40
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    space: dict = {"feasible": feasible}
    exec(compile(code, "CONTRIBUTING.md", "exec"), space)
    assert space["limits"][-1].reads == {"speed", "acceleration"}
