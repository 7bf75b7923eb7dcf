"""From the state at a cut to the base of a new timeline (design section 8). PURE.

The new timeline's own log begins behind index fork + jump, in a term above all seen, with the CRC of
its history record as chain value. The index jumps because clients have seen entries that no archive
has: an index, and so a revision, is never used twice.
"""

from __future__ import annotations

from neumann.format.history import History, HistoryRecord
from neumann.format.ids import Configuration, Member, Timeline
from neumann.format.limits import PAUSE_MAX_S
from neumann.format.manifest import Archiving, Manifest
from neumann.format.special import Pause

INDEX_JUMP = 10**9
INDEX_JUMP_PER_SECOND = 10**6
_SECOND_NS = 1_000_000_000


def index_jump(restored_time_ns: int, now_ns: int) -> int:
    """How many indexes a new timeline leaves out; more, the longer ago its last restored entry is."""
    return INDEX_JUMP + INDEX_JUMP_PER_SECOND * (max(0, now_ns - restored_time_ns) // _SECOND_NS)


def rebase(
    manifest: Manifest,
    *,
    highest_term: int,
    now_ns: int,
    newest_ns: int = 0,
    reason: str,
    random64: int,
    member: Member,
    jump: int | None = None,
    new_cluster_id: bytes | None = None,
    start_paused: bool = False,
) -> Manifest:
    """The base manifest of a new timeline with the rows of `manifest`; `member` is its only voter.

    `manifest.history` ends with the timeline that the cut lies in. The new one is made now, or at
    `newest_ns`, the newest time in the log that was there, where a clock is wrong. Any pause is ended;
    `start_paused` begins one that somebody who has looked ends by resume-writes. A later recovery across
    this base need not know of it: until then no leader makes a data frame. Archiving stays on if it was;
    nothing of the new timeline is archived yet. With a `new_cluster_id` the history begins anew, and
    archiving is off.
    No client session goes over: what its client was told may lie
    behind the cut, and no client follows to another timeline by itself.
    """
    old = manifest.history
    fork_index, fork_time_ns = manifest.point.index, manifest.time_ns
    base_index = fork_index + (index_jump(fork_time_ns, now_ns) if jump is None else jump)
    base_term = max(highest_term, manifest.point.term) + 1
    if new_cluster_id is None:
        timeline = Timeline(old.timeline.counter + 1, random64)
        parent: Timeline | None = old.timeline
    else:
        timeline, parent = Timeline(1, random64), None
    made_ns = max(now_ns, newest_ns)
    new = HistoryRecord(timeline, parent, fork_index, fork_time_ns, base_index, base_term, made_ns, reason)
    history = old.child(new) if new_cluster_id is None else History(new_cluster_id, (new,))
    archived = manifest.archiving.on and new_cluster_id is None
    return manifest._replace(
        history=history,
        point=history.base,
        configuration=Configuration((member,)),
        pause=Pause("wal-replay", now_ns + int(PAUSE_MAX_S) * _SECOND_NS, reason) if start_paused else None,
        archiving=Archiving(True, base_index) if archived else Archiving(),
        compaction=None,
        sessions=(),
    )
