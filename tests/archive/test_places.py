"""One suite over the three kinds of places: a directory, a host over ssh, an object store.

Whatever holds for reading a directory holds for the others, and whatever wal-push promises in a directory
it promises there. The host is a real sshd, the store a real S3 server, both on loopback.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from neumann.archive.destinations import Destination, destination
from neumann.archive.push import Pushed, push
from neumann.archive.sources import directory, source
from neumann.env.disk import RealDisk
from neumann.env.places import Places
from neumann.errors import (
    BadInput,
    Corrupt,
    DiskFull,
    NeumannError,
    NotFound,
    RefusedByState,
    Unavailable,
    WrongHistory,
)
from neumann.recovery.survey import survey
from tests import distant
from tests.archive.pushing import make_node

DISK = RealDisk()


@dataclass
class Ground:
    """A place of one kind. `put` writes there as somebody else would."""

    kind: str
    places: Places
    root: str
    put: Callable[[str, bytes], None]

    def destination(self, part: str = "wal") -> Destination:
        return destination(self.places, f"{self.root}/{part}", random.randbytes(8))

    def contents(self, part: str = "wal") -> dict[str, bytes]:
        place = f"{self.root}/{part}"
        return {name: self.read(f"{part}/{name}") for name in self.places.list(place)}

    def read(self, name: str) -> bytes:
        file = self.places.open(f"{self.root}/{name}")
        try:
            return file.pread(file.size(), 0)
        finally:
            file.close()


@pytest.fixture(params=["directory", "host", "store"])
def ground(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ground]:
    """A place of each kind, with an empty `wal`."""
    monkeypatch.setattr("neumann.env.ssh._PAUSES_S", (0.01,))
    monkeypatch.setattr("neumann.env.objects._TRIES", 1)
    places = Places(DISK)
    kind = request.param

    def write(name: str, data: bytes) -> None:
        path = tmp_path / "there" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    (tmp_path / "there" / "wal").mkdir(parents=True)
    if kind == "directory":
        yield Ground(kind, places, f"{tmp_path}/there", write)
    elif kind == "host":
        host = request.getfixturevalue("host")
        monkeypatch.setenv("NEUMANN_SSH", host.environ["NEUMANN_SSH"])
        yield Ground(kind, places, f"backup:{tmp_path}/there", write)
    else:
        for name, value in request.getfixturevalue("bucket").environ.items():
            monkeypatch.setenv(name, value)
        root = f"s3://{distant.BUCKET}/{uuid.uuid4()}"
        objects = places.objects(root)
        assert objects is not None
        yield Ground(kind, places, root, lambda n, data: objects.put(f"{root}/{n}", data))
    places.close()


# --- reading -------------------------------------------------------------------------------------


def test_what_is_there_is_read_whole_and_in_parts(ground: Ground) -> None:
    big = random.Random(1).randbytes(9_000_000)
    files = {"a file": b"x", "empty": b"", 'it\'s "$q"': b"\n" * 100, "big": big}
    for name, data in files.items():
        ground.put(f"wal/{name}", data)
    ground.put("wal/deeper/below", b"1")
    assert ground.places.list(f"{ground.root}/wal") == sorted([*files, "deeper"])
    assert {name: ground.read(f"wal/{name}") for name in files} == files
    file = ground.places.open(f"{ground.root}/wal/big")
    assert file.size() == len(big)
    for offset, length in [
        (0, 10),
        (10, 20),
        (30, 5_000_000),
        (5_000_030, 5_000_000),
        (8_999_999, 9),
        (7, 3),
    ]:
        assert file.pread(length, offset) == big[offset : offset + length]
    assert file.pread(10, len(big)) == b""
    file.close()
    assert ground.read("wal/deeper/below") == b"1"
    assert ground.places.stat(f"{ground.root}/wal/deeper").is_directory
    assert ground.places.stat(f"{ground.root}/wal/big").size_bytes == len(big)
    with pytest.raises(OSError):
        ground.places.read_link(f"{ground.root}/wal/big")


def test_what_is_not_there_is_not_found_and_nothing_else(ground: Ground) -> None:
    ground.put("wal/file", b"1")
    for name in ("wal/nothing", "nothing", "nothing/below"):
        assert not ground.places.exists(f"{ground.root}/{name}")
        assert ground.places.list(f"{ground.root}/{name}") == []
        for ask in (ground.places.open, ground.places.stat):
            with pytest.raises(FileNotFoundError):
                ask(f"{ground.root}/{name}")
        with pytest.raises(NotFound):
            directory(ground.places, f"{ground.root}/{name}", "--wal-dir")
    assert ground.places.exists(f"{ground.root}/wal/file") and ground.places.exists(f"{ground.root}/wal")
    with pytest.raises(BadInput, match="is a file"):
        directory(ground.places, f"{ground.root}/wal/file", "--wal-dir")


def test_what_is_there_and_no_file_is_not_waited_for(ground: Ground, tmp_path: Path) -> None:
    """Who opened a FIFO here waited for ever; a directory of a store was an empty file."""
    ground.put("wal/below/x", b"1")
    kinds = {"below": "directory"}
    if ground.kind != "store":
        os.mkfifo(tmp_path / "there/wal/fifo")
        with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(tmp_path / "there/wal"):
            made.bind("socket")
        (tmp_path / "there/wal/null").symlink_to("/dev/null")
        kinds |= {"fifo": "FIFO", "socket": "socket", "null": "device"}
    for _ in ("asked for alone", "listed before"):
        for name, kind in kinds.items():
            path = f"{ground.root}/wal/{name}"
            assert ground.places.stat(path).kind == kind
            with pytest.raises(Corrupt, match=f"{name}: is a {kind}, and no file"):
                ground.places.open(path)
            with pytest.raises(Corrupt, match="and no file"):
                ground.destination().head(name, 1)
        assert ground.places.list(f"{ground.root}/wal") == sorted(kinds)


def test_a_repository_anywhere(ground: Ground) -> None:
    ground.put("none/other/x", b"")
    with pytest.raises(NotFound, match="neither"):
        source(ground.places, repo=f"{ground.root}/none")
    ground.put("wal/x", b"1")
    assert source(ground.places, repo=ground.root + "/") == (f"{ground.root}/wal", "")
    ground.put("snapshots/x", b"1")
    found = source(ground.places, repo=ground.root)
    assert found == (f"{ground.root}/wal", f"{ground.root}/snapshots")


def test_an_archive_is_surveyed_alike_wherever_it_lies(ground: Ground, tmp_path: Path) -> None:
    node = make_node(DISK, str(tmp_path), segments=5)
    for path in node.files:
        push(DISK, path, ground.destination())
    here = tmp_path / "copy"
    here.mkdir()
    for name, data in ground.contents().items():
        (here / name).write_bytes(data)
    expected = survey(DISK, source(DISK, wal_dir=str(here)), bodies=True)
    found = survey(ground.places, source(ground.places, wal_dir=f"{ground.root}/wal"), bodies=True)
    assert found.runs == expected.runs and found.recoverable == expected.recoverable
    assert found.runs.found[0].files == 5 and not found.runs.wrong
    assert found.catalog.heads[0].path == f"{ground.root}/wal/{Path(node.segments[0]).name}"


# --- writing -------------------------------------------------------------------------------------


def test_a_push_the_same_again_and_the_rest_of_a_killed_copy(ground: Ground, tmp_path: Path) -> None:
    node = make_node(DISK, str(tmp_path))
    files = {Path(path).name: Path(path).read_bytes() for path in node.files}
    assert [push(DISK, path, ground.destination()).did for path in node.files] == ["copied"] * 3
    assert [push(DISK, path, ground.destination()).did for path in node.files] == ["there"] * 3
    assert ground.contents() == files
    name = Path(node.segments[1]).name
    for kept in (0, 1, 100, len(files[name]) - 1):
        ground.put(f"wal/{name}", files[name][:kept])
        assert push(DISK, node.segments[1], ground.destination()) == Pushed(
            name, len(files[name]), "replaced"
        )
        assert ground.contents() == files


def test_other_bytes_are_left_alone(ground: Ground, tmp_path: Path) -> None:
    node = make_node(DISK, str(tmp_path))
    push(DISK, node.history_path, ground.destination())
    name = Path(node.segments[0]).name
    data = bytearray(Path(node.segments[0]).read_bytes())
    data[-1] ^= 1
    ground.put(f"wal/{name}", bytes(data))
    with pytest.raises(RefusedByState, match="other bytes"):
        push(DISK, node.segments[0], ground.destination())
    assert ground.contents()[name] == data


def test_an_unmounted_directory_or_a_foreign_one_is_told_by_its_stamp(ground: Ground, tmp_path: Path) -> None:
    node = make_node(DISK, str(tmp_path / "one"))
    ground.put("wal/notes.txt", b"somebody's")
    before = ground.contents()
    with pytest.raises(RefusedByState, match=r"is it mounted\?"):
        push(DISK, node.segments[0], ground.destination())
    assert ground.contents() == before
    other = make_node(DISK, str(tmp_path / "two"), seed=2)
    push(DISK, other.history_path, ground.destination())
    with pytest.raises(WrongHistory, match="is the archive of cluster"):
        push(DISK, node.history_path, ground.destination())


def test_two_at_once_do_no_harm(ground: Ground, tmp_path: Path) -> None:
    """The second finds the first's file where it looked before and saw none."""
    node = make_node(DISK, str(tmp_path))
    push(DISK, node.history_path, ground.destination())
    slow, name = ground.destination(), Path(node.segments[0]).name
    create = slow.create

    def late(name: str, data: bytes) -> None:
        push(DISK, node.segments[0], ground.destination())
        create(name, data)

    slow.create = late  # type: ignore[method-assign]
    assert push(DISK, node.segments[0], slow).did == "there"
    assert ground.contents()[name] == Path(node.segments[0]).read_bytes()


def test_a_directory_that_is_missing_is_no_archive(ground: Ground) -> None:
    if ground.kind == "store":
        with pytest.raises(NotFound, match="s3://no-such-bucket does not exist"):
            destination(ground.places, "s3://no-such-bucket/wal", b"12345678")
    else:
        with pytest.raises(NotFound, match="does not exist"):
            ground.destination("missing")


# --- what fails ----------------------------------------------------------------------------------


def test_a_host_that_does_not_answer_has_failed_and_is_not_empty(
    host: distant.SshHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neumann.env.ssh._PAUSES_S", (0.01,))
    monkeypatch.setenv("NEUMANN_SSH", f"{host.environ['NEUMANN_SSH']} -p 1")
    places = Places(DISK)
    for ask in (places.list, places.exists, places.stat, places.open):
        with pytest.raises(Unavailable, match=r"backup could not be asked over ssh: .*Connection refused"):
            ask(f"backup:{tmp_path}")
    with pytest.raises(Unavailable):
        destination(places, f"backup:{tmp_path}", b"12345678")


@pytest.fixture
def odd_ls(host: distant.SshHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes `ls -lnA` of the host end with these shell words, after what it really says."""
    path = tmp_path / "odd" / "ls"
    path.parent.mkdir()
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f'#!/bin/bash\nexec {host.environ["NEUMANN_SSH"]} "${{@:1:$#-1}}" '
        f'"export PATH={path.parent}:\\$PATH; ${{@:$#}}"\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("NEUMANN_SSH", str(ssh))

    def make(words: str) -> None:
        path.write_text(f'#!/bin/sh\n/bin/ls "$@" || exit\n[ "$1" != -lnA ] || {{ {words}; }}\n')
        path.chmod(0o755)

    return make


def test_a_name_that_goes_away_during_a_listing(odd_ls: Callable[[str], None], tmp_path: Path) -> None:
    """Bug: `ls` reads the names, then looks at each, and tells of one that went meanwhile (wal-push has
    renamed its file) as of a directory that is missing; the archive was taken for an empty one, and
    `--until latest` restored the snapshot alone."""
    there = tmp_path / "there"
    there.mkdir()
    (there / "x").write_bytes(b"1")
    gone = "echo \"ls: cannot access '$3/y.tmp': No such file or directory\" >&2; exit 1"
    odd_ls(f"rm {tmp_path}/once 2>/dev/null && {{ {gone}; }}; exit 0")
    (tmp_path / "once").write_text("")
    places = Places(DISK)
    assert places.list(f"backup:{there}") == ["x"] and not (tmp_path / "once").exists()
    odd_ls(gone)
    with pytest.raises(Unavailable, match="could not be listed"):
        places.list(f"backup:{there}")
    assert places.list(f"backup:{there}/nothing") == []
    places.close()


def test_a_store_that_does_not_answer_has_failed_and_is_not_empty(
    bucket: distant.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wal-g#1126 again: what can't be asked is not the end of an archive."""
    for name, value in {**bucket.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("neumann.env.objects._TRIES", 1)
    places = Places(DISK)
    for ask in (places.list, places.exists, places.stat, places.open):
        with pytest.raises(Unavailable, match="the object store failed"):
            ask(f"s3://{distant.BUCKET}/wal")
    with pytest.raises(Unavailable):
        destination(places, f"s3://{distant.BUCKET}/wal", b"12345678")


def test_a_connection_that_ends_in_the_middle_of_a_file(
    host: distant.SshHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other side is content with an end. What is read back is not, and nothing has the name."""
    cut = tmp_path / "cut"
    ssh = host.environ["NEUMANN_SSH"]
    cut.write_text(
        f'#!/bin/sh\ncase "$*" in\n*"sh -c"*) head -c 20 | {ssh} "$@" ;;\n*) exec {ssh} "$@" ;;\nesac\n'
    )
    cut.chmod(0o755)
    there = tmp_path / "there"
    there.mkdir()
    node = make_node(DISK, str(tmp_path / "node"))
    monkeypatch.setenv("NEUMANN_SSH", str(cut))
    places = Places(DISK)
    with pytest.raises(Corrupt, match="is not what is read back"):
        push(DISK, node.history_path, destination(places, f"backup:{there}", b"12345678"))
    places.close()
    assert list(there.iterdir()) == []
    monkeypatch.setenv("NEUMANN_SSH", ssh)
    places = Places(DISK)
    assert push(DISK, node.history_path, destination(places, f"backup:{there}", b"12345678")).did == "copied"
    places.close()


@pytest.mark.slow
def test_sigkill_at_random_moments_and_the_same_command_again(ground: Ground, tmp_path: Path) -> None:
    node = make_node(DISK, str(tmp_path / "node"), segments=1)
    admin = Path(sys.executable).parent / "neumann-admin"
    for path in node.files:
        for _ in range(6):
            process = subprocess.Popen([admin, "wal-push", path, f"{ground.root}/wal", "--quiet"])
            time.sleep(random.uniform(0.2, 1.5))
            process.kill()
            process.wait()
            there = ground.contents()
            for name, data in there.items():
                assert name.endswith(".tmp") or data in {Path(file).read_bytes() for file in node.files}
        subprocess.run([admin, "wal-push", path, f"{ground.root}/wal"], check=True, capture_output=True)
    assert ground.contents() == {Path(path).name: Path(path).read_bytes() for path in node.files}


def test_a_connection_that_is_lost_is_made_again(
    host: distant.SshHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading goes on by itself; what was lost for good is told, and is not an empty file."""
    monkeypatch.setattr("neumann.env.ssh._PAUSES_S", (0.01,))
    monkeypatch.setenv("NEUMANN_SSH", host.environ["NEUMANN_SSH"])
    (tmp_path / "file").write_bytes(b"x" * 1000)
    places = Places(DISK)
    files = places.host("backup:")
    assert files is not None and files.list(f"backup:{tmp_path}") == ["file"]
    assert files._shell is not None
    files._shell._process.kill()
    file = places.open(f"backup:{tmp_path}/file")
    assert file.pread(1000, 0) == b"x" * 1000
    monkeypatch.setattr(files, "_command", ("false",))
    files._shell._process.kill()
    with pytest.raises(Unavailable):
        places.open(f"backup:{tmp_path}/file").pread(10, 0)
    places.close()


def test_ssh_is_told_missing_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUMANN_SSH", "/no/such/ssh")
    with pytest.raises(NeumannError, match="/no/such/ssh is not installed; install openssh-client"):
        Places(DISK).list("backup:x")


def test_a_full_host_keeps_nothing_of_the_file(
    host: distant.SshHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEUMANN_SSH", host.environ["NEUMANN_SSH"])
    small, node = tmp_path / "small", make_node(DISK, str(tmp_path / "node"))
    small.mkdir()
    places = Places(DISK)
    if not host.run(f"mount -t tmpfs -o size=64k none {small}"):
        pytest.skip("needs root, to mount a small tmpfs")
    try:
        target = destination(places, f"backup:{small}", b"12345678")
        push(DISK, node.history_path, target)
        host.run(f"head -c 100000 /dev/zero > {small}/ballast")
        with pytest.raises(DiskFull, match="make room there"):
            push(DISK, node.segments[0], target)
        assert target.list() == sorted(["ballast", Path(node.history_path).name])
        assert host.run(f"rm {small}/ballast")
        assert push(DISK, node.segments[0], target).did == "copied"
    finally:
        places.close()
        host.run(f"umount {small}")


def test_the_extra_that_is_missing_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(NeumannError) as told:
        Places(DISK).list("s3://bucket/wal")
    assert str(told.value) == "obstore is not installed; pip install 'neumann[s3]'"
