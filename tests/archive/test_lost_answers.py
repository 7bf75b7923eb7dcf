"""An object store behind a line that breaks: a put whose answer is lost, and one that is cut off."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from neumann.archive.destinations import destination
from neumann.archive.push import push
from neumann.env.disk import RealDisk
from neumann.env.places import Places
from neumann.errors import Unavailable
from tests import distant
from tests.archive.pushing import Node, make_node

DISK = RealDisk()


class Line:
    """A port before a store's. Of the next `puts_cut` puts the line breaks: after the store has answered,
    so that nobody hears it, or, with `early`, before all of the body has been sent."""

    def __init__(self, port: int) -> None:
        self.puts_cut = 0
        self.early = False
        self.cuts = 0
        self._store = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One request, whole; then one answer; then the connection ends."""
        with client, socket.create_connection(("127.0.0.1", self._store)) as store:
            head, _, body = self._read(client)
            is_cut = head.startswith(b"PUT") and self.puts_cut > 0
            self.puts_cut -= is_cut
            self.cuts += is_cut
            if is_cut and self.early:
                store.sendall(head + body[: len(body) // 2])
                return
            store.sendall(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1) + body)
            answer = b""
            while chunk := store.recv(65536):
                answer += chunk
            if not is_cut:
                client.sendall(answer)

    def _read(self, client: socket.socket) -> tuple[bytes, int, bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            data += client.recv(65536) or b"\r\n\r\n"
        head, _, body = data.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        length = int(fields.get(b"content-length", b"0"))
        while len(body) < length and (chunk := client.recv(65536)):
            body += chunk
        return head + b"\r\n\r\n", length, body


@pytest.fixture
def line(bucket: distant.Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """A line to the store, in the environment's place of it."""
    made = Line(bucket.port)
    for name, value in bucket.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{made.port}")
    yield made
    made.close()


@pytest.fixture
def node(tmp_path: Path) -> Node[RealDisk]:
    return make_node(DISK, str(tmp_path / "node"))


@pytest.mark.parametrize("early", [False, True])
def test_a_put_whose_line_breaks_is_made_again(line: Line, node: Node[RealDisk], early: bool) -> None:
    """The store may have taken it: a put that must find nothing there then finds the file itself."""
    root = f"s3://{distant.BUCKET}/lost-{early}"
    places = Places(DISK)
    line.early = early
    for path in node.files:
        line.puts_cut = 1
        assert push(DISK, path, destination(places, root, b"12345678")).did in ("copied", "there")
        assert line.puts_cut == 0
    assert line.cuts == len(node.files)
    assert places.list(root) == sorted(Path(path).name for path in node.files)
    for path in node.files:
        found = places.open(f"{root}/{Path(path).name}")
        assert found.pread(found.size(), 0) == Path(path).read_bytes()


def test_a_line_that_stays_broken_is_a_failure_and_the_same_push_again_ends_it(
    line: Line, node: Node[RealDisk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neumann.env.objects._TRIES", 1)
    root = f"s3://{distant.BUCKET}/broken"
    line.puts_cut = 1
    with pytest.raises(Unavailable, match="the object store failed"):
        push(DISK, node.history_path, destination(Places(DISK), root, b"12345678"))
    assert push(DISK, node.history_path, destination(Places(DISK), root, b"12345678")).did == "there"
