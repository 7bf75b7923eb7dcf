"""PURE: consensus (Ongaro's Raft), with the frame as its unit. Values in, values out.

`Raft` is one node's part. It has no clock, disk, socket or thread: the embedder (runtime/) calls its
inputs from one thread, then `ready()`, and does what the Ready says, in the order that its fields
stand. Every output is handed out once; there is no "advance". The whole driver:

    def pump(core):                                       # after every input, or batch of inputs
        while (ready := core.ready()) is not None:
            if ready.vote: disk.write_vote(*ready.vote)                        # into both slots
            if ready.truncate_after is not None: disk.truncate_after(ready.truncate_after)
            disk.append(ready.frames)                     # written; one sync may cover many Readys
            for node_id, message in ready.messages:       # an Append names frames by index
                network.send(node_id, disk.attach_frames(message))
            runtime.carry_out(core, ready)                # apply, answer reads, fetch, propose a NOOP
            disk.after_sync(done, core, ready)            # called in the order of the Readys

    def done(core, ready):                                # its vote and its frames are durable
        for node_id, message in ready.messages_after_sync: network.send(node_id, message)
        if ready.vote: core.vote_persisted(*ready.vote)   # may answer at once: after those before
        if ready.frames: core.persisted(*ready.frames[-1].header.end[:2], ready.truncations)
        pump(core)

(tests/raft/test_contract.py runs a cluster on these very lines.)

Rules for the embedder:

* A Ready's `messages_after_sync` wait for its own vote and frames and for those of all Readys before.
  If nothing is outstanding they go at once. They go before the core is told that its vote and frames are
  durable, so that answers keep their order. `messages` need not wait for anything.
* Where one sync covers many Readys, `persisted` may be called once, with the last frame and the
  `truncations` of the last of them.
* What is applied up to `commit_index` is told by `applied`; a read is answered once its index is.
* `tick` comes every `tick_ms`, and `ready` after it. Ticks missed in a stall are dropped, not made up.
* Who leads and whose `transferring` is empty may `propose`. A new leader proposes the NOOP of its term
  first; nothing of an earlier term is committed before it. `configuration_pending` forbids a
  CONFIGURATION frame. A created frame is never taken back: if its write fails, `step_down` (R15).
* A failed sync is final: stop calling (R9). A set `diverged` is too: the core does nothing any more.
* Messages are stepped with the incarnation (storage id, start number) of who sent them. Votes and
  acknowledgements of a storage id that the configuration doesn't name count for nothing; step only those
  of one that shall replace the named one (design section 6).
* A snapshot is offered at the last `snapshot_published`, or else at the log's base.

Where things are: core.py inputs and roles; election.py votes; replication.py the leader's half,
following.py the follower's; reads.py ReadIndex; progress.py one follower; membership.py configurations;
log.py frame ends; quorum.py majorities and promotions; state.py what they share; ready.py the output;
invariants.py what must hold after every input.
"""

from neumann.raft import invariants
from neumann.raft.config import RaftConfig, Random, Restored
from neumann.raft.core import Raft
from neumann.raft.log import Extent, FrameLog, Run
from neumann.raft.progress import Mode, Progress
from neumann.raft.ready import Ready
from neumann.raft.state import Role

__all__ = [
    "Extent",
    "FrameLog",
    "Mode",
    "Progress",
    "Raft",
    "RaftConfig",
    "Random",
    "Ready",
    "Restored",
    "Role",
    "Run",
    "invariants",
]
