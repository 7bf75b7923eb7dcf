// The oracle: one etcd RawNode for each node of ours, driven over lines of JSON.
//
// A line in is one step of one node: its operations in order (see `operation`), and from which index its
// log is to be summed up. A line out is what the node is then, and what it sent. {"reset": true} forgets
// all nodes and hands out every answer since the last reset; nothing is written before that. Whatever a
// node "writes" is durable at once. A panic inside raft is answered in `error`.
//
// Built with Debian's packages alone:
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io/ioutil"
	"log"
	"os"

	"go.etcd.io/etcd/raft"
	"go.etcd.io/etcd/raft/raftpb"
)

type entry struct {
	Term uint64
	Data string
}

// operation: `Do` is new, tick, campaign, propose, members, read, unreachable, or a message's type.
type operation struct {
	Do       string
	From     uint64
	Term     uint64
	Index    uint64
	LogTerm  uint64
	Commit   uint64
	Vote     uint64
	Reject   bool
	Hint     uint64
	Context  string
	Entries  []entry
	Voters   []uint64
	Learners []uint64
}

type line struct {
	Reset         bool
	Node          uint64
	ElectionTicks int
	BeatTicks     int
	SumAfter      uint64
	Do            []operation
}

type sent struct {
	Type    string `json:"type"`
	To      uint64 `json:"to"`
	Term    uint64 `json:"term"`
	Index   uint64 `json:"index"`
	LogTerm uint64 `json:"log_term"`
	Reject  bool   `json:"reject"`
}

type read struct {
	Token string `json:"token"`
	Index uint64 `json:"index"`
}

type answer struct {
	Role     string `json:"role"`
	Term     uint64 `json:"term"`
	Vote     uint64 `json:"vote"`
	Leader   uint64 `json:"leader"`
	Commit   uint64 `json:"commit"`
	Last     uint64 `json:"last"`
	LastTerm uint64 `json:"last_term"`
	Sum      uint64 `json:"sum"`
	Sent     []sent `json:"sent"`
	Reads    []read `json:"reads"`
	Error    string `json:"error"`
}

// memory is etcd's own storage in memory, with a configuration that needs no snapshot to carry it.
type memory struct {
	*raft.MemoryStorage
	members raftpb.ConfState
}

func (m *memory) InitialState() (raftpb.HardState, raftpb.ConfState, error) {
	hard, _, err := m.MemoryStorage.InitialState()
	return hard, m.members, err
}

type node struct {
	raw     *raft.RawNode
	storage *memory
	sent    []sent
	reads   []read
}

var roles = map[raft.StateType]string{
	raft.StateFollower:     "follower",
	raft.StatePreCandidate: "precandidate",
	raft.StateCandidate:    "candidate",
	raft.StateLeader:       "leader",
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func entries(from uint64, list []entry) []raftpb.Entry {
	made := make([]raftpb.Entry, len(list))
	for i, e := range list {
		made[i] = raftpb.Entry{Index: from + uint64(i), Term: e.Term, Data: []byte(e.Data)}
	}
	return made
}

// start makes a node of what its disk holds: an empty log behind (Index, LogTerm), then Entries.
func start(l line, op operation) *node {
	storage := &memory{raft.NewMemoryStorage(), raftpb.ConfState{Voters: op.Voters, Learners: op.Learners}}
	if op.Index > 0 {
		check(storage.ApplySnapshot(raftpb.Snapshot{Metadata: raftpb.SnapshotMetadata{
			Index: op.Index, Term: op.LogTerm, ConfState: storage.members}}))
	}
	check(storage.Append(entries(op.Index+1, op.Entries)))
	check(storage.SetHardState(raftpb.HardState{Term: op.Term, Vote: op.Vote, Commit: op.Commit}))
	raw, err := raft.NewRawNode(&raft.Config{
		ID:                        l.Node,
		ElectionTick:              l.ElectionTicks,
		HeartbeatTick:             l.BeatTicks,
		Storage:                   storage,
		MaxSizePerMsg:             1 << 30,
		MaxInflightMsgs:           1 << 10,
		CheckQuorum:               true,
		PreVote:                   true,
		DisableProposalForwarding: true,
	})
	check(err)
	return &node{raw: raw, storage: storage}
}

func (n *node) do(op operation) {
	switch op.Do {
	case "tick":
		// When to campaign is told by "campaign": both sides draw their timeouts at random.
		if n.raw.BasicStatus().RaftState == raft.StateLeader {
			n.raw.Tick()
		} else {
			n.raw.TickQuiesced()
		}
	case "campaign":
		check(n.raw.Campaign())
	case "propose":
		check(n.raw.Step(raftpb.Message{Type: raftpb.MsgProp, From: n.raw.BasicStatus().ID, Entries: entries(0, op.Entries)}))
	case "members":
		n.setMembers(op)
	case "read":
		n.raw.ReadIndex([]byte(op.Context))
	case "unreachable":
		n.raw.ReportUnreachable(op.From)
	default:
		kind, known := raftpb.MessageType_value[op.Do]
		if !known {
			panic("unknown operation " + op.Do)
		}
		m := raftpb.Message{
			Type: raftpb.MessageType(kind), From: op.From, To: n.raw.BasicStatus().ID, Term: op.Term,
			Index: op.Index, LogTerm: op.LogTerm, Commit: op.Commit, Reject: op.Reject, RejectHint: op.Hint,
			Entries: entries(op.Index+1, op.Entries), Context: []byte(op.Context),
		}
		if m.Type == raftpb.MsgSnap {
			m.Snapshot.Metadata = raftpb.SnapshotMetadata{Index: op.Index, Term: op.LogTerm,
				ConfState: raftpb.ConfState{Voters: op.Voters, Learners: op.Learners}}
			m.Index, m.LogTerm = 0, 0
		}
		check(n.raw.Step(m))
	}
	n.handle()
}

// setMembers changes one member after the other, the new ones first.
func (n *node) setMembers(op operation) {
	change := func(kind raftpb.ConfChangeType, id uint64) {
		n.raw.ApplyConfChange(raftpb.ConfChange{Type: kind, NodeID: id})
	}
	wanted := map[uint64]bool{}
	for _, id := range op.Voters {
		wanted[id] = true
		if _, is := n.raw.Status().Config.Voters[0][id]; !is {
			change(raftpb.ConfChangeAddNode, id)
		}
	}
	for _, id := range op.Learners {
		wanted[id] = true
		if _, is := n.raw.Status().Config.Learners[id]; !is {
			change(raftpb.ConfChangeAddLearnerNode, id)
		}
	}
	before := n.raw.Status().Config
	for _, group := range []map[uint64]struct{}{before.Voters[0], before.Learners} {
		for id := range group {
			if !wanted[id] {
				change(raftpb.ConfChangeRemoveNode, id)
			}
		}
	}
}

func (n *node) handle() {
	for n.raw.HasReady() {
		ready := n.raw.Ready()
		if !raft.IsEmptySnap(ready.Snapshot) {
			check(n.storage.ApplySnapshot(ready.Snapshot))
		}
		check(n.storage.Append(ready.Entries))
		if !raft.IsEmptyHardState(ready.HardState) {
			check(n.storage.SetHardState(ready.HardState))
		}
		for _, m := range ready.Messages {
			n.sent = append(n.sent, sent{m.Type.String(), m.To, m.Term, m.Index, m.LogTerm, m.Reject})
		}
		for _, state := range ready.ReadStates {
			n.reads = append(n.reads, read{string(state.RequestCtx), state.Index})
		}
		n.raw.Advance(ready)
	}
}

func (n *node) describe(sumAfter uint64) answer {
	status := n.raw.BasicStatus()
	last, err := n.storage.LastIndex()
	check(err)
	lastTerm, err := n.storage.Term(last)
	check(err)
	var sum uint64
	if last > sumAfter {
		held, err := n.storage.Entries(sumAfter+1, last+1, 1<<62)
		check(err)
		for _, e := range held {
			sum += uint64(crc32.ChecksumIEEE([]byte(fmt.Sprintf("%d/%d/%s", e.Index, e.Term, e.Data))))
		}
	}
	said := answer{Role: roles[status.RaftState], Term: status.Term, Vote: status.Vote, Leader: status.Lead,
		Commit: status.Commit, Last: last, LastTerm: lastTerm, Sum: sum, Sent: n.sent, Reads: n.reads}
	n.sent, n.reads = nil, nil
	return said
}

func step(nodes map[uint64]*node, l line) (said answer) {
	defer func() {
		if failure := recover(); failure != nil {
			said = answer{Error: fmt.Sprint(failure)}
		}
	}()
	for _, op := range l.Do {
		if op.Do == "new" {
			nodes[l.Node] = start(l, op)
			nodes[l.Node].handle()
		} else {
			nodes[l.Node].do(op)
		}
	}
	return nodes[l.Node].describe(l.SumAfter)
}

func main() {
	raft.SetLogger(&raft.DefaultLogger{Logger: log.New(ioutil.Discard, "", 0)})
	in := json.NewDecoder(bufio.NewReaderSize(os.Stdin, 1<<20))
	nodes := map[uint64]*node{}
	var answers []answer
	for in.More() {
		var l line
		check(in.Decode(&l))
		if !l.Reset {
			answers = append(answers, step(nodes, l))
			continue
		}
		out := bufio.NewWriter(os.Stdout)
		for _, said := range answers {
			check(json.NewEncoder(out).Encode(said))
		}
		check(out.Flush())
		nodes, answers = map[uint64]*node{}, nil
	}
}
