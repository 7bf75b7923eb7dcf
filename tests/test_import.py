"""What `import neumann` alone gives, in a fresh process."""

from __future__ import annotations

import subprocess
import sys


def test_the_modules_and_names_of_the_package_are_there_when_they_are_asked_for() -> None:
    """`neumann.errors` was no attribute before something else had imported it, and dir() told of no Put."""
    code = """
import sys, neumann
listed = set(dir(neumann))
assert {*neumann.__all__, "client", "embedded", "errors", "sync"} <= listed, listed
assert not {"neumann.client", "neumann.errors", "neumann.runtime"} & set(sys.modules)
for name in sorted(listed):
    getattr(neumann, name)
assert neumann.errors.NeumannError is neumann.NeumannError and "Put" in vars(neumann)
assert not hasattr(neumann, "nothing")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
