"""The one exception of a broken rule."""

from __future__ import annotations


class Violation(AssertionError):
    """A rule that every run must keep was broken."""


def require(holds: bool, text: str) -> None:
    """Raise unless it holds. Not an assert statement, so that it holds under -O too."""
    if not holds:
        raise Violation(text)
