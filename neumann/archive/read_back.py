"""Looks into an archive for what was just archived: the end of `archive-check`.

archive_command's exit code is only a claim; this reads the file, every byte of it, where it should be.
"""

from __future__ import annotations

from typing import NamedTuple

from neumann.env.doors import Files
from neumann.env.files import read_file
from neumann.errors import ArchiveGap, Corrupt, WrongHistory
from neumann.snapshot.segment_file import End, scan


class ReadBack(NamedTuple):
    """What was read: the whole of one file, with the restore point in it."""

    path: str
    bytes: int


def read_back(disk: Files, directory: str, name: str, point: str, cluster_id: bytes) -> ReadBack:
    """Find the restore point in that segment of the archive.

    ArchiveGap: the file is not there. Corrupt: not as it was sealed. WrongHistory: another cluster's, or
    another log's.
    """
    path = f"{directory}/{name}"
    try:
        data = read_file(disk, path)
    except FileNotFoundError as error:
        raise ArchiveGap(
            f"archive_command ended with 0, and {path} is not there",
            remedy="does archive_command write to this directory? is it the mounted one?",
        ) from error
    found = scan(data, path, bodies=True)
    if found.header.cluster_id != cluster_id:
        raise WrongHistory(f"{path} is of cluster {found.header.cluster_id.hex()}, not of {cluster_id.hex()}")
    if found.end is not End.SEALED:
        raise Corrupt(
            f"archive_command ended with 0, and {found.damage}",
            remedy="wal-push does not end with 0 before the file is whole and durable",
        )
    if all(known.name != point for known in found.points):
        raise WrongHistory(f"{path} does not hold the restore point {point}: it is of another log")
    return ReadBack(path, len(data))
