"""Where archives and snapshots are read from: a directory, `host:path` over ssh, or `s3://bucket/prefix`.

All three are `Files` by path (env/places.py), so a catalog, a list of snapshots or a restore reads each
the same way, and its messages name the place as it was typed. The rules, which tests hold over all three:
what is not there is FileNotFoundError and only that; a failure that may pass is tried again, and then is
Unavailable, never the end of an archive.
"""

from __future__ import annotations

import posixpath
import re
from typing import NamedTuple

from neumann.env.doors import Files
from neumann.errors import BadInput, NotFound
from neumann.format import names

_HOST_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*:.*", re.DOTALL)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://.*", re.DOTALL)
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?", re.DOTALL)


class Source(NamedTuple):
    """A log archive and where snapshots lie; either may be "" for none."""

    wal_directory: str
    snapshot_directory: str


def place(name: str, what: str) -> str:
    """The name in its one form, without looking whether it is there; BadInput for what is no place."""
    scheme = _SCHEME.fullmatch(name)
    if scheme is not None:
        if not _BUCKET.fullmatch(name):
            raise BadInput(
                f"{what} {name!r} is no place: {scheme[1]}:// is not known here, or names no bucket",
                remedy="name a directory, host:path or s3://bucket/prefix",
            )
        return name.rstrip("/")
    if name.startswith("/"):
        return posixpath.normpath(name)
    if _HOST_PATH.fullmatch(name):
        host, _, path = name.partition(":")
        return f"{host}:{posixpath.normpath(path) if path else '.'}"
    raise BadInput(f"{what} {name!r} is no absolute path")


def is_store(name: str) -> bool:
    """Whether a place is an object store's: there, a directory is what lies in it, and may be empty."""
    return name.startswith("s3://")


def directory(files: Files, name: str, what: str) -> str:
    """The directory that `name` names, in its one form; BadInput for what is none, NotFound for one that
    is missing (an error in reading it is neither, and is passed on)."""
    path = place(name, what)
    if not files.exists(path):
        remedy = "check the path, and that it is mounted"
        raise NotFound(f"{what} {path} does not exist", remedy="check its name" if is_store(path) else remedy)
    found = files.stat(path)
    if not found.is_directory:
        raise BadInput(f"{what} {path} is a {found.kind}", remedy="name the directory that it lies in")
    return path


def tail(files: Files, name: str) -> str:
    """The log directory of a stopped node, from that or its data directory; "" for none."""
    if not name:
        return ""
    root = directory(files, name, "--include-tail")
    below = f"{root}/{names.RAFT}/{names.WAL}"
    return below if files.exists(below) else root


def source(files: Files, *, repo: str = "", wal_dir: str = "", snapshot_dir: str = "") -> Source:
    """From `--repo R`, which has `wal/` and `snapshots/`, or `--wal-dir W [--snapshot-dir S]`."""
    if bool(repo) == bool(wal_dir):
        raise BadInput("name one source", remedy="--repo R, or --wal-dir W with --snapshot-dir S if any")
    if repo:
        if snapshot_dir:
            raise BadInput("--repo and --snapshot-dir exclude each other")
        root = directory(files, repo, "--repo")
        wal, snapshots = (path if files.exists(path) else "" for path in (f"{root}/wal", f"{root}/snapshots"))
        if not wal and not snapshots:
            raise NotFound(f"--repo {root} has neither wal/ nor snapshots/")
        return Source(wal, snapshots)
    return Source(
        directory(files, wal_dir, "--wal-dir"),
        directory(files, snapshot_dir, "--snapshot-dir") if snapshot_dir else "",
    )
