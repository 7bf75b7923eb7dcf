"""Verbs on the archive of the log: wal-push.

wal-push is what archive_command may run; it and those that read an archive need no server.
"""

from __future__ import annotations

import os

import click

from neumann.archive.push import push
from neumann.cli.place import local
from neumann.cli.verb import Call, verb
from neumann.env.clock import RealEntropy
from neumann.env.disk import RealDisk

_TOKEN_BYTES = 8


@verb("wal-push")
@click.argument("path", metavar="PATH")
@click.argument("destination", metavar="DEST")
@click.option("--create", is_flag=True, help="An archive may begin in DEST, with this history file.")
def wal_push(call: Call, path: str, destination: str, create: bool) -> None:
    """Archive a segment or history file in the directory DEST; exits 0 when it is there, whole and durable.

    For archive_command = "neumann-admin wal-push %p DEST". The same bytes again are success, the part
    that a killed copy left is replaced, other bytes and another cluster's directory are refused.
    """
    disk = RealDisk()
    token = RealEntropy().token(_TOKEN_BYTES)
    pushed = push(disk, os.path.abspath(path), disk, local(destination), token=token, create=create)
    body = {"name": pushed.name, "bytes": pushed.bytes, "did": pushed.did}
    call.show(body, lambda: f"{pushed.name}  {pushed.bytes:,} bytes  {pushed.did}")
