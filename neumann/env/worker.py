"""The helper process's own end: reads jobs from standard input, runs them, answers on standard output.

A message is a length (4 bytes, little-endian) and MessagePack: [function, params] one way, [error or
nil, result] back. It ends when its input ends, so it never outlives its node.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from typing import Any

import msgpack

from neumann.env.disk import RealDisk
from neumann.errors import Corrupt, NeumannError, StorageFailed
from neumann.format.rpc import error_to_wire

LENGTH_BYTES = 4


def main() -> None:
    """Serve until end of input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    is_first = True
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while len(head := source.read(LENGTH_BYTES)) == LENGTH_BYTES:
        request = source.read(int.from_bytes(head, "little"))
        answer = msgpack.packb(_answer(request), use_bin_type=True)
        try:
            sink.write(len(answer).to_bytes(LENGTH_BYTES, "little") + answer)
            sink.flush()
        except BrokenPipeError:
            os._exit(0)  # its node was killed: nobody is told anything, in no log either
        gc.collect()
        if is_first:  # what the first job imported stays: later collections pass over it
            gc.freeze()
            is_first = False


def _answer(request: bytes) -> tuple[Any, Any]:
    function, params = msgpack.unpackb(request, use_list=False, strict_map_key=False)
    module, _, name = function.partition(":")
    assert module.startswith("neumann."), f"a job outside the package: {function}"
    try:
        return None, getattr(importlib.import_module(module), name)(RealDisk(), params)
    except NeumannError as error:
        return error_to_wire(error), None
    except OSError as error:
        return error_to_wire(StorageFailed(f"{name}: {error}")), None
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        return error_to_wire(Corrupt(f"{name} could not read its input: {error!r}")), None


if __name__ == "__main__":
    main()
