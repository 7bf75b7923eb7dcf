"""From TOML text, the environment and the command line to one `Config`; a later source wins.

Nothing is guessed and nothing is ignored: an unknown key, a wrong type, a key given twice, a relation
that does not hold and a key whose feature is not in this release are each refused by one ConfigError
that names the place and the remedy (R13). Nothing here reads a file: the caller passes the text.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, NamedTuple

from neumann.config.keys import NODE_ID, Config, check, refusal, split_address
from neumann.errors import BadInput, ConfigError

_UNITS = {"": 1, "b": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
_SIZE = re.compile(r"([0-9]+)\s*([A-Za-z]*)")

_SECTIONS: dict[str, type] = {f.name: f.default_factory for f in fields(Config)}  # type: ignore[misc]
_KEYS: dict[str, dict[str, Field[Any]]] = {
    name: {f.name: f for f in fields(section)} for name, section in _SECTIONS.items()
}

_Key = tuple[str, str]
"""(section, key)."""


class _Given(NamedTuple):
    """A value that somebody gave, and where. `is_text`: from the environment, to be converted."""

    value: object
    place: str
    is_text: bool = False


def load(
    text: str = "",
    where: str = "configuration",
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Config:
    """The configuration in TOML `text`, which came from `where`.

    `environ` may hold anything; only NEUMANN_X__Y is read. `overrides` are the command line's, such as
    {"node.id": "n1"}, and None among them is no value. Raises ConfigError.
    """
    lines = dict(_key_lines(text))
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _not_toml(error, where, lines) from error
    given = _from_tree(tree, where, lines)
    given |= _from_environ(environ or {})
    for name, value in (overrides or {}).items():
        section, _, key = name.partition(".")
        assert key in _KEYS[section], name
        if value is not None:
            given[section, key] = _Given(value, "command line")
    return _build(given)


def from_dict(tree: Mapping[str, Mapping[str, object]], where: str = "configuration") -> Config:
    """The same from a mapping of sections; sizes may be text here too."""
    return _build(_from_tree(tree, where, {}))


def parse_size(value: object) -> int:
    """Bytes of 1048576, "1048576" or "1 MiB"; ValueError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError('a size in bytes such as 65536 or "64 KiB" (B, KiB, MiB, GiB)')
    return int(match[1]) * _UNITS[match[2].lower()]


def parse_peers(entries: list[str]) -> dict[str, str]:
    """Node id -> address of ["n1=host:7878", ...]; ValueError says what is wrong."""
    peers: dict[str, str] = {}
    for entry in entries:
        node_id, equals, address = entry.partition("=")
        if not equals or not NODE_ID.fullmatch(node_id):
            raise ValueError(f'entries like "n1=host:7878"; {entry!r} is none')
        try:
            split_address(address)
        except BadInput as error:
            raise ValueError(f'entries like "n1=host:7878"; {error.message}') from error
        if node_id in peers:
            raise ValueError(f"each node once; {node_id} is there twice")
        if address in peers.values():
            raise ValueError(f"each address once; {address} is there twice")
        peers[node_id] = address
    return peers


# --- where values come from -------------------------------------------------------------------------


def _from_tree(tree: Mapping[str, Any], where: str, lines: Mapping[_Key, list[int]]) -> dict[_Key, _Given]:
    given: dict[_Key, _Given] = {}
    for section, body in tree.items():
        if section not in _KEYS or not isinstance(body, Mapping):
            place = _place(where, lines.get((section, ""), lines.get(("", section), [])))
            raise _unknown_section(place, section, isinstance(body, Mapping))
        for key, value in body.items():
            place = _place(where, lines.get((section, key), []))
            if key not in _KEYS[section]:
                raise _unknown_key(place, section, key)
            given[section, key] = _Given(value, place)
    return given


def _from_environ(environ: Mapping[str, str]) -> dict[_Key, _Given]:
    given: dict[_Key, _Given] = {}
    for name, value in environ.items():
        if not name.startswith("NEUMANN_") or "__" not in name:
            continue
        section, _, key = name.removeprefix("NEUMANN_").lower().partition("__")
        place = f"environment, {name}"
        if section not in _KEYS:
            raise _unknown_section(place, section, True)
        if key not in _KEYS[section]:
            raise _unknown_key(place, section, key)
        given[section, key] = _Given(value, place, is_text=True)
    return given


def _key_lines(text: str) -> Iterator[tuple[_Key, list[int]]]:
    """((section, key), line numbers) of TOML text; key "" stands for the section's own header.

    tomllib doesn't tell positions. This reads lines and skips multi-line strings; it is only used to
    say where something stands.
    """
    found: dict[_Key, list[int]] = {}
    section, inside = "", ""
    for number, line in enumerate(text.splitlines(), 1):
        if not inside:
            header = re.match(r"\s*\[\s*([\w.-]+)\s*\]", line)
            key = re.match(r"\s*([\w.-]+)\s*=", line)
            if header:
                section = header[1]
                found.setdefault((section, ""), []).append(number)
            elif key:
                path = f"{section}.{key[1]}".strip(".")
                outer, _, inner = path.rpartition(".")
                found.setdefault((outer, inner), []).append(number)
        for quotes in re.findall(r'"""|\'\'\'', line):
            inside = "" if inside == quotes else inside or quotes
    yield from found.items()


# --- from values to Config --------------------------------------------------------------------------


def _build(given: Mapping[_Key, _Given]) -> Config:
    sections: dict[str, Any] = {}
    for name, section in _SECTIONS.items():
        values = {
            key: _convert(name, spec, given[name, key])
            for key, spec in _KEYS[name].items()
            if (name, key) in given
        }
        sections[name] = section(**values)
    config = Config(**sections)
    check(config, {key: value.place for key, value in given.items()})
    return config


def _convert(section: str, spec: Field[Any], given: _Given) -> object:
    """The value in the key's own type and within its bounds."""
    facts = spec.metadata
    default = spec.default if spec.default is not MISSING else {}
    convert = _CONVERTERS["size" if facts["size"] else type(default).__name__]
    try:
        value = convert(given.value, given.is_text)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if value < facts["least"]:
                raise ValueError(f"{facts['least']} or more")
            if facts["most"] is not None and value > facts["most"]:
                raise ValueError(f"{facts['most']} or less")
        if facts["choices"] and value not in facts["choices"]:
            raise ValueError("one of " + ", ".join(facts["choices"]))
    except ValueError as error:
        message = f"must be {error}, not {given.value!r}"
        raise refusal(given.place, section, spec.name, message, "") from error
    if facts["absent"] and value != default:
        raise refusal(given.place, section, spec.name, "belongs to a later release", "remove the key")
    return value


def _to_str(value: object, is_text: bool) -> str:
    if not isinstance(value, str):
        raise ValueError("text in quotes")
    return value


def _to_bool(value: object, is_text: bool) -> bool:
    found = {"true": True, "false": False}.get(str(value)) if is_text else value
    if not isinstance(found, bool):
        raise ValueError("true or false")
    return found


def _to_int(value: object, is_text: bool) -> int:
    if is_text and re.fullmatch(r"-?[0-9]+", str(value)):
        return int(str(value))
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("a whole number")
    return value


def _to_float(value: object, is_text: bool) -> float:
    if is_text and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", str(value)):
        return float(str(value))
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("a number of seconds")
    return float(value)


def _to_size(value: object, is_text: bool) -> int:
    return parse_size(value)


def _to_peers(value: object, is_text: bool) -> dict[str, str]:
    entries = [part.strip() for part in str(value).split(",") if part.strip()] if is_text else value
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ValueError('a list like ["n1=host:7878"]')
    return parse_peers(entries)


_CONVERTERS: dict[str, Callable[[object, bool], Any]] = {
    "str": _to_str,
    "bool": _to_bool,
    "int": _to_int,
    "float": _to_float,
    "size": _to_size,
    "dict": _to_peers,
}


def _place(where: str, numbers: list[int]) -> str:
    return f"{where}, line {numbers[0]}" if numbers else where


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0)
    return close[0]


def _unknown_section(place: str, section: str, is_section: bool) -> ConfigError:
    if is_section:
        return refusal(
            place, section, "", "is no section", f"did you mean [{_nearest(section, list(_KEYS))}]?"
        )
    home = [name for name, keys in _KEYS.items() if section in keys]
    remedy = f"it belongs into [{home[0]}]" if home else "keys stand below a [section]"
    return ConfigError(f"{place}: {section} stands outside of a section", remedy=remedy)


def _unknown_key(place: str, section: str, key: str) -> ConfigError:
    home = [name for name, keys in _KEYS.items() if key in keys]
    nearest = _nearest(key, list(_KEYS[section]))
    remedy = f"it belongs into [{home[0]}]" if home else f"did you mean {nearest}?"
    return refusal(place, section, key, "is an unknown key", remedy)


def _not_toml(error: tomllib.TOMLDecodeError, where: str, lines: Mapping[_Key, list[int]]) -> ConfigError:
    for (section, key), numbers in lines.items():
        if len(numbers) > 1:
            listed = ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}"
            remedy = "keep one" if key else "join them into one"
            return refusal(f"{where}, lines {listed}", section, key, f"is given {len(numbers)} times", remedy)
    return ConfigError(f"{where}: not TOML: {error}")
