"""`neumann-admin`: the entry point. The verbs need the extra `cli`, and say so where it is missing."""

from __future__ import annotations

from neumann.cli import extras


def main() -> None:
    """The program."""
    with extras.needed("neumann-admin", "cli"):
        from neumann.cli import group
    group.run()
