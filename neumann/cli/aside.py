"""Verbs on what was set aside: aside-list, aside-return, aside-delete. They work without a server."""

from __future__ import annotations

import click

from neumann.cli import output
from neumann.cli.place import give_to_owner
from neumann.cli.verb import Call, verb
from neumann.env.clock import RealClock
from neumann.env.disk import RealDisk
from neumann.recovery import aside


@verb("aside-list")
@click.option("--data-dir", metavar="DIR", help="Default the configured one.")
def aside_list(call: Call, data_dir: str | None) -> None:
    """Old state that a restore, a rejoin or a repair has set aside; only a person deletes it."""
    found = [a._asdict() for a in aside.list_aside(RealDisk(), call.data_dir(data_dir))]
    columns = ("id", "bytes", "holds", "path")
    rows = [[a["id"], output.size(a["bytes"]), " ".join(a["holds"]), a["path"]] for a in found]
    call.show({"aside": found}, lambda: output.table(columns, rows) if rows else "nothing is set aside")


@verb("aside-return")
@click.argument("aside_id", metavar="ID")
@click.option("--data-dir", metavar="DIR", help="Default the configured one.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def aside_return(call: Call, aside_id: str, data_dir: str | None, yes: bool) -> None:
    """Take back what was set aside as ID; what is in place now goes aside. The server must be stopped."""
    disk, root = RealDisk(), call.data_dir(data_dir)
    found = aside.find_aside(disk, root, aside_id)
    call.confirm(f"Put {found.path} in place of raft/ and store/ of {root}?", yes)
    replaced = aside.return_aside(disk, root, aside_id, RealClock().wall_ns())
    give_to_owner(root)
    body = {"returned": aside_id, "aside": replaced}
    call.show(body, lambda: f"returned {aside_id}" + (f"; set aside as {replaced}" if replaced else ""))


@verb("aside-delete")
@click.argument("aside_id", metavar="ID")
@click.option("--data-dir", metavar="DIR", help="Default the configured one.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def aside_delete(call: Call, aside_id: str, data_dir: str | None, yes: bool) -> None:
    """Delete what was set aside as ID, for good."""
    disk, root = RealDisk(), call.data_dir(data_dir)
    found = aside.find_aside(disk, root, aside_id)
    call.confirm(f"Delete {found.path} ({output.size(found.bytes)}) for good?", yes)
    freed = aside.delete_aside(disk, root, aside_id)
    call.show({"deleted": aside_id, "bytes": freed}, lambda: f"deleted {aside_id}, {output.size(freed)}")
