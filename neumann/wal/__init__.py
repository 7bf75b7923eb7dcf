"""The write-ahead log of one node: segments of frames, synced before anything is acknowledged.

Design section 4. The loop's side stages frames and never touches the disk; a lane writes and syncs what
was staged, one batch at a time. What follows a crash is decided by the sync mark alone (classify.py).
"""

from neumann.wal.log import Log
from neumann.wal.recover import Cut, Loss, Recovery, ShortOfManifest
from neumann.wal.segment import SegmentInfo
from neumann.wal.slots import TwoSlotFile
from neumann.wal.writer import Drop, Synced, WriteBatch

__all__ = [
    "Cut",
    "Drop",
    "Log",
    "Loss",
    "Recovery",
    "SegmentInfo",
    "ShortOfManifest",
    "Synced",
    "TwoSlotFile",
    "WriteBatch",
]
