"""Plans and reports in words and in plain values, for every face alike (interface.md, section 6)."""

from __future__ import annotations

from neumann.errors import Corrupt
from neumann.format import frame as frame_format
from neumann.format.command import BATCH, DELETE, OPEN, PUT, decode_body
from neumann.format.frame import Frame, FrameDamaged, FrameHeader, Kind
from neumann.format.segment import SEGMENT_HEADER_BYTES
from neumann.format.times import time_text
from neumann.recovery.catalog import Catalog, Head
from neumann.recovery.plan import Plan

_OPERATIONS = {PUT: "put", DELETE: "delete"}


def describe_command(command: object) -> str:
    """`put cities/berlin`, `batch of 3 rows, cities/*`, or `an entry that changes nothing`."""
    match command:
        case (op, str() as table, str() as key, _, _, _, _) if op in (PUT, DELETE):
            return f"{_OPERATIONS[op]} {table}/{key}"
        case (op, _, _, _, _, _, tuple() as rows) if op == BATCH and rows:
            tables = sorted({str(row[1]) for row in rows if isinstance(row, tuple) and len(row) > 1})
            return f"batch of {len(rows)} rows, {', '.join(f'{table}/*' for table in tables)}"
        case (op, "", "", None, 0, 0, None) if op == OPEN:
            return "a client session is opened"
    return "an entry that changes nothing"


def describe_entry(catalog: Catalog, head: Head, header: FrameHeader, index: int) -> str:
    """What the entry `index` of that frame does. One that is left out may be damaged."""
    if header.kind is not Kind.DATA:
        return header.kind.name.lower()
    try:
        frame = _frame(catalog, head, header)
    except FrameDamaged as error:
        return f"unreadable: {error.message}"
    commands = decode_body(frame.body)
    place = index - header.first_index
    if commands is None or not 0 <= place < len(commands):
        return "an entry that changes nothing"
    return describe_command(commands[place])


def plan_facts(catalog: Catalog, plan: Plan) -> dict[str, object]:
    """The plan as JSON-able values; times ISO 8601 with milliseconds, and in nanoseconds."""
    manifest, cut = plan.start.manifest, plan.cut
    facts: dict[str, object] = {
        "target": plan.target.text,
        "cluster_id": cut.history.cluster_id.hex(),
        "snapshot": {
            "kind": plan.start.kind,
            "id": manifest.snapshot_id,
            "index": manifest.point.index,
            "time": time_text(manifest.time_ns),
            "directory": plan.start.directory,
            "timeline": str(manifest.history.timeline),
        },
        "log": {
            "first_index": plan.uses[0].after_index + 1 if plan.uses else 0,
            "last_index": plan.uses[-1].through_index if plan.uses else 0,
            "files": [use.head.path for use in plan.uses],
            "bytes": plan.log_bytes,
            "entries": plan.entries,
        },
        "cut": {
            "index": cut.index,
            "time": time_text(cut.time_ns),
            "time_ns": cut.time_ns,
            "timeline": str(cut.history.timeline),
            "inside_frame": cut.left_out is not None and cut.left_out == cut.taken,
        },
        "taken": None,
        "not_taken": None,
    }
    if cut.taken is not None:
        head, header = cut.taken
        facts["taken"] = _entry_facts(catalog, head, header, min(cut.index, header.last_index))
    if cut.left_out is not None:
        head, header = cut.left_out
        facts["not_taken"] = _entry_facts(catalog, head, header, max(cut.index + 1, header.first_index))
    return facts


def plan_lines(facts: dict[str, object]) -> list[str]:
    """The plan as a person reads it."""
    snapshot, log = _part(facts, "snapshot"), _part(facts, "log")
    begin = f"{snapshot['index']:,}  {snapshot['time']}  timeline {snapshot['timeline']}"
    if not snapshot["index"]:
        begin = "none is needed: the log begins with the first entry"
    lines = [f"snapshot   {begin}"]
    files = log["files"]
    assert isinstance(files, list)
    if files:
        count = f"{len(files)} file{'s' if len(files) > 1 else ''}"
        lines.append(
            f"log        {log['first_index']:,}..{log['last_index']:,}  {count}, "
            f"{_bytes(log['bytes'])}, every byte checked, no gap"
        )
    else:
        lines.append("log        none is needed")
    for title, key in (("cut after", "taken"), ("not taken", "not_taken")):
        if facts[key] is not None:
            entry = _part(facts, key)
            lines.append(f"{title}  {entry['index']:,}  {entry['time']}  {entry['what']}")
    if _part(facts, "cut")["inside_frame"]:
        lines.append("           both were proposed together: the cut is inside of one frame of the log")
    return lines


def _entry_facts(catalog: Catalog, head: Head, header: FrameHeader, index: int) -> dict[str, object]:
    return {
        "index": index,
        "time": time_text(header.time_ns),
        "time_ns": header.time_ns,
        "what": describe_entry(catalog, head, header, index),
    }


def _part(facts: dict[str, object], key: str) -> dict[str, object]:
    part = facts[key]
    assert isinstance(part, dict)
    return part


def _bytes(count: object) -> str:
    assert isinstance(count, int)
    size = float(count)
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _frame(catalog: Catalog, head: Head, header: FrameHeader) -> Frame:
    data = catalog.read(head)
    offset = SEGMENT_HEADER_BYTES
    while offset < len(data):
        found = frame_format.decode_header(data, offset)
        if found.first_index == header.first_index:
            return frame_format.decode(data, offset)
        offset += found.frame_bytes
    raise Corrupt(f"{head.path}: entry {header.first_index} is gone since the plan was made")
