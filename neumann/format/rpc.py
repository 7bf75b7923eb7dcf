"""MessagePack-RPC framing on port 7878, for clients and peers alike (interface.md, section 7).

    request       [0, id, method, params]
    answer        [1, id, error, result]       error is nil or [code, text, detail]
    notification  [2, method, params]          peers only: ["raft", [peer message]]

Messages follow each other without a separator. A size limit applies before anything is decoded.
"""

from __future__ import annotations

import reprlib
from typing import Any

import msgpack

from neumann.errors import NeumannError, all_error_classes
from neumann.format import limits

REQUEST, ANSWER, NOTIFICATION = 0, 1, 2
PROTOCOL_VERSION = 1


def new_unpacker() -> msgpack.Unpacker:
    """A stream decoder with the size limit; raises msgpack.BufferFull or a ValueError on bad input."""
    return msgpack.Unpacker(
        use_list=False,
        raw=False,
        strict_map_key=False,
        max_buffer_size=limits.RPC_MESSAGE_BYTES_MAX,
        read_size=1024 * 1024,
    )


def pack(message: object) -> bytes:
    """Bytes of one message."""
    packed: bytes = msgpack.packb(message, use_bin_type=True)
    return packed


def error_to_wire(error: NeumannError) -> list[object]:
    """[code, text, detail]; the remedy travels in detail."""
    detail = dict(error.detail)
    if error.remedy:
        detail["remedy"] = error.remedy
    return [error.code, error.message, detail]


_CLASSES = all_error_classes()


def error_from_wire(plain: Any) -> NeumannError:
    """The exception that a peer or server answered with; unknown codes become NeumannError."""
    match plain:
        case (str() as code, str() as text, dict() as detail):
            known = {key: value for key, value in detail.items() if type(key) is str}
            remedy = known.pop("remedy", "")
            remedy = remedy if type(remedy) is str else ""
            return _CLASSES.get(code, NeumannError)(text, remedy=remedy, detail=known)
    return NeumannError(f"the server answered an error that can't be read: {reprlib.repr(plain)}")
