"""Where our core and etcd's raft must agree after one input, and the table of where they need not.

Compared after every input, of the node that took it: role, term, vote, known leader, commit index, the
log's last index and term and a sum over all its entries; each vote asked for, given and refused; each
answer to an Append; and that no read is confirmed here which etcd would not have confirmed.

Not compared, because etcd's choice is no rule of Raft: when a leader sends what to whom (probes, batches,
flow control, heartbeats, telling a commit index). That is held by tests/raft/checker.py.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from neumann.format.message import Append, AppendReply, Message, VoteReply, VoteRequest
from tests.oracle.words import Operation, number

ALLOWED = {
    "silent to an old candidate": "A request for a real vote in an earlier term: etcd says nothing, we "
    "refuse and name our term, so that the candidate comes along at once.",
    "late pre-vote": "A pre-vote that was granted for another term than the one asked for now: etcd counts "
    "it in the election that is on, we don't (reference bug 39, though a pre-vote alone elects nobody).",
    "append from before the commit index": "etcd answers with its commit index and takes nothing of it; we "
    "take what is behind the commit index, and answer for all of it. The rest is then given to etcd alone.",
    "own check of the quorum": "etcd counts any answer of a window as contact, we count answers to rounds "
    "that began in the window; so we may step down where etcd doesn't, never the other way round.",
    "leaves when asked": "step_down (a stalled disk, an embedder's wish) and a leader's own removal once it "
    "is committed end leadership here; etcd has neither.",
    "no patience of a non-voter": "Who may not campaign forgets a leader that it doesn't hear for an "
    "election timeout; etcd's learner keeps it.",
    "stranger's answer": "An answer of a node that the configuration doesn't name is stepped by neither: in "
    "our contract the embedder drops it, etcd's RawNode does.",
    "timeout-now of the leader only": "TimeoutNow is believed from the leader of the current term; etcd "
    "believes it from anybody, and in any later term.",
    "membership from the append": "A configuration is in force here from its append (thesis 4.1), in etcd "
    "from its apply; etcd is told when.",
    "snapshot by hand": "We are offered a snapshot and install it later; etcd gets it in one message then.",
    "reads counted anew": "A read that waits while the members change is counted by the voters in force from "
    "then on; etcd looks at it again only when its own heartbeat is next answered. A majority of the new "
    "voters meets each of the old ones, so nobody else can have led.",
    "reads later": "Reads of one moment share a round here, so etcd may confirm one earlier, and at a lower "
    "index; never later.",
}
"""name -> reason. Each one is met by the default slice of schedules (test_oracle.py)."""

STATE = ("role", "term", "vote", "leader", "commit", "last", "last_term", "sum")
LEFT = {"own check of the quorum", "leaves when asked"}
VOTES = ("MsgVote", "MsgPreVote", "MsgVoteResp", "MsgPreVoteResp")


@dataclass
class Step:
    """One input of one node, on both sides. `said`: what our core sent because of it."""

    node: str
    what: str
    do: list[Operation] = field(default_factory=list)
    sum_after: int = 0
    state: dict[str, Any] = field(default_factory=dict)
    said: list[tuple[str, Message]] = field(default_factory=list)
    reads: list[tuple[int, int]] = field(default_factory=list)
    message: tuple[str, Message] | None = None
    allowed: set[str] = field(default_factory=set)


def our_votes(step: Step) -> list[tuple[Any, ...]]:
    """Vote requests and replies, as etcd would write them."""
    votes: list[tuple[Any, ...]] = []
    for receiver, message in step.said:
        if isinstance(message, VoteRequest):
            kind = "MsgPreVote" if message.pre else "MsgVote"
            votes.append((kind, number(receiver), message.term, message.last_index, message.last_term, False))
        elif isinstance(message, VoteReply):
            kind = "MsgPreVoteResp" if message.pre else "MsgVoteResp"
            votes.append((kind, number(receiver), message.term, 0, 0, not message.granted))
    return sorted(votes)


def their_votes(answer: dict[str, Any]) -> list[tuple[Any, ...]]:
    fields = ("type", "to", "term", "index", "log_term", "reject")
    return sorted(tuple(m[f] for f in fields) for m in answer["sent"] or () if m["type"] in VOTES)


def _answer_differs(step: Step, answer: dict[str, Any]) -> str:
    """How the answers to an Append differ, or ""."""
    assert step.message is not None
    sender, message = step.message
    ours = [m for r, m in step.said if r == sender and isinstance(m, AppendReply)]
    theirs = [m for m in answer["sent"] or () if m["type"] == "MsgAppResp" and m["to"] == number(sender)]
    if not (ours and theirs):
        return f"answers {ours} and {theirs}" if bool(ours) != bool(theirs) else ""
    reply, response = ours[-1], theirs[-1]
    if reply.term != response["term"]:
        return f"answers {reply} and {response}"
    appends = sum(operation["do"] == "MsgApp" for operation in step.do)
    takes_nothing = "append from before the commit index" in step.allowed and appends == 1
    if reply.term > message.term or takes_nothing:
        return ""  # such an answer says no more than that
    same = reply.ok != response["reject"] and (not reply.ok or reply.match_index == response["index"])
    return "" if same else f"answers {reply} and {response}"


class Judge:
    """Compares one schedule, step by step. `met` counts the allowed differences."""

    def __init__(self) -> None:
        self.met: Counter[str] = Counter()
        self.compared = 0
        self._confirmed: dict[str, dict[str, int]] = {}

    def difference(self, step: Step, answer: dict[str, Any]) -> str:
        """What differs and may not, or ""."""
        if answer["error"]:
            return f"etcd fails: {answer['error']}"
        self.compared += 1
        self.met.update(step.allowed)
        left = bool(step.allowed & LEFT) or "no patience of a non-voter" in step.allowed
        for name in STATE:
            if left and name in ("role", "leader"):
                continue
            if step.state[name] != answer[name]:
                return f"{name}: here {step.state[name]}, etcd {answer[name]}"
        ours = our_votes(step)
        if "silent to an old candidate" in step.allowed:
            ours = [vote for vote in ours if vote[0] != "MsgVoteResp"]
        if ours != their_votes(answer):
            return f"votes: here {ours}, etcd {their_votes(answer)}"
        if step.message is not None and isinstance(step.message[1], Append):
            differs = _answer_differs(step, answer)
            if differs:
                return differs
        return self._reads_differ(step, answer)

    def _reads_differ(self, step: Step, answer: dict[str, Any]) -> str:
        confirmed = self._confirmed.setdefault(step.node, {})
        confirmed.update((found["token"], found["index"]) for found in answer["reads"] or ())
        for token, index in step.reads:
            there = confirmed.get(str(token))
            if there is None or there > index:
                return f"read {token} is confirmed at {index} here; etcd: {there}"
            if there < index:
                self.met["reads later"] += 1
        return ""
