"""What a changed configuration means for a running node: which keys it takes, and which need a restart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, fields, replace
from typing import Any, NamedTuple

from neumann.config.keys import Config, check


class Change(NamedTuple):
    """One key whose value differs. `key` is such as "[wal] archive_timeout"."""

    key: str
    running: object
    given: object


class Changes(NamedTuple):
    """`config` is the running one with what could be `taken`; `waiting` is what only a restart takes."""

    config: Config
    taken: tuple[Change, ...]
    waiting: tuple[Change, ...]


def changes(running: Config, given: Config) -> Changes:
    """Compare them. ConfigError where the keys that are taken do not go with the running others."""
    taken: list[Change] = []
    waiting: list[Change] = []
    sections: dict[str, Any] = {}
    for section, key in _keys():
        old, new = (getattr(getattr(config, section), key.name) for config in (running, given))
        if old == new:
            continue
        change = Change(f"[{section}] {key.name}", old, new)
        if key.metadata["reload"]:
            taken.append(change)
            sections[section] = replace(sections.get(section) or getattr(running, section), **{key.name: new})
        else:
            waiting.append(change)
    config = replace(running, **sections)
    check(config)
    return Changes(config, tuple(taken), tuple(waiting))


def _keys() -> Iterator[tuple[str, Field[Any]]]:
    for section in fields(Config):
        made: Any = section.default_factory
        for key in fields(made):
            yield section.name, key
