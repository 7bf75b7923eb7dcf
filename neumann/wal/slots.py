"""A small value in two slots of one file, so that a torn write leaves the other (format/record.py).

Used for the vote and the sync mark. Both slots are written and synced in turn at each write, first the one
that may be torn, so at every moment one of them holds a value that was written whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from neumann.env.doors import Disk, File
from neumann.env.files import is_full, naming, read_file, write_durable
from neumann.errors import Corrupt, DiskFull, StorageFailed
from neumann.format.record import SLOT_BYTES, SLOT_COUNT

T = TypeVar("T")


class TwoSlotFile(Generic[T]):
    """The file at `path`. encode_slot(sequence, value) -> bytes; decode(bytes, where) -> (sequence, value).

    `write` and `repair` are called from one thread at a time. A failed write is final (StorageFailed).
    """

    def __init__(
        self,
        disk: Disk,
        path: str,
        encode_slot: Callable[[int, T], bytes],
        decode: Callable[[bytes, str], tuple[int, T]],
    ) -> None:
        self._disk = disk
        self._path = path
        self._encode_slot = encode_slot
        self._decode = decode
        self._file: File | None = None
        self._sequence = 0
        self._first_slot = 0
        self._failed = False

    def exists(self) -> bool:
        """True if there is such a file."""
        return self._disk.exists(self._path)

    def create(self, value: T) -> None:
        """Make the file, or replace it, atomically and durably. DiskFull: there is no file, try again."""
        assert self._file is None
        self._sequence = 1
        try:
            write_durable(self._disk, self._path, self._encode_slot(1, value) * SLOT_COUNT)
        except OSError as error:
            if is_full(error):
                raise DiskFull(f"no room for {self._path}: {error}", remedy="make room") from error
            raise self._failure(error) from error

    def read(self) -> tuple[int, T]:
        """(sequence, value) of the newest readable slot. Corrupt, with the path in its detail, if neither is,
        or the file is missing."""
        with naming(self._path):
            try:
                data = read_file(self._disk, self._path)
            except FileNotFoundError as error:
                raise Corrupt(f"{self._path} is missing") from error
            self._sequence, value = self._decode(data, self._path)
        newest = next(n for n in range(SLOT_COUNT) if self._slot_sequence(data, n) == self._sequence)
        self._first_slot = 1 - newest
        return self._sequence, value

    def repair(self) -> T:
        """Make both slots equal, at start, before anything is answered; returns the value."""
        _, value = self.read()
        self.write(value)
        return value

    def write(self, value: T) -> None:
        """Durable in both slots when it returns. `create`, `read` or `repair` came before."""
        assert self._sequence > 0, "the file was not read yet"
        if self._failed:
            raise StorageFailed(f"{self._path} failed before", remedy="restart the node")
        data = self._encode_slot(self._sequence + 1, value)
        assert len(data) == SLOT_BYTES
        try:
            if self._file is None:
                self._file = self._disk.open(self._path, write=True)
            for slot in (self._first_slot, 1 - self._first_slot):
                self._file.pwrite(data, slot * SLOT_BYTES)
                self._file.sync()
        except OSError as error:
            raise self._failure(error) from error
        self._sequence += 1

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _slot_sequence(self, data: bytes, slot: int) -> int:
        try:
            return self._decode(data[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES], self._path)[0]
        except Corrupt:
            return 0

    def _failure(self, error: OSError) -> StorageFailed:
        self._failed = True
        return StorageFailed(
            f"writing {self._path} failed: {error}", remedy="check the disk, then restart the node"
        )
