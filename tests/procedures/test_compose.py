"""The scripts that use a real Docker engine, whole: the compose cluster, an install without a compiler."""

from __future__ import annotations

import subprocess

import pytest

from tests.procedures.readme import ROOT

NOT_HERE = 2
"""The scripts' exit code where root, a package or the right to make namespaces is missing."""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("script", ["scripts/compose-test", "scripts/bare-install-test"])
def test_script_passes(script: str) -> None:
    done = subprocess.run([ROOT / script], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode == NOT_HERE:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
