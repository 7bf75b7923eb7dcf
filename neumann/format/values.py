"""Values of rows between JSON (HTTP, SQL, the command line) and MessagePack (stored), without loss.

JSON's own values are themselves. What JSON lacks travels as an object of one key:

    {"$bytes": "<base64>"}          a bin
    {"$ext": [5, "<base64>"]}       an extension type with its code
    {"$map": [[key, value], ...]}   a map with a key that is no text, or one that looks like these
    {"$float": "nan"}               nan, inf or -inf
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from typing import Any

import msgpack

from neumann.errors import BadInput
from neumann.format.command import pack_value, unpack_value

_BYTES, _EXT, _MAP, _FLOAT = "$bytes", "$ext", "$map", "$float"
_TAGS = frozenset({_BYTES, _EXT, _MAP, _FLOAT})
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_json(packed: bytes) -> Any:
    """The JSON form of a stored value; BadInput for one nested deeper than JSON can be here."""
    try:
        return plain(unpack_value(packed))
    except RecursionError as error:
        raise BadInput("this value is nested too deeply for JSON", remedy="read it by RPC") from error


def from_json(value: Any) -> bytes:
    """The MessagePack bytes of a value as json.loads gave it; BadInput if it has none."""
    try:
        return pack_value(stored(value))
    except RecursionError as error:
        raise BadInput("this value is nested too deeply") from error


def parse(text: bytes) -> Any:
    """JSON text as Python values; BadInput for anything else, also for NaN and Infinity."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise BadInput("the body is nested too deeply") from error
    except ValueError as error:
        raise BadInput(f"the body is not JSON: {error}") from error


def _no_constant(name: str) -> None:
    raise ValueError(f'{name} is no JSON; write {{"{_FLOAT}": "nan"}}, "inf" or "-inf"')


def plain(value: Any) -> Any:
    """What json.dumps takes, of an unpacked value."""
    if isinstance(value, dict):
        if all(type(key) is str for key in value) and not _looks_tagged(value):
            return {key: plain(item) for key, item in value.items()}
        return {_MAP: [[plain(key), plain(item)] for key, item in value.items()]}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: str(value)}
    if isinstance(value, msgpack.Timestamp):
        return {_EXT: [-1, base64.b64encode(value.to_bytes()).decode()]}
    if isinstance(value, msgpack.ExtType):
        return {_EXT: [value.code, base64.b64encode(value.data).decode()]}
    return value


def stored(value: Any) -> Any:
    """The other way round; BadInput for an object that looks like those above and is none."""
    if isinstance(value, list):
        return [stored(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not _looks_tagged(value):
        return {key: stored(item) for key, item in value.items()}
    tag, content = next(iter(value.items()))
    try:
        return _untagged(tag, content)
    except (ValueError, TypeError, KeyError, binascii.Error) as error:
        raise BadInput(f"{{{json.dumps(tag)}: ...}} does not hold what it names: {error!r:.80}") from error


def _looks_tagged(value: dict[Any, Any]) -> bool:
    return len(value) == 1 and next(iter(value)) in _TAGS


def _untagged(tag: str, content: Any) -> Any:
    if tag == _BYTES:
        return base64.b64decode(content, validate=True)
    if tag == _FLOAT:
        return _FLOATS[content]
    if tag == _MAP:
        return {stored(key): stored(item) for key, item in content}
    code, data = content
    decoded = base64.b64decode(data, validate=True)
    return msgpack.Timestamp.from_bytes(decoded) if code == -1 else msgpack.ExtType(code, decoded)
