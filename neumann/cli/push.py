"""wal-push, what archive_command may run. It needs no server, and runs once for each segment: what it does
takes a fiftieth of the time that a program takes to begin, so it loads as little as it can.
"""

from __future__ import annotations

import os

import click

from neumann.archive.destinations import destination
from neumann.archive.push import push
from neumann.cli.place import local, places
from neumann.cli.verb import Call, verb
from neumann.env.clock import RealEntropy

_TOKEN_BYTES = 8


@verb("wal-push")
@click.argument("path", metavar="PATH")
@click.argument("dest", metavar="DEST")
@click.option("--create", is_flag=True, help="An archive may begin in DEST, with this history file.")
def wal_push(call: Call, path: str, dest: str, create: bool) -> None:
    """Archive a segment or history file in DEST; exits 0 when it is there, whole and durable.

    For archive_command = "neumann-admin wal-push %p DEST"; DEST is a directory, HOST:PATH (ssh) or
    s3://BUCKET/PREFIX. The same bytes again are success, the part that a killed copy left is replaced,
    other bytes and another cluster's archive are refused.
    """
    token = RealEntropy().token(_TOKEN_BYTES)
    with places() as files:
        target = destination(files, local(dest), token)
        pushed = push(files.disk, os.path.abspath(path), target, create=create)
    body = {"name": pushed.name, "bytes": pushed.bytes, "did": pushed.did}
    call.show(body, lambda: f"{pushed.name}  {pushed.bytes:,} bytes  {pushed.did}")
