"""`scripts/drill [--only NAME] [--rows N] [--keep] [--json FILE]`: run procedures, print the table."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from neumann.errors import NeumannError
from tests.procedures.cluster import CommandFailed
from tests.procedures.drill import archive, cold, disaster, full_restore, pitr, snapshot
from tests.procedures.drill.stage import Row, Stage, Wrong
from tests.procedures.process import StartFailed

PROCEDURES: dict[str, Callable[[Stage, Row], None]] = {
    "snapshot": snapshot.run,
    "cold": cold.run,
    "archive": archive.run,
    "pitr": pitr.run,
    "full-restore": full_restore.run,
    "disaster": disaster.run,
}
FAILURES = (Wrong, CommandFailed, StartFailed, NeumannError, OSError, subprocess.TimeoutExpired)
"""What a procedure may end with; anything else is a mistake of the drill itself."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/drill",
        description="Back up a real three-node cluster, destroy it and bring it back; check every row.",
    )
    parser.add_argument("--only", choices=PROCEDURES, action="append", help="this procedure; repeat for more")
    parser.add_argument("--rows", type=int, default=1_000_000, metavar="N", help="at most N cities")
    parser.add_argument("--keep", action="store_true", help="leave the directory behind, and say where it is")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there as well")
    options = parser.parse_args()
    if options.rows < 1:
        parser.error("--rows: one row at least")
    return options


def main() -> int:
    options = arguments()
    # A `kill` ends the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    root = Path(tempfile.mkdtemp(prefix="neumann-drill-"))
    stage = Stage(root, options.rows)
    try:
        rows = execute(stage, options.only or list(PROCEDURES))
    finally:
        stage.end()
        if options.keep:
            print(f"kept: {root}", file=sys.stderr)
        else:
            shutil.rmtree(root)
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 1 if any(row.problem for row in rows) else 0


def execute(stage: Stage, names: list[str]) -> list[Row]:
    """Run them in order; what can't run because the cluster is gone says so."""
    rows = [Row(name) for name in names]
    try:
        stage.begin()
    except FAILURES as error:
        for row in rows:
            row.problem = f"not run: {error}"
        return rows
    for row in rows:
        if not all(member.serves() for member in stage.cluster.members):
            row.problem = "not run: the cluster did not come back"
            continue
        stage.say(f"{row.procedure}: {first_line(row.procedure)}")
        try:
            PROCEDURES[row.procedure](stage, row)
        except FAILURES as error:
            row.problem = str(error) or repr(error)
        stage.say(f"{row.procedure}: {row.problem or 'right'}")
    try:
        archive.check_end(stage)
    except FAILURES as error:
        rows[-1].problem = rows[-1].problem or str(error)
        stage.say(str(error))
    return rows


def first_line(procedure: str) -> str:
    """What the procedure's file says it is."""
    module = sys.modules[PROCEDURES[procedure].__module__]
    return (module.__doc__ or "").splitlines()[0]


def print_table(rows: list[Row]) -> None:
    """One line for each procedure, and below it what is wrong."""
    print(
        f"{'procedure':13} {'recovered to (index, moment)':34} {'expected':>9} {'found':>9} {'digest':>9}"
        f" {'RPO s':>8} {'RTO s':>8}"
    )
    for row in rows:
        digest = "equal" if row.digest_match else "NOT EQUAL"
        print(
            f"{row.procedure:13} {row.recovered_to or '-':34} {row.rows_expected:9,} {row.rows_found:9,}"
            f" {digest:>9} {row.rpo_seconds:8.3f} {row.rto_seconds:8.3f}"
        )
        if row.problem:
            print(f"  WRONG: {row.problem}")


if __name__ == "__main__":
    sys.exit(main())
