"""Reads docs/format.md: its examples, offset tables and numbers; and writes its examples.

An example is a block ```hex NAME: on each line bytes in hex, then `;` and what they are. Behind it may
follow ```json NAME: the same as a value, bytes in hex.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from neumann.format.frame import Frame

PAGE = Path(__file__).resolve().parents[2] / "docs" / "format.md"
_LINE_BYTES = 24
_JSON_COLUMNS = 100
_BLOCK = re.compile(r"^```(hex|json) ([a-z_]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    """`value` encodes to `data`, which `decode` reads. `parts`: (bytes, name) of its fields, in order."""

    value: Any
    data: bytes
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    parts: tuple[tuple[int, str], ...]


def blocks(page: str) -> dict[tuple[str, str], str]:
    """The page's examples: ("hex" or "json", name) -> the block's text."""
    return {(kind, name): text for kind, name, text in _BLOCK.findall(page)}


def bytes_of(block: str) -> bytes:
    """The bytes of a hex block."""
    return bytes.fromhex("".join(line.partition(";")[0] for line in block.splitlines()))


def plain(value: Any) -> Any:
    """A value as the page shows it: tuples with names as objects, bytes in hex."""
    if isinstance(value, Frame):
        return plain(value.header)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: plain(item) for name, item in value._asdict().items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value.hex() if isinstance(value, bytes) else value


def hex_block(example: Example) -> str:
    """How the page shows an example's bytes."""
    lines, offset = [], 0
    assert sum(size for size, _ in example.parts) == len(example.data)
    for size, name in example.parts:
        for start in range(offset, offset + size, _LINE_BYTES):
            piece = example.data[start : min(start + _LINE_BYTES, offset + size)].hex()
            label = f"; {start:4d} {name}".rstrip() if start == offset else ";"
            lines.append(f"{piece:<{2 * _LINE_BYTES}}  {label}")
        offset += size
    return "".join(f"{line}\n" for line in lines)


def json_block(example: Example) -> str:
    """How the page shows an example's value."""
    return _indented(plain(example.value), 0) + "\n"


def _indented(value: Any, depth: int) -> str:
    """JSON on one line if that is short."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + depth <= _JSON_COLUMNS or not isinstance(value, dict | list):
        return line
    inner = "\n" + " " * (depth + 1)
    if isinstance(value, list):
        return f"[{inner}" + f",{inner}".join(_indented(item, depth + 1) for item in value) + "]"
    lines = (f"{json.dumps(name)}: {_indented(item, depth + 1)}" for name, item in value.items())
    return f"{{{inner}" + f",{inner}".join(lines) + "}"


def rewritten(page: str, examples: Mapping[str, Example]) -> str:
    """The page with its examples made anew."""

    def block(match: re.Match[str]) -> str:
        kind, name = match[1], match[2]
        text = hex_block(examples[name]) if kind == "hex" else json_block(examples[name])
        return f"```{kind} {name}\n{text}```"

    return _BLOCK.sub(block, page)
