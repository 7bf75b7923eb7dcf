"""No page shows a command or a program that nothing executes."""

from __future__ import annotations

from tests.procedures.pages import DOCS, blocks

EXECUTED = {
    "runbook.md": {"sh", "toml"},  # test_runbook_page.py
    "performance.md": {"sh"},  # tests/bench/test_page.py
    "python.md": {"python"},  # test_python.py
}


TYPED = {"bash", "console", "python", "sh", "toml"}


def test_every_block_is_executed_by_a_test() -> None:
    for page in sorted(DOCS.rglob("*.md")):
        languages = {block.language for block in blocks(page)} & TYPED
        assert languages == EXECUTED.get(page.name, set()), page
