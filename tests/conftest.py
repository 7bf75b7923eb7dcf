"""Fixtures that every package of tests may use: places on a real disk, ports on loopback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import ports

# A busy machine is no failure: what a test takes is measured in bench/, never asserted.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--rewrite`: see tests/raft/test_scenarios.py."""
    parser.addoption("--rewrite", action="store_true", help="write down what the scenarios do now")


@pytest.fixture(scope="session")
def free_ports() -> Callable[[int], list[int]]:
    """`free_ports(n)`: n loopback TCP ports that nothing listens on, different at each call."""
    return ports.free_ports


@pytest.fixture
def data_dirs(tmp_path: Path) -> Callable[[int], list[Path]]:
    """`data_dirs(n)`: paths `n1`, `n2`, ... for the data directories of a test; none exists yet."""
    return lambda count: [tmp_path / f"n{number}" for number in range(1, count + 1)]
