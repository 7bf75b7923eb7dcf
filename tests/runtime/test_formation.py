"""Asking peers who they are: what comes from the network is not trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.nodes import configs_of, start


async def test_an_answer_that_is_cut_short_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended the node that had asked."""
    first, second = configs_of(tmp_path, 2)
    asked = await start(first)
    try:
        formation = asked.node.host.formation
        said = formation.who(asked.node.host.found, None, False)
        monkeypatch.setattr(formation, "who", lambda *_: said | {"data": ["1-51d0c3a29f5b7e11"]})
        asking = await start(second)
        try:
            assert "waiting for an answer of n1" in asking.node.serving()[1]
        finally:
            await asking.stop()
    finally:
        await asked.stop()
