"""Makes docs/reference.md: every verb, flag, route, configuration key, metric, error and exit code.

Nothing is written here that the code knows: each part is read from the object that the program itself
uses (the parser, the group of verbs, the routes, the keys, the table of metrics, the error classes).
`--check` writes nothing and exits 1 if the page is not what the code says.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import click

from neumann.cli.group import group
from neumann.cli.headings import HEADINGS
from neumann.cli.server import parser
from neumann.config import Config
from neumann.errors import NeumannError, all_error_classes
from neumann.server import kv, members, query
from neumann.server.admin import GROUPS
from neumann.server.metrics import METRICS, PREFIX
from neumann.server.routes import Input, Route, declared

PAGE = Path(__file__).resolve().parents[1] / "docs/reference.md"
_COMMON = ("admin", "config_path", "form", "token_file", "ca_file", "timeout_s", "quiet")


def main() -> None:
    options = argparse.ArgumentParser(prog="scripts/reference", description="Write docs/reference.md.")
    options.add_argument("--check", action="store_true", help="write nothing; exit 1 if it is stale")
    check = options.parse_args().check
    text = "\n".join(page())
    if check and (not PAGE.exists() or PAGE.read_text() != text):
        sys.exit("docs/reference.md is not what the code says; run scripts/reference")
    if not check:
        PAGE.write_text(text)


def page() -> Iterator[str]:
    """The lines of the page."""
    yield "# Reference"
    yield ""
    yield "Made from the code by `scripts/reference`; a test fails when the two differ. docs/runbook.md says"
    yield "how the verbs work together, docs/python.md how a program uses the store."
    for heading, part in (
        ("`neumann`: the server", server()),
        ("`neumann-admin`: the verbs", verbs()),
        ("Exit codes", exit_codes()),
        ("Errors", errors()),
        ("HTTP", routes()),
        ("Configuration", keys()),
        ("Metrics", metrics()),
    ):
        yield from ("", f"## {heading}", "")
        yield from part


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for row in rows:
        cells = (cell.replace("|", "\\|").replace("\n", " ") for cell in row)
        yield f"| {' | '.join(cells)} |"


# --- programs ------------------------------------------------------------------------------------


def server() -> Iterator[str]:
    yield "Runs one node until SIGTERM or SIGINT. A flag goes before the environment, that before the file."
    yield ""
    flags = [action for action in parser()._actions if action.option_strings]
    yield from table(
        ("flag", "meaning"),
        (
            (
                f"`{' '.join([flag.option_strings[-1], *([str(flag.metavar)] if flag.metavar else [])])}`",
                flag.help or "",
            )
            for flag in flags
        ),
    )


def verbs() -> Iterator[str]:
    any_verb = next(iter(group.commands.values()))
    yield "Every verb takes these:"
    yield ""
    yield from flags(parameter for parameter in any_verb.params if parameter.name in _COMMON)
    for heading, examples in HEADINGS.items():
        yield from ("", f"### {heading}")
        for name, example in examples.items():
            yield from ("", f"#### {name}", "")
            yield from verb(group.commands[name], example)


def verb(command: click.Command, example: str) -> Iterator[str]:
    yield (command.help or "").strip()
    own = [parameter for parameter in command.params if parameter.name not in _COMMON]
    if own:
        yield ""
        yield from flags(own)
    yield from ("", "```text", example, "```")


def flags(parameters: Iterable[click.Parameter]) -> Iterator[str]:
    yield from table(("flag or argument", "meaning"), map(flag, parameters))


def flag(parameter: click.Parameter) -> tuple[str, str]:
    context = click.Context(click.Command("any"))
    if isinstance(parameter, click.Argument):
        return f"`{parameter.make_metavar(context)}`", "" if parameter.required else "may be left out"
    assert isinstance(parameter, click.Option)
    written, meaning = parameter.get_help_record(context) or ("", "")
    environment = f" Environment: `{parameter.envvar}`." if parameter.envvar else ""
    return f"`{written}`", meaning + environment


def exit_codes() -> Iterator[str]:
    by_code: dict[int, list[type[NeumannError]]] = {}
    for error in all_error_classes().values():
        by_code.setdefault(error.exit_code, []).append(error)
    yield from table(
        ("code", "errors"),
        [("0", "done")]
        + [(str(code), ", ".join(sorted(e.__name__ for e in by_code[code]))) for code in sorted(by_code)],
    )
    yield ""
    yield "`cluster-status` exits 0 for SAFE, 1 for DEGRADED and 8 for DOWN."


def errors() -> Iterator[str]:
    yield "One condition has one class in Python, one `code` in JSON and RPC, one exit code, one HTTP status."
    yield ""
    yield from table(
        ("class", "code", "exit", "HTTP", "meaning"),
        (
            (e.__name__, f"`{e.code}`", str(e.exit_code), str(e.http_status), inspect.getdoc(e) or "")
            for e in sorted(all_error_classes().values(), key=lambda e: (e.exit_code, e.__name__))
        ),
    )


# --- HTTP ----------------------------------------------------------------------------------------


def routes() -> Iterator[str]:
    yield "JSON on `[node] admin_listen`. Any node takes any request. A failure is never a 2xx, and its body"
    yield 'is `{"error", "code", "remedy"}`. With `[security] token_file` every request but /health carries'
    yield "`Authorization: Bearer TOKEN`. `GET /openapi.json` says the same, for programs, as OpenAPI 3.1."
    yield ""
    yield from table(("route", "meaning", "query parameters", "body"), map(_route, declared(*GROUPS)))
    for module, title in ((kv, "Rows"), (query, "SQL"), (members, "Members")):
        yield from ("", f"### {title}", "", "```text", inspect.getdoc(module) or "", "```")


def _route(route: Route) -> tuple[str, str, str, str]:
    asked = _names(route.query)
    sent = "any JSON value" if isinstance(route.body, Input) else _names(route.body)
    return f"`{route.method} {route.plain_path}`", route.text, asked, sent


def _names(inputs: Iterable[Input]) -> str:
    return ", ".join(f"`{each.name}`" for each in inputs)


# --- configuration and metrics -------------------------------------------------------------------


def keys() -> Iterator[str]:
    yield 'TOML; sizes are integers or `"64 MiB"`. `NEUMANN_<SECTION>__<KEY>` in the environment goes before'
    yield "the file. An unknown key is refused, with the nearest known one. A change takes effect at a"
    yield "restart, that of a key with *reload* also by `neumann-admin reload`, or SIGHUP."
    for section in fields(Config):
        made: Any = section.default_factory
        yield from ("", f"### {(inspect.getdoc(made) or '').partition(':')[0]}", "")
        yield (inspect.getdoc(made) or "").partition(": ")[2]
        yield ""
        yield from table(("key", "default", "meaning"), map(key, fields(made)))


def key(item: Field[Any]) -> tuple[str, str, str]:
    facts: Mapping[str, Any] = item.metadata
    default = [] if isinstance(item.default_factory, type) else item.default
    parts = [facts["text"]]
    if facts["choices"]:
        parts.append("one of " + ", ".join(facts["choices"]))
    if facts["reload"] and not facts["absent"]:
        parts.append("*reload*")
    if facts["absent"]:
        parts.append("belongs to a later release: only the default is taken")
    return (
        f"`{item.name}`",
        f"`{_toml(default, is_size=facts['size'])}`",
        "; ".join(part for part in parts if part),
    )


def _toml(value: object, *, is_size: bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if is_size and isinstance(value, int):
        for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
            if value and value % unit == 0:
                return f'"{value // unit} {name}"'
    return (
        f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)
    )


def metrics() -> Iterator[str]:
    yield "Prometheus text at `GET /metrics`. Beside these, `process_*` of prometheus_client."
    yield ""
    rows = []
    for name, spec in METRICS.items():
        labels = "{" + ",".join(spec.labels) + "}" if spec.labels else ""
        rows.append((f"`{PREFIX}{name}{labels}`", spec.text))
    yield from table(("metric", "meaning"), rows)


if __name__ == "__main__":
    main()
