import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import feasible
from benchmarks.real_data import folder, load

# Projections take tens of milliseconds, and times vary between machines: no deadline. Derandomised, so that CI is
# the same twice.
settings.register_profile("feasible", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
settings.load_profile("feasible")


@pytest.fixture(scope="session")
def vehicle():
    return feasible.vehicles.nuplan_pacifica()


@pytest.fixture(scope="session")
def data_folder():
    """The development data; tests on it skip where it is absent."""
    path = folder()
    if not (path / "predictions").is_dir():
        pytest.skip(f"development data not found at {path}; set FEASIBLE_DATA to its folder")
    return path


@pytest.fixture(scope="session")
def real_sets(data_folder):
    return load(data_folder)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
