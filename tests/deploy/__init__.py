"""deploy/: the files that an operator copies, held against the product and the runbook."""

from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
