"""What every verb of `neumann-admin` has: the common options, and the `Call` that carries them.

A verb is a function of its Call and its own options. It prints through cli/output.py and fails by
raising a NeumannError; admin.py makes one line and the exit code of that.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import click

from neumann.cli import output, settings
from neumann.cli.http import Endpoint
from neumann.config import Config, split_address
from neumann.errors import BadInput, ConfigError

DEFAULT_TIMEOUT_S = 60.0
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


@dataclass(frozen=True)
class Call:
    """The common options of one invocation, and what follows from them."""

    admin: str | None
    config_path: str | None
    as_json: bool
    token_file: str | None
    ca_file: str | None
    timeout_s: float
    quiet: bool

    @cached_property
    def config(self) -> Config | None:
        """The configuration of the node on this machine; None where there is none."""
        named = self.config_path, os.environ.get("NEUMANN_CONFIG"), os.environ.get("NEUMANN_NODE__ID")
        if any(named) or os.path.exists(settings.DEFAULT_PATH):
            return settings.read_config(self.config_path, {})
        return None

    @cached_property
    def node(self) -> Endpoint:
        """The node to ask: --admin, else the configured one, else the one on this machine."""
        url, token_file = self.admin, self.token_file
        if url is None or (token_file is None and self.config_path):
            config = self.config
            if config is not None:
                host, port = split_address(config.node.admin_listen)
                url = url or f"http://{_ANYWHERE.get(host, host)}:{port}"
                token_file = token_file or config.security.token_file
        token = _read_token(token_file) if token_file else ""
        url = url or "http://127.0.0.1:9090"
        return Endpoint(url, token=token, ca_file=self.ca_file, timeout_s=self.timeout_s)

    def data_dir(self, given: str | None) -> str:
        """The absolute data directory: --data-dir, else the configured one."""
        if given is not None:
            return os.path.abspath(given)
        config = self.config
        if config is None:
            raise ConfigError("no data directory is named", remedy="give --data-dir, or --config FILE")
        return config.node.data_dir

    def show(self, body: object, text: Callable[[], str]) -> None:
        """Print the result: `body` with --format json, else what `text` makes of it."""
        output.write(json.dumps(body, ensure_ascii=False) if self.as_json else text())

    def note(self, text: str) -> None:
        """Something beside the result, for a person: to standard error, unless --quiet."""
        if not self.quiet:
            sys.stderr.write(f"{text}\n")

    def confirm(self, question: str, yes: bool) -> None:
        """Ask a person before something that is hard to undo; --yes answers. click.Abort for a no."""
        if yes:
            return
        if not sys.stdin.isatty():
            raise BadInput(f"nobody is here to answer: {question}", remedy="say --yes")
        click.confirm(question, abort=True, err=True)


def _read_token(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"the token file {path} can't be read: {error}") from error


_TIMEOUT = click.FloatRange(0, 3600, min_open=True)
_FORMAT = click.Choice(["text", "json"])
_COMMON: tuple[Callable[[Any], Any], ...] = (
    click.option("--admin", metavar="URL", envvar="NEUMANN_ADMIN", help="The node to ask."),
    click.option(
        "--config",
        "config_path",
        metavar="FILE",
        help=f"Configuration of this machine's node. Else NEUMANN_CONFIG, else {settings.DEFAULT_PATH}.",
    ),
    click.option("--format", "form", type=_FORMAT, default="text", help="Of the result."),
    click.option("--token-file", metavar="FILE", help="Holds the token that the node wants."),
    click.option("--ca-file", metavar="FILE", help="Authority for an https:// URL."),
    click.option(
        "--timeout", "timeout_s", type=_TIMEOUT, default=DEFAULT_TIMEOUT_S, metavar="S", help="Seconds."
    ),
    click.option("--quiet", is_flag=True, help="Only the result."),
)


def verb(name: str, *aliases: str) -> Callable[[Callable[..., None]], list[click.Command]]:
    """Make a function of (Call, own options) a command, with the common options, under one or more names."""

    def make(function: Callable[..., None]) -> list[click.Command]:
        @functools.wraps(function)
        def run(**options: Any) -> None:
            call = Call(
                options.pop("admin"),
                options.pop("config_path"),
                options.pop("form") == "json",
                options.pop("token_file"),
                options.pop("ca_file"),
                options.pop("timeout_s"),
                options.pop("quiet"),
            )
            function(call, **options)

        for option in reversed(_COMMON):
            run = option(run)
        command = click.command(name)(run)
        others = [
            click.Command(
                alias,
                callback=run,
                params=command.params,
                help=command.help,
                short_help=f"The same as {name}.",
            )
            for alias in aliases
        ]
        return [command, *others]

    return make
