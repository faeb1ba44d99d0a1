package peer

import (
	"bytes"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// Messages that wait for a stream are merged, so that a receiver that is busy gets few large ones instead of many small ones: raft
// makes an append for every proposal it steps, and an answer for every append.
const (
	mergeBytes   = 1 << 20 // data of a merged message
	mergeEntries = 4096
	mergeLook    = 8 // how far back a message may be that an answer to an append replaces
)

// merge puts m into one of the messages that wait, if it can, and reports whether it did. No message of the list is changed: the one
// that takes m up is replaced, because raft may look at the memory of its entries.
func merge(waiting []*raftpb.Message, m *raftpb.Message) bool {
	n := len(waiting)
	switch m.GetType() {
	case raftpb.MsgApp:
		if n > 0 && extends(waiting[n-1], m) {
			waiting[n-1] = joined(waiting[n-1], m)
			return true
		}
	case raftpb.MsgProp:
		if n > 0 && alike(waiting[n-1], m) && fits(waiting[n-1], m) {
			waiting[n-1] = joined(waiting[n-1], m)
			return true
		}
	case raftpb.MsgAppResp:
		for i := n - 1; i >= max(0, n-mergeLook); i-- {
			if supersedes(m, waiting[i]) {
				waiting[i] = m
				return true
			}
			if waiting[i].GetType() == raftpb.MsgAppResp {
				return false // answers keep their order
			}
		}
	}
	return false
}

// extends reports whether append b goes on where append a ends, so that both are the same as one.
func extends(a, b *raftpb.Message) bool {
	if a.GetType() != raftpb.MsgApp || a.GetTerm() != b.GetTerm() || a.GetFrom() != b.GetFrom() || !fits(a, b) {
		return false
	}
	index, term := a.GetIndex(), a.GetLogTerm()
	if k := len(a.GetEntries()); k > 0 {
		index, term = a.GetEntries()[k-1].GetIndex(), a.GetEntries()[k-1].GetTerm()
	}
	return b.GetIndex() == index && b.GetLogTerm() == term && b.GetCommit() >= a.GetCommit()
}

// supersedes reports whether the acknowledgement b says all that a did: the log is acknowledged from its beginning.
func supersedes(b, a *raftpb.Message) bool {
	return a.GetType() == raftpb.MsgAppResp && !a.GetReject() && !b.GetReject() && a.GetTerm() == b.GetTerm() &&
		a.GetFrom() == b.GetFrom() && b.GetIndex() >= a.GetIndex() && len(a.GetContext()) == 0 && len(b.GetContext()) == 0
}

// alike reports whether both are proposals of ordinary entries to the same leadership, which their context says.
func alike(a, b *raftpb.Message) bool {
	return a.GetType() == raftpb.MsgProp && bytes.Equal(a.GetContext(), b.GetContext()) && plain(a) && plain(b)
}

// plain reports whether only ordinary entries are proposed. A change of members is judged alone.
func plain(m *raftpb.Message) bool {
	return !slices.ContainsFunc(m.GetEntries(), func(e *raftpb.Entry) bool { return e.GetType() != raftpb.EntryNormal })
}

func fits(a, b *raftpb.Message) bool {
	return len(a.GetEntries())+len(b.GetEntries()) <= mergeEntries && dataOf(a)+dataOf(b) <= mergeBytes
}

// joined is a with the entries of b, and what b knows of the commit index.
func joined(a, b *raftpb.Message) *raftpb.Message {
	m := &raftpb.Message{Type: a.Type, To: a.To, From: a.From, Term: a.Term, LogTerm: a.LogTerm, Index: a.Index, Commit: a.Commit, Context: a.Context}
	if b.Commit != nil {
		m.Commit = b.Commit
	}
	m.Entries = slices.Concat(a.GetEntries(), b.GetEntries())
	return m
}
