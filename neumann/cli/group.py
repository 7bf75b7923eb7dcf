"""The group of all verbs of `neumann-admin`, and the one place where an error ends it.

A failure is one line on standard error (JSON with --format json) and the exit code of its class. Verbs
stand in one file per family.
"""

from __future__ import annotations

import json
import os
import sys

import click

from neumann import __version__
from neumann.cli import (
    archive,
    aside,
    check,
    cluster,
    completion,
    data,
    members,
    query,
    receive,
    recovery,
    replay,
    snapshots,
    verify,
)
from neumann.cli.headings import Headed
from neumann.errors import BadInput, NeumannError, StorageFailed

_VERBS: tuple[list[click.Command], ...] = (
    cluster.cluster_info,
    cluster.cluster_status,
    cluster.reload,
    cluster.config_check,
    members.member_list,
    members.member_add,
    members.member_promote,
    members.member_remove,
    members.leader_transfer,
    data.get,
    data.put,
    data.delete,
    data.scan,
    query.query,
    data.pause_writes,
    data.resume_writes,
    snapshots.snapshot,
    snapshots.snapshot_list,
    snapshots.restore_point,
    snapshots.stats,
    archive.wal_push,
    receive.wal_receive,
    archive.wal_list,
    archive.wal_verify,
    archive.wal_search,
    archive.archive_flush,
    archive.archive_check,
    archive.archive_stop,
    replay.wal_replay,
    recovery.init_cluster,
    recovery.rejoin,
    aside.aside_list,
    aside.aside_return,
    aside.aside_delete,
    verify.verify_checksums,
    check.inspect,
    completion.completion,
)


@click.group(cls=Headed, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="neumann-admin", message="%(prog)s %(version)s")
def group() -> None:
    """Operate a neumann cluster: look at it, back it up, and bring it back."""


for _commands in _VERBS:
    for _command in _commands:
        group.add_command(_command)


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
