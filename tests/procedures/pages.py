"""The fenced blocks of the pages in docs/, for the tests that execute them.

A fence reads "```sh n1 n2": a language, and the machines on which an operator types the block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parents[2] / "docs"


class Block(NamedTuple):
    """The heading that it stands under, its language and the words behind it, its text, its first line."""

    section: str
    language: str
    machines: tuple[str, ...]
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page, from the top."""
    section, fence, begun, lines = "", "", 0, list[str]()
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if begun and line == "```":
            language, *machines = fence.split()
            yield Block(section, language, tuple(machines), "\n".join(lines) + "\n", begun + 1)
            begun = 0
        elif begun:
            lines.append(line)
        elif match := re.fullmatch(r"```(.+)", line):
            fence, begun, lines = match[1], number, []
        elif match := re.fullmatch(r"##? (.+)", line):
            section = match[1]
    assert not begun, f"{page}, line {begun}: this block has no end"
