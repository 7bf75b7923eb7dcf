"""`neumann`: runs one node until SIGTERM or SIGINT; SIGHUP has it read its configuration again.

It reads the configuration, takes the ports, starts the node and its two servers, prints one line when
ready, and stops them in the opposite order. What refuses to start is one line on standard error and the
exit code of its class.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import gc
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import uvloop

from neumann import __version__
from neumann.cli import extras, logs, settings
from neumann.config import Config, split_address
from neumann.env import real_env
from neumann.errors import BadInput, ConfigError, InUse, NeumannError, StorageFailed
from neumann.format.names import Paths
from neumann.runtime import startup
from neumann.runtime.formation import Formation
from neumann.runtime.node import Node

GC_THRESHOLDS = (100_000, 50, 100)


def main() -> None:
    """The program."""
    try:
        arguments = parser().parse_args()
        read = partial(settings.read_config, arguments.config, _overrides(arguments))
        config = read()
        if arguments.check_config:
            sys.stdout.write(f"the configuration of node {config.node.id} is correct\n")
            return
        logs.begin(config.log)
        uvloop.run(
            _explain(config, arguments.bootstrap)
            if arguments.explain_start
            else _serve(config, read, arguments.bootstrap)
        )
    except NeumannError as error:
        _end(error)
    except OSError as error:
        _end(StorageFailed(f"{error.filename or 'this machine'}: {error.strerror or error}"))


def _end(error: NeumannError) -> NoReturn:
    sys.stderr.write(f"neumann: {error}\n")
    sys.exit(error.exit_code)


class _Parser(argparse.ArgumentParser):
    """Usage errors are BadInput like all others: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(message, remedy="neumann --help lists the flags")


def parser() -> argparse.ArgumentParser:
    """The flags of `neumann`."""
    parser = _Parser(prog="neumann", description="Run one node of a neumann cluster.", allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help=f"else NEUMANN_CONFIG, else {settings.DEFAULT_PATH}")
    parser.add_argument("--data-dir", metavar="DIR", help="where everything durable lies")
    parser.add_argument("--node-id", metavar="ID", help="this node's name in the cluster")
    parser.add_argument("--listen", metavar="H:P", help="for clients and peers")
    parser.add_argument("--advertise", metavar="H:P", help="what peers dial, if not --listen")
    parser.add_argument("--admin-listen", metavar="H:P", help="for HTTP")
    parser.add_argument("--peer", metavar="ID=H:P", action="append", help="a node of the cluster; repeat it")
    parser.add_argument(
        "--bootstrap", action="store_true", help="form a cluster if every peer agrees; else no effect"
    )
    parser.add_argument("--explain-start", action="store_true", help="print what a start would do, and exit")
    parser.add_argument("--check-config", action="store_true", help="check the configuration, and exit")
    parser.add_argument("--version", action="version", version=f"neumann {__version__}")
    return parser


def _overrides(arguments: argparse.Namespace) -> dict[str, object]:
    return {
        "node.data_dir": arguments.data_dir,
        "node.id": arguments.node_id,
        "node.listen": arguments.listen,
        "node.advertise": arguments.advertise,
        "node.admin_listen": arguments.admin_listen,
        "node.peers": arguments.peer,
    }


async def _serve(config: Config, read: Callable[[], Config], bootstrap: bool) -> None:
    """Run until a signal, or until the node fails. SIGHUP is for `read`, the configuration as it is then."""
    stop, was_told_to_reload = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, was_told_to_reload.set)
    with extras.needed("neumann", "server"):
        from neumann.server import admin, reload, rpc
    _check_ports(config)
    async with contextlib.AsyncExitStack() as stack:
        node = await Node.start(config, real_env(), bootstrap=bootstrap)
        stack.push_async_callback(node.stop)
        watch_callbacks(node)
        rpc_server = await rpc.serve(node, config.node.listen)
        stack.push_async_callback(rpc_server.close)
        reloading = reload.Reload(node, config, read, lambda changed: logs.begin(changed.log))
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloading.signalled)
        if was_told_to_reload.is_set():
            reloading.signalled()
        admin_server = await admin.serve(node, config, reloading)
        stack.push_async_callback(admin_server.close)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        own = config.node
        sys.stdout.write(
            f"neumann {__version__} node {own.id} ready: rpc {own.listen}, admin {own.admin_listen}, "
            f"data {own.data_dir}\n"
        )
        sys.stdout.flush()
        await _stop_or_failure(stop, node)
        await node.hand_over()


def watch_callbacks(node: Node) -> None:
    """End the node for an error that none of its callbacks handled: what state it left, nobody knows.

    Its next start reads the disk. Errors of other people's callbacks are only logged.
    """

    def unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        loop.default_exception_handler(context)
        error = context.get("exception")
        if "handle" in context and isinstance(error, Exception) and _is_ours(error):
            node.fail(error)

    asyncio.get_running_loop().set_exception_handler(unhandled)


def _is_ours(error: Exception) -> bool:
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(str(frame.f_globals.get("__name__")).startswith("neumann.") for frame in frames)


async def _stop_or_failure(stop: asyncio.Event, node: Node) -> None:
    """Wait for a signal; a node that ended by itself ends the program with its error."""
    node.failed.add_done_callback(lambda _: stop.set())
    await stop.wait()
    if node.failed.done():
        error = node.failed.result()
        raise error if isinstance(error, NeumannError) else NeumannError(f"the node ended: {error!r}")


async def _explain(config: Config, bootstrap: bool) -> None:
    """Print what is here, what the peers answer, and what a start would do now; do nothing."""
    env, paths = real_env(), Paths(config.node.data_dir)
    formation = Formation(env, config, paths, 0)
    found = startup.look(env.disk, paths)
    answers = await formation.ask()
    peers = frozenset(formation.peers)
    decision = startup.decide(found, config.node.id, peers, answers, bootstrap=bootstrap)
    formation.close()
    await env.net.close()
    lines = [f"here: {_found_text(found)}"]
    for peer in sorted(peers):
        lines.append(f"{peer}: {_answer_text(answers[peer]) if peer in answers else 'does not answer'}")
    lines.append(f"start: {decision.action} ({decision.reason})")
    if decision.remedy:
        lines.append(f"remedy: {decision.remedy}")
    sys.stdout.write("\n".join(lines) + "\n")


def _found_text(found: startup.Found) -> str:
    parts = [
        "a restore that was interrupted" if found.journal else "",
        f"what is not ours ({', '.join(found.foreign)})" if found.foreign else "",
        "a vote" if found.vote else "",
        f"data of timeline {found.data.timeline} up to {found.data.index}, no vote" if found.data else "",
    ]
    return ", ".join(part for part in parts if part) or "nothing"


def _answer_text(answer: startup.Answer) -> str:
    timeline = f" on timeline {answer.history.timeline}" if answer.history else ""
    leader = f", leader {answer.leader}" if answer.leader else ", no leader"
    return f"{'has a vote' if answer.vote else 'no vote'}{timeline}{leader}"


def _check_ports(config: Config) -> None:
    """Refuse before anything is touched on disk. InUse for a taken port, ConfigError for no address."""
    for key, address in (("listen", config.node.listen), ("admin_listen", config.node.admin_listen)):
        host, port = split_address(address)
        try:
            family, kind, protocol, _, target = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(target)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InUse(
                    f"node.{key}: {address} is in use by another process",
                    remedy="stop that process, or choose another port",
                ) from error
            raise ConfigError(f"node.{key}: can't listen on {address}: {error.strerror}") from error
