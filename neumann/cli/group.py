"""The group of all verbs of `neumann-admin`, and the one place where an error ends it.

A failure is one line on standard error (JSON with --format json) and the exit code of its class. Verbs
stand in one file per family, which is loaded when one of them is asked for: an archive_command runs for
every segment, and should not load what a restore needs.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping

import click

from neumann import __version__
from neumann.cli import completion, extras
from neumann.cli.headings import Headed
from neumann.errors import BadInput, NeumannError, StorageFailed

_FAMILIES = {
    "neumann.cli.aside": ("aside-list", "aside-return", "aside-delete"),
    "neumann.cli.archive": (
        "wal-list",
        "wal-verify",
        "wal-search",
        "archive-flush",
        "archive-check",
        "archive-stop",
    ),
    "neumann.cli.check": ("inspect",),
    "neumann.cli.cluster": ("cluster-info", "cluster-status", "reload", "config-check"),
    "neumann.cli.completion": ("completion",),
    "neumann.cli.data": ("get", "put", "delete", "scan", "pause-writes", "resume-writes"),
    "neumann.cli.members": (
        "member-list",
        "member-add",
        "member-promote",
        "member-remove",
        "leader-transfer",
    ),
    "neumann.cli.push": ("wal-push",),
    "neumann.cli.query": ("query",),
    "neumann.cli.receive": ("wal-receive",),
    "neumann.cli.recovery": ("init-cluster", "rejoin"),
    "neumann.cli.replay": ("wal-replay", "backup-restore"),
    "neumann.cli.snapshots": ("snapshot", "snapshot-list", "restore-point", "stats"),
    "neumann.cli.verify": ("verify-checksums",),
}


RESERVED = {
    "backup-create": "docs/runbook.md, Cold full backup",
    "backup-list": "docs/runbook.md, Cold full backup",
    "backup-pin": "docs/runbook.md, Retention",
    "backup-verify": "verify-checksums --repo; docs/runbook.md, Verification",
    "drill": "wal-replay --as-new-cluster; docs/runbook.md, Verification",
    "expire": "docs/runbook.md, Retention",
    "export": "scan --format json",
    "import": "docs/python.md",
}
"""Verbs of a later release, and what does their work in this one."""

_NEVER_MEANT = "backup-restore"
"""It sets a node's state aside: nobody who misspells another verb is to be led there."""


class _Verbs(Mapping[str, click.Command]):
    """Name -> command. A module of a family has its verbs as lists of commands (verb.py)."""

    def __init__(self) -> None:
        self._homes = {name: family for family, verbs in _FAMILIES.items() for name in verbs}

    def __getitem__(self, name: str) -> click.Command:
        with extras.needed(completion.PROGRAM, "cli"):
            family = importlib.import_module(self._homes[name])
        lists = [found for found in vars(family).values() if isinstance(found, list)]
        return next(c for found in lists for c in found if isinstance(c, click.Command) and c.name == name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)


class _Group(Headed):
    """Refuses the reserved names, each in words of its own."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if (instead := RESERVED.get(args[0])) and not ctx.resilient_parsing:
            raise BadInput(f"{args[0]} belongs to a later release", remedy=f"until then: {instead}")
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            suggested = getattr(error, "possibilities", None) or []
            suggested[:] = [name for name in suggested if name != _NEVER_MEANT]
            raise


@click.group(
    cls=_Group,
    commands=_Verbs(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="neumann-admin", message="%(prog)s %(version)s")
def group() -> None:
    """Operate a neumann cluster: look at it, back it up, and bring it back."""


def run() -> None:
    """Carry out the command line and end the program."""
    try:
        sys.exit(group.main(prog_name=completion.PROGRAM, standalone_mode=False) or 0)
    except NeumannError as error:
        _end(error)
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stdout.write(error.format_message() + "\n")
        sys.exit(BadInput.exit_code)
    except click.UsageError as error:
        hint = f"{error.ctx.command_path} --help" if error.ctx else "neumann-admin --help"
        _end(BadInput(error.format_message().rstrip("."), remedy=f"see {hint}"))
    except click.Abort:
        _end(NeumannError("not confirmed; nothing was changed"))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(NeumannError.exit_code)
    except OSError as error:
        _end(StorageFailed(f"{error.filename or 'this machine'}: {error.strerror or error}"))


def _end(error: NeumannError) -> None:
    if "json" in _format_given():
        body = {"error": error.message, "code": error.code, "remedy": error.remedy, "detail": error.detail}
        sys.stderr.write(json.dumps(body, ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(f"neumann-admin: {error}\n")
    sys.exit(error.exit_code)


def _format_given() -> str:
    """The --format of this command line, also of one that could not be parsed."""
    words = sys.argv[1:]
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == "--format":
            return following
        if word.startswith("--format="):
            return word.partition("=")[2]
    return "text"
