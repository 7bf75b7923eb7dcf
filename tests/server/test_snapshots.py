"""The files of a published snapshot over HTTP, against a real node."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from neumann.env.disk import RealDisk, RealFile
from neumann.env.doors import File
from neumann.server import snapshots
from tests.server.conftest import Reply, Web


class Made(NamedTuple):
    """A snapshot with one table: its files, and the route to them."""

    manifest: Path
    table: Path
    route: str
    base: str

    def url(self, path: Path) -> str:
        """Of one of its files."""
        return self.base + self.route + path.name


async def snapshot(web: Web) -> Made:
    """A row, and a snapshot of it."""
    await web.ask("PUT", "/kv/t/k", "v" * 1000)
    made = (await web.ask("POST", "/admin/snapshot")).body
    one = (await web.ask("GET", f"/admin/snapshots/{made['id']}")).body
    manifest = Path(one["path"], "manifest")
    table = manifest.with_name(f"{one['tables'][0]['digest']}.table")
    return Made(manifest, table, f"/admin/snapshots/{made['id']}/files/", web.url)


async def test_the_files_of_a_snapshot(web: Web) -> None:
    made = await snapshot(web)
    for path in (made.manifest, made.table):
        content, url = path.read_bytes(), made.url(path)
        size = len(content)
        async with web.session.get(url) as whole:
            assert (whole.status, await whole.read()) == (200, content)
            assert (whole.headers["accept-ranges"], whole.headers["x-neumann-node"]) == ("bytes", "n1")
        for asked, first, end in (("5-9", 5, 10), ("10-", 10, size), ("-7", size - 7, size), ("0-", 0, size)):
            async with web.session.get(url, headers={"Range": f"bytes={asked}"}) as part:
                assert (part.status, await part.read()) == (206, content[first:end])
                assert part.headers["content-range"] == f"bytes {first}-{end - 1}/{size}"
    for absent, status in (("x.table", 400), ("..%2Fmanifest", 400), (f"{'0' * 64}.table", 404)):
        assert (await web.ask("GET", made.route + absent)).status == status
    assert (await web.ask("GET", "/admin/snapshots/9-9/files/manifest")).status == 404


async def test_ranges_that_a_file_has_not(web: Web) -> None:
    """`bytes=-0` got the whole file as a part, and who asked beyond the end was not told where that is."""
    made = await snapshot(web)
    size = made.table.stat().st_size
    for asked in (f"{size}-", "-0", f"{size + 5}-{size + 9}"):
        async with web.session.get(made.url(made.table), headers={"Range": f"bytes={asked}"}) as refused:
            assert (refused.status, (await refused.json())["code"]) == (416, "bad_input")
            assert refused.headers["content-range"] == f"bytes */{size}"


async def test_a_range_that_is_not_one_of_bytes_is_ignored(web: Web) -> None:
    """Other units and several ranges were refused, where a server that has none of them sends the whole."""
    made = await snapshot(web)
    content = made.table.read_bytes()
    for ignored in ("lines=1-2", "bytes=0-1,4-5", "bytes=9-5", "bytes=", "bytes"):
        async with web.session.get(made.url(made.table), headers={"Range": ignored}) as whole:
            assert (whole.status, await whole.read()) == (200, content), ignored
            assert "content-range" not in whole.headers


async def test_a_table_that_the_manifest_does_not_name(web: Web) -> None:
    """Whatever lay in the directory under the name of a table was given out as one of the snapshot's."""
    made = await snapshot(web)
    other = made.table.with_name(f"{'1' * 64}.table")
    shutil.copyfile(made.table, other)
    assert (await web.ask("GET", made.route + other.name)).status == 404


async def test_only_the_head_of_a_file(web: Web) -> None:
    """HEAD sent the file, which the client of a kept connection took for the head of the next answer."""
    made = await snapshot(web)
    size = made.table.stat().st_size
    async with web.session.head(made.url(made.table), headers={"Range": "bytes=0-9"}) as head:
        assert (head.status, head.headers["content-length"]) == (200, str(size))
    said = await asyncio.to_thread(_raw, web.url, f"HEAD {made.route}{made.table.name}")
    assert said.startswith(b"HTTP/1.1 200") and said.endswith(b"\r\n\r\n") and said.count(b"\r\n\r\n") == 1


async def test_a_disk_that_fails_before_the_first_byte_is_no_bug(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed to open was told as `this is a bug in neumann`, with nothing to do about it."""
    made = await snapshot(web)

    route, kept, opens = f"{made.route}{made.table.name}", made.table.read_bytes(), RealDisk.open

    def has_no_more(disk: RealDisk, path: str, **how: bool) -> File:
        if path == str(made.table):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
        return opens(disk, path, **how)

    def is_told(told: Reply, why: str) -> bool:
        body = told.body
        is_ours = (told.status, body["code"]) == (500, "storage_failed") and "checksums" in body["remedy"]
        return is_ours and f"can't be read: {why}" in body["error"]

    with monkeypatch.context() as patch:
        patch.setattr(RealDisk, "open", has_no_more)
        assert is_told(await web.ask("GET", route), "Too many open files")
    made.table.unlink()
    made.table.symlink_to(made.table)
    for asked in (route, "/admin/snapshots"):
        assert is_told(await web.ask("GET", asked), "Too many levels of symbolic links")
    made.table.unlink()
    os.mkfifo(made.table)
    told = await web.ask("GET", route)
    assert (told.status, told.body["code"]) == (503, "corrupt") and "is a FIFO" in told.body["error"]
    made.table.unlink()
    made.table.write_bytes(kept)
    async with web.session.get(made.url(made.table)) as whole:
        assert (whole.status, await whole.read()) == (200, kept)


def _raw(url: str, asked: str) -> bytes:
    """All that a server sends until it ends the connection."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"{asked} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def small_steps(patch: pytest.MonkeyPatch, size: int, second: Callable[[bytes], bytes]) -> None:
    """Files of snapshots are sent in steps of 64 bytes; what the second and later steps read goes through
    `second`. `size` tells such a step from other reads."""
    pread = RealFile.pread

    def read(file: RealFile, length: int, offset: int) -> bytes:
        data = pread(file, length, offset)
        return second(data) if length == 64 and offset and file.size() == size else data

    patch.setattr(snapshots, "_CHUNK_BYTES", 64)
    patch.setattr(RealFile, "pread", read)


def _fails(data: bytes) -> bytes:
    raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize(
    ("second", "why"), [(_fails, "Input/output error"), (lambda data: data[:5], "the file ends at 69")]
)
async def test_a_file_that_can_t_be_read_to_its_end_is_cut_off(
    web: Web,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    second: Callable[[bytes], bytes],
    why: str,
) -> None:
    """The error's own answer was written into the body, as bytes of the file, and after a short read the
    client waited for the rest for ever."""
    made = await snapshot(web)
    content = made.table.read_bytes()
    with monkeypatch.context() as patch:
        small_steps(patch, len(content), second)
        async with asyncio.timeout(5):
            said = await asyncio.to_thread(_raw, web.url, f"GET {made.route}{made.table.name}")
    head, _, body = said.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(content)}".encode() in head
    assert body == content[:64]
    assert f"cut off behind 64 of {len(content)} bytes" in caplog.text and why in caplog.text
    async with web.session.get(made.url(made.table)) as whole:
        assert await whole.read() == content


async def test_a_client_that_goes_away_from_a_file_is_no_bug(
    web: Web, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was logged as a bug in neumann, and counted as an answer with status 500."""
    caplog.set_level(logging.INFO)
    made = await snapshot(web)
    is_gone = threading.Event()

    def second(data: bytes) -> bytes:
        is_gone.wait(5)
        time.sleep(0.01)
        return data

    with monkeypatch.context() as patch:
        small_steps(patch, made.table.stat().st_size, second)
        async with aiohttp.ClientSession() as session, session.get(made.url(made.table)) as begun:
            assert begun.status == 200
            begun.close()
            is_gone.set()
            async with asyncio.timeout(5):
                while "the client went away" not in caplog.text:
                    await asyncio.sleep(0.01)
    assert "bug" not in caplog.text and "failed" not in caplog.text
    assert 'code="500"' not in (await web.ask("GET", "/metrics")).body
