"""At the end every replica holds exactly the rows that the committed log means."""

from __future__ import annotations

from neumann.format.command import row_key
from neumann.store.view import View
from tests.sim.checkers.violation import require
from tests.sim.model import Model


def compare_rows(node_id: str, view: View, model: Model) -> None:
    """A node's rows, revisions and times against the model's."""
    found = dict(view.scan())
    expected = {row_key(*row): (v.value, v.revision, v.time_ns) for row, v in model.rows().items()}
    for row in sorted(found.keys() | expected.keys()):
        ours, wanted = found.get(row), expected.get(row)
        require(
            ours is not None and wanted is not None and tuple(ours) == wanted,
            f"{node_id}: row {row!r} is {ours}, and the log says {wanted}",
        )
