"""An archive with many entries, written by the product's own log: what archive_command would leave."""

from __future__ import annotations

import random
from pathlib import Path

from bench.harness import filled
from neumann.env.disk import RealDisk
from neumann.env.files import write_new
from neumann.format import command, history, names, special
from neumann.format import frame as frame_format
from neumann.format.frame import Frame, Kind
from neumann.format.history import History, HistoryRecord
from neumann.format.ids import LogPoint, Timeline
from neumann.format.special import Marker
from neumann.wal import Log

_CLUSTER_ID = b"c" * 16
_TIMELINE = Timeline(1, 7)
_FRAME_ENTRIES = 100
_WRITE_BYTES = 1024 * 1024
_BEGIN_NS = 1_700_000_000 * 10**9


def write_archive(directory: Path, entries: int, keys: int) -> None:
    """Puts of 100-byte values to random keys, FRAME_ENTRIES a frame; sealed segments and the history."""
    disk, rng = RealDisk(), random.Random(1)
    own = History(_CLUSTER_ID, (HistoryRecord(_TIMELINE, None, 0, 0, 0, 0, _BEGIN_NS, "bench"),))
    log = Log.create(disk, str(directory), _CLUSTER_ID, _TIMELINE, own.base, filled.SEGMENT_BYTES)
    for first in range(0, entries, _FRAME_ENTRIES):
        count = min(_FRAME_ENTRIES, entries - first)
        body = [
            command.encode_put(filled.TABLE, filled.key(rng.randrange(keys)), filled.value(rng))
            for _ in range(count)
        ]
        _write(log, _frame(Kind.DATA, log.last, body))
        if log.open_segment_bytes >= filled.SEGMENT_BYTES or first + count == entries:
            kind, marker = special.encode(Marker(seal=True))
            _write(log, _frame(kind, log.last, [marker]))
    log.close()
    disk.unlink(log.segments()[-1].path)  # what is open is not archived
    write_new(disk, f"{directory}/{names.history_name(_TIMELINE)}", history.encode(own))


def _frame(kind: Kind, after: LogPoint, body: list[bytes]) -> Frame:
    first = after.index + 1
    return frame_format.encode(kind, first, 1, _BEGIN_NS + first * 1000, after.chain, body)


def _write(log: Log, frame: Frame) -> None:
    """Written and synced a megabyte at a time."""
    log.stage([frame])
    if frame.header.kind is Kind.MARKER or log.open_segment_bytes % _WRITE_BYTES < len(frame.data):
        batch = log.take_batch()
        assert batch is not None
        batch.run()
