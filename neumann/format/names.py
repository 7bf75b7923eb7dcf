"""Every file and directory name: made and parsed here, and nowhere else.

    <data_dir>/
      lock                          flock of the running server, or of a tool that changes the directory
      raft/                         what is only this node's, and the log
        identity  vote  sync-mark  restored  diverged  <timeline>.history
        wal/<timeline>-<first index>.wal
        snapshots/<index>-<term>/   published: manifest and <digest>.table, hard links
        snapshots/latest            relative link to the newest
      store/                        the live state
        <index>-<term>.manifest  <digest>.table
      restore.journal               a swap that has begun (recovery/swap.py)
      aside/<utc>/                  old state, deleted by a person only

A timeline in a file name is `<counter:8>-<random:16 hex>` so that names sort; a first index has 20
digits. `<timeline>.history` lies beside segments in an archive. A name that ends in `.tmp` is debris.
"""

from __future__ import annotations

import re

from neumann.format.ids import Timeline

LOCK = "lock"
RAFT = "raft"
STORE = "store"
ASIDE = "aside"
WAL = "wal"
SNAPSHOTS = "snapshots"
LATEST = "latest"
IDENTITY = "identity"
VOTE = "vote"
SYNC_MARK = "sync-mark"
RESTORED = "restored"
DIVERGED = "diverged"
MANIFEST = "manifest"
RESTORE_JOURNAL = "restore.journal"
SCRATCH = "scratch"
TEMPORARY = ".tmp"
PART = ".part"
"""Behind a segment's name in an archive: its begin, as it is received."""
OURS = frozenset({LOCK, RAFT, STORE, ASIDE, RESTORE_JOURNAL, SCRATCH})
"""What may lie in a data directory; anything else is not ours, and a node refuses to start on it."""

_SEGMENT = re.compile(r"([0-9]{8})-([0-9a-f]{16})-([0-9]{20})\.wal")
_HISTORY = re.compile(r"([0-9]{8})-([0-9a-f]{16})\.history")
_MANIFEST = re.compile(r"([0-9]+)-([0-9]+)\.manifest")
_SNAPSHOT = re.compile(r"([0-9]+)-([0-9]+)")
_TABLE = re.compile(r"([0-9a-f]{64})\.table")


def is_foreign(name: str) -> bool:
    """Whether an entry of a data directory is not ours, nor debris of ours, nor hidden."""
    return not name.startswith(".") and name.removesuffix(TEMPORARY) not in OURS


def _timeline(timeline: Timeline) -> str:
    return f"{timeline.counter:08d}-{timeline.random:016x}"


def segment_name(timeline: Timeline, first_index: int) -> str:
    """`00000001-51d0c3a29f5b7e11-00000000000000000001.wal`."""
    return f"{_timeline(timeline)}-{first_index:020d}.wal"


def parse_segment(name: str) -> tuple[Timeline, int] | None:
    """(timeline, first index), or None for another name."""
    match = _SEGMENT.fullmatch(name)
    return (Timeline(int(match[1]), int(match[2], 16)), int(match[3])) if match else None


def parse_part(name: str) -> tuple[Timeline, int] | None:
    """The same of a segment's part in an archive."""
    return parse_segment(name.removesuffix(PART)) if name.endswith(PART) else None


def history_name(timeline: Timeline) -> str:
    """`00000001-51d0c3a29f5b7e11.history`."""
    return f"{_timeline(timeline)}.history"


def parse_history(name: str) -> Timeline | None:
    """The timeline, or None for another name."""
    match = _HISTORY.fullmatch(name)
    return Timeline(int(match[1]), int(match[2], 16)) if match else None


def manifest_name(index: int, term: int) -> str:
    """`<index>-<term>.manifest`, in store/."""
    return f"{index}-{term}.manifest"


def parse_manifest(name: str) -> tuple[int, int] | None:
    """(index, term), or None for another name."""
    match = _MANIFEST.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def snapshot_name(index: int, term: int) -> str:
    """`<index>-<term>`, a directory in raft/snapshots/; also the snapshot's id."""
    return f"{index}-{term}"


def parse_snapshot(name: str) -> tuple[int, int] | None:
    """(index, term), or None for another name."""
    match = _SNAPSHOT.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def table_name(digest: bytes) -> str:
    """`<64 hex digits>.table`."""
    return f"{digest.hex()}.table"


def parse_table(name: str) -> bytes | None:
    """The digest, or None for another name."""
    match = _TABLE.fullmatch(name)
    return bytes.fromhex(match[1]) if match else None


class Paths:
    """The absolute paths inside one data directory; made of strings only, nothing is looked up."""

    __slots__ = (
        "aside",
        "diverged",
        "identity",
        "journal",
        "lock",
        "raft",
        "restored",
        "root",
        "scratch",
        "snapshots",
        "store",
        "sync_mark",
        "vote",
        "wal",
    )

    def __init__(self, root: str) -> None:
        assert root.startswith("/"), "a data directory is named by its absolute path"
        self.root = root.rstrip("/")
        self.lock = f"{self.root}/{LOCK}"
        self.raft = f"{self.root}/{RAFT}"
        self.store = f"{self.root}/{STORE}"
        self.aside = f"{self.root}/{ASIDE}"
        self.scratch = f"{self.root}/{SCRATCH}"
        self.journal = f"{self.root}/{RESTORE_JOURNAL}"
        self.wal = f"{self.raft}/{WAL}"
        self.snapshots = f"{self.raft}/{SNAPSHOTS}"
        self.identity = f"{self.raft}/{IDENTITY}"
        self.vote = f"{self.raft}/{VOTE}"
        self.sync_mark = f"{self.raft}/{SYNC_MARK}"
        self.restored = f"{self.raft}/{RESTORED}"
        self.diverged = f"{self.raft}/{DIVERGED}"
