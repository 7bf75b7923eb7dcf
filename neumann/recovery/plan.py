"""From an archive and a target to what exactly is restored; decides, and changes nothing (section 8).

The newest snapshot not after the target is chosen, or the empty beginning where the archive has the log
from index 1; then the segments up to the cut, across forks. Everything the real run would read was read
and checked when a plan is there, save the snapshot's own tables. What can't be reached is refused with
what could be: never is less restored than was asked for.

    BeyondArchive   the target is before the first snapshot, or after the archive's end
    ArchiveGap      something between the snapshot and the target is missing
    Corrupt         a needed file is damaged, empty or short before the target
    WrongHistory    files of two clusters, or more than one line of history that the target may mean
                    (recovery/left.py: also one that a restore has left)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from neumann.errors import ArchiveGap, BadInput, BeyondArchive, NeumannError, WrongHistory
from neumann.format.frame import FrameHeader
from neumann.format.history import History
from neumann.format.ids import Configuration, Timeline
from neumann.format.limits import FEATURE_LEVEL
from neumann.format.manifest import Archiving, Manifest
from neumann.format.times import time_text
from neumann.recovery import left, lineage
from neumann.recovery.catalog import Catalog, Head, restore_points
from neumann.recovery.lineage import Position, Stretch
from neumann.recovery.runs import runs
from neumann.recovery.targets import Kind, Target
from neumann.recovery.walk import Start, Stop, Use, Way, walk


class Cut(NamedTuple):
    """Where the restored state ends: after `index` of `history`'s timeline.

    `taken` is the last frame of which entries are taken (None: the snapshot itself is the target), and
    `left_out` the first that is not, as far as the archive has it; it is `taken` again where the cut
    lies inside of a frame.
    """

    history: History
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody calls here
    time_ns: int
    taken: tuple[Head, FrameHeader] | None
    left_out: tuple[Head, FrameHeader] | None


class Plan(NamedTuple):
    """What a recovery does. `line` ends with the timeline that the cut lies in, or a descendant.

    `highest_term` is that of all that was found, `newest_time_ns` of what was found of the cut's timeline.
    """

    target: Target
    start: Start
    line: tuple[Stretch, ...]
    uses: tuple[Use, ...]
    cut: Cut
    highest_term: int
    newest_time_ns: int

    @property
    def origin(self) -> tuple[Timeline, int]:
        """Where the cut's rows were written: the base of a timeline holds those of the fork."""
        records = self.cut.history.records
        number, index = len(records) - 1, self.cut.index
        while number and index == records[number].base_index:
            index = records[number].fork_index
            number -= 1
        return records[number].timeline, index

    @property
    def entries(self) -> int:
        """Log entries that are replayed, of clients and special ones."""
        return sum(use.through_index - use.after_index for use in self.uses)

    @property
    def log_bytes(self) -> int:
        """Of the segment files that are read."""
        return sum(use.head.bytes for use in self.uses)


class Window(NamedTuple):
    """States that can be reached: every entry from first to last, every moment between the two times.

    Times are printed to the nanosecond: after a clock was set back many writes share a millisecond.
    """

    timeline: str
    first_index: int
    last_index: int
    first_time_ns: int
    last_time_ns: int

    def __str__(self) -> str:
        begin = time_text(self.first_time_ns, 9) if self.first_time_ns else "the beginning"
        end = time_text(self.last_time_ns, 9)
        return f"{begin} .. {end} (index {self.first_index} .. {self.last_index}, timeline {self.timeline})"


def make_plan(catalog: Catalog, starts: Sequence[Start], target: Target, timeline: str = "") -> Plan:
    """The plan to reach `target`; see the module for what is refused. `starts`: usable snapshots."""
    for start in starts:
        catalog.learn(start.manifest.history)
    _check_one_cluster(catalog)
    lines = _lines(catalog, timeline)
    plans: list[Plan] = []
    refusals: list[NeumannError] = []
    for history in lines:
        try:
            plans.append(_plan_on(catalog, starts, target, lineage.stretches(history)))
        except NeumannError as error:
            refusals.append(error)
    if not plans and len({type(refusal) for refusal in refusals}) == 1:
        if not timeline:
            _name_what_was_left(catalog, starts, target, lines, refusals[0])
        raise refusals[0]
    origins = {plan.origin for plan in plans}
    others = [] if timeline else left.contenders(catalog, target)
    if refusals or len(origins) > 1 or any(_differs(catalog, starts, target, h, origins) for h in others):
        lines = [*lines, *others]
        choices = "; ".join(f"--timeline {history.timeline}" for history in lines)
        raise WrongHistory(
            f"the archive has {len(lines)} lines of history, and {target.text} may mean either",
            remedy=f"choose one: {choices}",
        )
    return min(plans, key=lambda plan: len(plan.cut.history.records))


def _differs(
    catalog: Catalog,
    starts: Sequence[Start],
    target: Target,
    history: History,
    origins: set[tuple[Timeline, int]],
) -> bool:
    """Whether the target is anything else on that timeline, which was left, than it is on the others. An
    index or a name that it does not have is not meant; a moment that its archive does not reach may be."""
    if target.kind is Kind.LATEST:
        return True
    try:
        return _plan_on(catalog, starts, target, lineage.stretches(history)).origin not in origins
    except (BadInput, BeyondArchive):
        return target.kind is Kind.TIME
    except NeumannError:
        return True


def _name_what_was_left(
    catalog: Catalog, starts: Sequence[Start], target: Target, lines: Sequence[History], refusal: NeumannError
) -> None:
    """A target behind the fork of the last restore is on the timeline that was left there: say so. It is
    never taken unasked."""
    for history in sorted(catalog.histories.values(), key=lambda h: -len(h.records)):
        if history in lines:
            continue
        try:
            _plan_on(catalog, starts, target, lineage.stretches(history))
        except NeumannError:
            continue
        there = (
            f"timeline {history.timeline}, which was left by a restore, has it: --timeline {history.timeline}"
        )
        refusal.remedy = f"{there}; {refusal.remedy}" if refusal.remedy else there
        return


def windows(catalog: Catalog, starts: Sequence[Start], history: History) -> list[Window]:
    """What can be recovered along that line, oldest first; as exact as the plans it promises (R14)."""
    line = lineage.stretches(history)
    found: list[tuple[Window, Position]] = []
    for start in sorted(_on_line(starts, line), key=lambda s: s.position):
        if found and start.position <= found[-1][1]:
            continue
        way = walk(catalog, line, start, Stop(), bodies=False)
        window = Window(
            str(line[way.number].timeline),
            start.manifest.point.index,
            way.cursor.index,
            start.manifest.time_ns,
            way.time_ns,
        )
        found.append((window, (way.number, way.cursor.index)))
    return [window for window, _ in found]


def refusal_of_latest(catalog: Catalog, starts: Sequence[Start], history: History) -> NeumannError | None:
    """Why a restore to the end of that line is refused, by headers; None where it is not."""
    line, latest = lineage.stretches(history), Target(Kind.LATEST, "latest")
    own = _on_line(starts, line)
    if not own:
        return _beyond(
            catalog, starts, line, f"there is no snapshot to begin timeline {history.timeline} with"
        )
    way = walk(catalog, line, max(own, key=lambda start: start.position), Stop(), bodies=False)
    return None if way.reached else _refusal(catalog, starts, line, latest, way)


def empty_start(catalog: Catalog, starts: Sequence[Start], block_bytes: int) -> list[Start]:
    """The empty beginning of a cluster whose first timeline began without data, if the archive begins
    there too, or there is nothing else to begin with."""
    roots = {h.records[0]: h.cluster_id for h in catalog.histories.values() if h.records[0].base_index == 0}
    return [
        Start(_empty(History(cluster_id, (first,)), block_bytes), "", "the empty beginning")
        for first, cluster_id in roots.items()
        if not starts
        or catalog.problem_at(first.timeline, 1)
        or any(head.first_index == 1 for head in catalog.segments(first.timeline))
    ]


def _empty(history: History, block_bytes: int) -> Manifest:
    """The state before the first entry; whose members those were does not matter to a recovery."""
    return Manifest(
        history, history.base, 0, Configuration(), None, Archiving(), (), None, FEATURE_LEVEL, block_bytes
    )


def _plan_on(catalog: Catalog, starts: Sequence[Start], target: Target, line: list[Stretch]) -> Plan:
    own = _on_line(starts, line)
    stop = _stop(catalog, line, target)
    usable = [start for start in own if _is_before(start, stop)]
    if not usable:
        raise _beyond(catalog, starts, line, f"{target.text} is before the first snapshot")
    start = max(usable, key=lambda s: s.position)
    way = walk(catalog, line, start, stop, bodies=True)
    if not way.reached:
        raise _refusal(catalog, starts, line, target, way)
    history = line[way.number].history
    taken = way.taken or (_last_taken(catalog, way.uses[-1]) if way.uses else None)
    cut = Cut(history, way.cursor.index, way.time_ns, taken, way.left_out)
    newest_ns = left.newest_time_ns(catalog, history.timeline)
    return Plan(target, start, tuple(line), tuple(way.uses), cut, _highest_term(catalog, starts), newest_ns)


def _last_taken(catalog: Catalog, use: Use) -> tuple[Head, FrameHeader]:
    headers = catalog.headers(use.head)
    return use.head, next(h for h in reversed(headers) if h.first_index <= use.through_index)


def _refusal(
    catalog: Catalog, starts: Sequence[Start], line: list[Stretch], target: Target, way: Way
) -> NeumannError:
    if way.error is not None:
        if isinstance(way.error, ArchiveGap):
            way.error.remedy = f"{_recoverable(catalog, starts, line)}; or bring back the missing files"
        return way.error
    end = f"{time_text(way.time_ns)} (index {way.cursor.index})"
    what = f"{target.text} is after the archive's end, {end}"
    if way.note:
        what += f"; {way.note}"
    return _beyond(catalog, starts, line, what)


def _beyond(catalog: Catalog, starts: Sequence[Start], line: list[Stretch], what: str) -> BeyondArchive:
    return BeyondArchive(what, remedy=_recoverable(catalog, starts, line))


def _recoverable(catalog: Catalog, starts: Sequence[Start], line: list[Stretch]) -> str:
    found = windows(catalog, starts, line[-1].history)
    return "recoverable: " + (", ".join(map(str, found)) or "nothing: there is no snapshot to begin with")


def _on_line(starts: Sequence[Start], line: list[Stretch]) -> list[Start]:
    """The snapshots that lie on this line, each with its position."""
    found = []
    for start in starts:
        history = start.manifest.history
        number = len(history.records) - 1
        index = start.manifest.point.index
        if (
            number < len(line)
            and line[number].history == history
            and line[number].base.index <= index <= line[number].fork_index
        ):
            found.append(start._replace(position=(number, index)))
    return found


def _is_before(start: Start, stop: Stop) -> bool:
    if stop.position is not None:
        return start.position <= stop.position
    began_ns = start.manifest.time_ns or start.manifest.history.records[0].time_ns
    return stop.time_ns is None or began_ns <= stop.time_ns


def _stop(catalog: Catalog, line: list[Stretch], target: Target) -> Stop:
    """Where to stop. Times are whole nanoseconds, so `before T` is `up to T - 1 ns`."""
    match target.kind:
        case Kind.LATEST:
            return Stop()
        case Kind.TIME:
            return Stop(time_ns=target.time_ns - target.exclusive)
        case Kind.INDEX:
            number, index = lineage.position_of_index(line, target.index)
            return Stop(position=(number, index - target.exclusive))
    number, index = _named(catalog, line, target.name)
    return Stop(position=(number, index - target.exclusive))


def _named(catalog: Catalog, line: list[Stretch], name: str) -> Position:
    found: list[Position] = []
    names: set[str] = set()
    for number, stretch in enumerate(line):
        heads = [h for h in catalog.segments(stretch.timeline) if h.first_index <= stretch.fork_index]
        for _, point, index, _ in restore_points(catalog, heads):
            if index <= stretch.fork_index:
                names.add(point)
                if point == name:
                    found.append((number, index))
    if not found:
        known = ", ".join(sorted(names)) or "none"
        what = f"the archive has no restore point {name!r}"
        if holes := [str(error) for error in runs(catalog, bodies=False).wrong]:
            what += f", and not all of the log: {'; '.join(holes)}"
        raise BeyondArchive(what, remedy=f"it has: {known}")
    if len(found) > 1:
        indexes = " and ".join(str(index) for _, index in found)
        raise BadInput(
            f"there is more than one restore point {name!r}: at {indexes}",
            remedy="name one by --until-index",
        )
    return found[0]


def _check_one_cluster(catalog: Catalog) -> None:
    clusters = sorted(catalog.cluster_ids())
    if len(clusters) > 1:
        every = " and ".join(cluster.hex() for cluster in clusters)
        lines = lineage.leaves(catalog.histories.values())
        choices = "; ".join(f"--timeline {h.timeline} of {h.cluster_id.hex()}" for h in lines)
        raise WrongHistory(
            f"the source holds files of {len(clusters)} clusters: {every}",
            remedy=f"name a directory that holds one cluster's files only, or which one is meant: {choices}",
        )


def _lines(catalog: Catalog, timeline: str) -> list[History]:
    """The lines of history that the target may be on."""
    if timeline:
        return [lineage.choose(catalog.histories, timeline)]
    orphans = {head.timeline for head in catalog.heads} - catalog.histories.keys()
    if orphans:
        damaged = [p for p in catalog.problems if p.timeline in orphans and not p.first_index]
        if damaged:
            raise damaged[0].error
        raise WrongHistory(
            f"nothing tells where timeline {min(orphans)} came from: its history file is missing",
            remedy="copy the .history files too, or name a --timeline that is known",
        )
    if not catalog.histories:
        raise BeyondArchive("the source holds neither a log nor a snapshot", remedy="check its path")
    return lineage.leaves(catalog.histories.values())


def _highest_term(catalog: Catalog, starts: Sequence[Start]) -> int:
    newest = {head.timeline: head for head in catalog.heads}
    terms = [catalog.scan(head, bodies=False).last.term for head in newest.values()]
    terms += [start.manifest.point.term for start in starts]
    terms += [h.records[-1].base_term for h in catalog.histories.values()]
    return max(terms, default=0)
