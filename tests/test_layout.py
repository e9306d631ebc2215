"""Imports go only downwards, optional packages stay where they belong, and start-up is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import feasible

PACKAGE = Path(feasible.__file__).parent
TIERS = {
    "_arrays": 0,
    "_html": 0,
    "_trajectory": 0,
    "_elementary": 0,
    "_threads": 0,
    "_differences": 1,
    "_savgol": 1,
    "_motion": 1,
    "_excess": 4,
    "_pointwise": 4,
    "_status": 1,
    "signals": 2,
    "vehicles": 2,
    "_limits": 3,
    "presets": 3,
    "_summary": 4,
    "_audit": 4,
    "_loss": 4,
    "_guidance": 5,
    "_check": 4,
    "_rollout": 4,
    "_problem": 4,
    "_lift": 4,
    "_frame": 5,
    "solvers": 5,
    "_brake": 5,
    "_steering": 5,
    "_stop": 5,
    "_ladder": 6,
    "_project": 6,
    "_derivative": 7,
    "_projector": 7,
    "_export": 7,
    "_explain": 7,
    "_actions": 7,
    "_projection_loss": 7,
    "io": 7,
    "plot": 7,
    "_replay": 8,
    "_report": 8,
    "interactive": 8,
    "gym": 8,
    "jax": 8,
    "rl": 8,
    "torch": 8,
    "_torch_ops": 8,
    "_torch_projection": 8,
    "_cli": 8,
    "__main__": 8,
    "__init__": 9,
}


def files():
    return sorted(path for path in PACKAGE.rglob("*.py"))


def room(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(tree):
    """Rooms of `feasible` that a module imports when it is imported (not inside functions or for types)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "feasible":
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "feasible" and len(parts) > 1:
                    yield parts[1]


def test_every_room_has_a_tier():
    assert {room(path) for path in files()} == set(TIERS)


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    if path.name == "__init__.py" and path.parent == PACKAGE:
        return
    mine = TIERS[room(path)]
    for name in imported(ast.parse(path.read_text())):
        assert name in TIERS, f"{path.name} imports feasible.{name}, which has no tier"
        assert name == room(path) or TIERS[name] <= mine, (
            f"{path.name} (tier {mine}) imports {name} (tier {TIERS[name]})"
        )


def test_an_upward_import_would_be_seen():
    assert list(imported(ast.parse("def f():\n    from feasible._project import project"))) == ["_project"]
    assert list(imported(ast.parse("from feasible import plot"))) == ["plot"]


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_can_be_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 360


def loaded(code, *names):
    """Which of the modules are loaded after running code in a fresh interpreter."""
    script = f"{code}\nimport sys\nprint(*[n for n in {names!r} if n in sys.modules])"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()


def test_heavy_packages_wait_until_they_are_needed():
    assert loaded("import feasible", "jax", "cvxpy", "matplotlib", "pyarrow", "torch", "scipy") == []
    assert loaded("import feasible\nfeasible.audit", "cvxpy", "matplotlib", "pyarrow", "torch", "osqp") == []
    assert (
        loaded(
            "import feasible\nfeasible.project, feasible.io, feasible.plot", "cvxpy", "matplotlib", "pyarrow", "torch"
        )
        == []
    )


def test_auditing_runs_no_jax_operation():
    code = """
import os; os.environ["JAX_PLATFORMS"] = "nowhere"
import numpy as np, feasible
t = feasible.Trajectory.from_array(np.linspace(0, 9, 20).reshape(10, 2), dt=0.1)
v, limits = feasible.vehicles.nuplan_pacifica(), feasible.presets.physical()
feasible.audit(t, v, limits); feasible.project(t, v, limits, backend="osqp")
"""
    assert loaded(code, "jax") == ["jax"]


def test_the_public_list_is_complete():
    for name in feasible.__all__:
        assert getattr(feasible, name) is not None
    assert set(feasible._HOME) | set(feasible._MODULES) == set(feasible.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        feasible.nothing  # noqa: B018
