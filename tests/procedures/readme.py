"""The commands that README.md shows, by section, for the tests and scripts that execute them as printed.

    python -m tests.procedures.readme --print SECTION    its sh block
    python -m tests.procedures.readme --check SECTION    runs its console block: what is printed must come out

A console block has lines `$ command`, each with the output that must follow, byte for byte. Used by
test_readme.py, scripts/compose-test and scripts/bare-install-test.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.procedures.cluster import run

ROOT = Path(__file__).resolve().parents[2]


class Block(NamedTuple):
    """A fenced block: the heading that it stands under, its language, its text."""

    section: str
    language: str
    text: str


class Spoken(NamedTuple):
    """A command of a console block, and what it must print."""

    command: str
    output: str


def blocks(language: str) -> Iterator[Block]:
    """README.md's blocks of that language, from the top."""
    for part in re.split(r"^## ", (ROOT / "README.md").read_text(), flags=re.MULTILINE):
        section = part.partition("\n")[0]
        for found, text in re.findall(r"^```(\w*)\n(.*?)^```", part, re.DOTALL | re.MULTILINE):
            if found == language:
                yield Block(section, language, text)


def block(section: str, language: str) -> str:
    """The text of the only block of that language in a section."""
    [found] = [found.text for found in blocks(language) if found.section == section]
    return found


def dialogue(section: str) -> list[Spoken]:
    """The commands of a section's console block, in order."""
    parts = re.split(r"^\$ ", block(section, "console"), flags=re.MULTILINE)
    assert not parts[0], "a console block begins with a command"
    return [Spoken(command, output) for command, _, output in (part.partition("\n") for part in parts[1:])]


def check(section: str, replaced: Mapping[str, str] | None = None) -> int:
    """Run a section's console block; AssertionError where it says something else. Answers how many ran.

    `replaced` is put into the commands first: an address of this machine for one that is printed.
    """
    spoken = dialogue(section)
    for command, output in spoken:
        here = command
        for printed, own in (replaced or {}).items():
            assert printed in here, f"{command!r} has no {printed}"
            here = here.replace(printed, own)
        ended = run(["bash", "-o", "pipefail", "-c", here])
        said = ended.out if ended.out.endswith("\n") else ended.out + "\n"
        assert ended.code == 0, f"$ {here}\nended with {ended.code}: {ended.err}"
        assert said == output, f"$ {here}\nsaid      {said}README.md {output}"
    return len(spoken)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.procedures.readme")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--print", metavar="SECTION", help="its sh block")
    what.add_argument("--check", metavar="SECTION", help="run its console block")
    options = parser.parse_args()
    if options.print:
        print(block(options.print, "sh"), end="")
    else:
        print(f"{check(options.check)} commands said what README.md prints")


if __name__ == "__main__":
    main()
