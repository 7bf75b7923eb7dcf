"""What a state holds, compared with what a file says that was kept elsewhere: verify-checksums --against.

That file is a snapshot's manifest, or the JSON of a verb that names a state: `stats`, `verify-checksums
--content`, `wal-replay`, `snapshot` or `cluster-info`. A content digest names rows and no files, so by it a
state is compared with its restore. A layout digest names one snapshot, and is compared at that one only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from neumann.env.doors import Disk
from neumann.env.files import read_file
from neumann.errors import BadInput, Corrupt, NotFound, RefusedByState
from neumann.format import manifest as manifest_format
from neumann.format import restored as restored_format
from neumann.format.manifest import Manifest, layout_digest
from neumann.format.names import Paths
from neumann.recovery.tables import Content, content_of
from neumann.snapshot.publish import list_published
from neumann.store.manifests import kept_manifests, load_newest

_TRIES = 10
_INSIDE = ("content", "restored", "snapshot")
"""Keys of JSON answers below which the words on a state may stand."""
_REMEDY = "the --format json of stats, verify-checksums --content, wal-replay, snapshot or cluster-info"


class Known(NamedTuple):
    """What a kept file says. `layout` belongs to the snapshot `id`; `rows` and `content` to the state at
    `index`; each is empty or None where the file does not say it."""

    where: str
    index: int | None  # type: ignore[assignment]  # shadows tuple.index, which nobody calls here
    id: str = ""
    layout: bytes = b""
    rows: int | None = None
    content: bytes = b""


class State(NamedTuple):
    """Rows that were read. `index`: what they are as of. `indexes`: where else the same rows were called so:
    a restored state has the index that it was restored to, and a later one of its own."""

    id: str
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody calls here
    content: Content
    indexes: frozenset[int]


def read_known(disk: Disk, path: str) -> Known:
    """The file's words. NotFound, BadInput for what names no state, Corrupt for a damaged manifest."""
    try:
        data = read_file(disk, path)
    except FileNotFoundError:
        raise NotFound(f"--against {path} does not exist") from None
    if data.startswith(manifest_format.MAGIC):
        manifest = manifest_format.decode(data, path)
        return Known(path, manifest.point.index, manifest.snapshot_id, layout_digest(manifest))
    try:
        body = json.loads(data)
    except ValueError:
        body = None
    if isinstance(body, Mapping):
        for words in (body, *(body[key] for key in _INSIDE if isinstance(body.get(key), Mapping))):
            known = _of_words(path, words)
            if known is not None:
                return known
    raise BadInput(f"--against {path} names no state", remedy=f"a snapshot's manifest, or {_REMEDY}")


def _of_words(path: str, words: Mapping[str, Any]) -> Known | None:
    index, name = words.get("index"), words.get("id", "")
    rows = words.get("rows", words.get("total_entries"))
    try:
        content = bytes.fromhex(words.get("content_digest") or "")
        layout = bytes.fromhex(words.get("digest") or "") if name else b""
    except (ValueError, TypeError):
        return None
    is_sound = isinstance(index, int) and isinstance(name, str) and isinstance(rows, int | None)
    return Known(path, index, name, layout, rows, content) if is_sound and (content or layout) else None


def state_in(disk: Disk, paths: Paths) -> tuple[Manifest, State]:
    """The rows of a data directory as of its newest snapshot, every one read; also beside a running server,
    which may drop a table meanwhile. NotFound where there is none.

    Corrupt where they are not those that the restore which made this state has noted.
    """
    for _ in range(_TRIES):
        manifest = load_newest(disk, paths.store)
        if manifest is None:
            raise NotFound(f"{paths.store} holds no state")
        try:
            content = content_of(disk, paths.store, manifest)
        except FileNotFoundError:
            continue
        return manifest, _with_restored(disk, paths, manifest, content)
    raise RefusedByState(f"{paths.store} changes faster than it can be read", remedy="try again")


def _with_restored(disk: Disk, paths: Paths, manifest: Manifest, content: Content) -> State:
    state = State(manifest.snapshot_id, manifest.point.index, content, frozenset({manifest.point.index}))
    try:
        noted = restored_format.decode(read_file(disk, paths.restored), paths.restored)
    except (FileNotFoundError, Corrupt):
        return state  # damage of that file is named by who reads all files
    if (noted.timeline, noted.base_index) != (manifest.history.timeline, manifest.point.index):
        return state
    if (noted.rows, noted.digest) != content:
        raise Corrupt(
            f"{paths.store}: holds {content.rows} rows with content digest {content.digest.hex()}, and "
            f"{paths.restored} says {noted.rows} and {noted.digest.hex()}",
            remedy="restore again: wal-replay --again",
        )
    return state._replace(indexes=state.indexes | {noted.reached_index})


def check_layout(known: Known, layouts: Mapping[str, Callable[[], bytes]], where: str) -> None:
    """Corrupt where the snapshot that the file names is another here, NotFound where it is not here.
    `layouts`: for each snapshot that is here, what finds its layout digest."""
    if known.id not in layouts:
        here = ", ".join(layouts) or "none"
        raise NotFound(
            f"{where} does not hold snapshot {known.id}, which {known.where} names; it holds {here}"
        )
    found = layouts[known.id]()
    if found != known.layout:
        raise Corrupt(
            f"{where}: snapshot {known.id} has layout digest {found.hex()}, and {known.where} says "
            f"{known.layout.hex()}",
            remedy="one of the two is of another cluster or was changed: neumann-admin inspect both",
        )


def layouts_of(*manifests: Manifest) -> dict[str, Callable[[], bytes]]:
    """For check_layout, by their manifests."""
    return {manifest.snapshot_id: partial(layout_digest, manifest) for manifest in manifests}


def layouts_in(disk: Disk, paths: Paths) -> dict[str, Callable[[], bytes]]:
    """The same of a data directory: of those in store/, and the published."""
    published = [found.manifest for found in list_published(disk, paths.snapshots) if found.manifest]
    return layouts_of(*published, *kept_manifests(disk, paths.store))


def check_content(known: Known, state: State, where: str) -> None:
    """Corrupt where the same moment has other rows; RefusedByState where the moments differ, and so do the
    rows: then nothing is proved."""
    if state.content.digest == known.content:
        return
    here = f"{state.content.rows} rows with content digest {state.content.digest.hex()}"
    rows = "rows" if known.rows is None else f"{known.rows} rows"
    there = f"{known.where} says {rows} with {known.content.hex()}"
    if known.index not in state.indexes:
        raise RefusedByState(
            f"{where}: holds {here} as of index {state.index}, and {there} as of {known.index}: two moments",
            remedy=f"compare at one index, such as a restore --until-index {known.index}",
        )
    raise Corrupt(
        f"{where}: holds {here} at index {known.index}, and {there}",
        remedy="find the rows with neumann-admin query on both sides; do not trust either yet",
    )
