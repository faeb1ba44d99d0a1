package node

import (
	"google.golang.org/protobuf/encoding/protowire"

	"quorate.dev/quorate/command"
)

// dropReads is a mistake (canary.TxnReadsDropped): it takes the reads out of transactions that nobody here waits for, because nobody
// needs their answers. But a read may also refuse its transaction, as one of a compacted revision does.
func (a *applier) dropReads() {
	for i := range a.cmds {
		if c := &a.cmds[i]; c.Kind == command.Txn && !a.h.registry.waits(c.ID) {
			c.Body = withoutReads(c.Body)
		}
	}
}

// waits reports whether somebody waits for the proposal with this id.
func (r *registry) waits(id uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return id != 0 && r.find(id) != nil
}

// withoutReads is a TxnRequest without the operations of its branches (fields 2 and 3) that are ranges (field 1 of those).
func withoutReads(body []byte) (out []byte) {
	for len(body) > 0 {
		field, kind, n := protowire.ConsumeTag(body)
		size := n + protowire.ConsumeFieldValue(field, kind, body[n:])
		op, _ := protowire.ConsumeBytes(body[n:size])
		if first, _, _ := protowire.ConsumeTag(op); field == 1 || first != 1 {
			out = append(out, body[:size]...)
		}
		body = body[size:]
	}
	return out
}
