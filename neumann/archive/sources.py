"""Where archives and snapshots are read from: a directory. Other places are recognised and refused."""

from __future__ import annotations

import posixpath
import re
from typing import NamedTuple

from neumann.env.doors import Disk
from neumann.errors import BadInput, NotFound

_HOST_PATH = re.compile(r"[A-Za-z0-9_.@-]+:.*")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://.*")


class Source(NamedTuple):
    """A log archive and where snapshots lie; either may be "" for none."""

    wal_directory: str
    snapshot_directory: str


def directory(disk: Disk, place: str, what: str) -> str:
    """The absolute path that `place` names; BadInput for what is no directory of this machine, NotFound
    for one that is missing (an error in reading it is neither, and is passed on)."""
    if _SCHEME.fullmatch(place) or (_HOST_PATH.fullmatch(place) and not place.startswith("/")):
        raise BadInput(
            f"{what} {place!r} is not on this machine; other places than directories are not in this release",
            remedy=f"copy it to a directory first, or mount it, then name that as {what}",
        )
    if not place.startswith("/"):
        raise BadInput(f"{what} {place!r} is no absolute path")
    path = posixpath.normpath(place)
    if not disk.exists(path):
        raise NotFound(f"{what} {path} does not exist", remedy="check the path, and that it is mounted")
    if not disk.stat(path).is_directory:
        raise BadInput(f"{what} {path} is a file", remedy="name the directory that it lies in")
    return path


def source(disk: Disk, *, repo: str = "", wal_dir: str = "", snapshot_dir: str = "") -> Source:
    """From `--repo R`, which has `wal/` and `snapshots/`, or `--wal-dir W [--snapshot-dir S]`."""
    if bool(repo) == bool(wal_dir):
        raise BadInput("name one source", remedy="--repo R, or --wal-dir W with --snapshot-dir S if any")
    if repo:
        if snapshot_dir:
            raise BadInput("--repo and --snapshot-dir exclude each other")
        root = directory(disk, repo, "--repo")
        wal, snapshots = f"{root}/wal", f"{root}/snapshots"
        if not disk.exists(wal) and not disk.exists(snapshots):
            raise NotFound(f"--repo {root} has neither wal/ nor snapshots/")
        return Source(wal if disk.exists(wal) else "", snapshots if disk.exists(snapshots) else "")
    return Source(
        directory(disk, wal_dir, "--wal-dir"),
        directory(disk, snapshot_dir, "--snapshot-dir") if snapshot_dir else "",
    )
