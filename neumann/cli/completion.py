"""The verb `completion`: the script with which a shell completes verbs and flags."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from neumann.cli.verb import Call, verb

PROGRAM = "neumann-admin"
VARIABLE = "_NEUMANN_ADMIN_COMPLETE"
"""With it set, click answers a shell's question and does nothing else."""


@verb("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(call: Call, shell: str) -> None:
    """Print the completion script of a shell, for its start-up file."""
    made = get_completion_class(shell)
    assert made is not None, "click knows these three"
    source = made(click.get_current_context().find_root().command, {}, PROGRAM, VARIABLE).source()
    call.show({"shell": shell, "script": source}, lambda: source)
