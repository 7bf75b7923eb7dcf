"""Files that lie elsewhere, on another host or in an object store, read in parts over what reaches them."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from neumann.env.doors import ReadableFile

_AHEAD_BYTES = 4 * 1024 * 1024


class Parts(Protocol):
    """What reaches the files of one place."""

    def read(self, path: str, length: int, offset: int) -> bytes:
        """That part, which lies inside of the file."""
        ...


T = TypeVar("T", bound=Parts)


class DistantFile(Generic[T]):
    """See doors.ReadableFile. Its size is what it was when it was opened; nothing is held open."""

    def __init__(self, files: T, path: str, size: int) -> None:
        self._files = files
        self._path = path
        self._size = size

    def pread(self, length: int, offset: int) -> bytes:
        length = min(length, self._size - offset)
        return self._files.read(self._path, length, offset) if length > 0 else b""

    def size(self) -> int:
        return self._size

    def close(self) -> None:
        """Nothing is held open."""


class ReadAhead:
    """A distant file: a read that goes on where the last one ended brings what follows too."""

    def __init__(self, file: ReadableFile) -> None:
        self._file = file
        self._end = -1
        self._held = b""
        self._held_from = 0

    def pread(self, length: int, offset: int) -> bytes:
        begin = offset - self._held_from
        if begin >= 0 and begin + length <= len(self._held):
            self._end = offset + length
            return self._held[begin : begin + length]
        more = max(length, _AHEAD_BYTES) if offset == self._end else length
        self._held, self._held_from = self._file.pread(more, offset), offset
        self._end = offset + length
        return self._held[:length]

    def size(self) -> int:
        return self._file.size()

    def close(self) -> None:
        self._held = b""
        self._file.close()
