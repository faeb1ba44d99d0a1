package metamorphic

import (
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/wire"
)

// showValue is a value in few bytes, distinct for distinct values.
func showValue(v []byte) string {
	if len(v) <= 12 {
		return fmt.Sprintf("%q", v)
	}
	return fmt.Sprintf("%q…(%d bytes, %08x)", v[:4], len(v), crc32.ChecksumIEEE(v))
}

func showKV(b []byte) string {
	if b == nil {
		return "none"
	}
	var kv wire.KeyValue
	if err := kv.Unmarshal(b); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s=%s create %d mod %d version %d lease %d",
		showValue(kv.Key), showValue(kv.Value), kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease)
}

func showKVs(kvs [][]byte) string {
	var out strings.Builder
	for _, kv := range kvs {
		fmt.Fprintf(&out, " [%s]", showKV(kv))
	}
	return out.String()
}

func showErr(err error) string {
	var f *fault.Error
	if errors.As(err, &f) {
		return f.Name
	}
	return fmt.Sprintf("error %q", err)
}

func showRange(r *wire.RangeResponse, err error) string {
	if err != nil {
		return showErr(err)
	}
	return fmt.Sprintf("at %d: %d keys, more %t:%s", r.Header.Revision, r.Count, r.More, showKVs(r.KVs))
}

func showResult(r *command.Result) string {
	var out strings.Builder
	if r.Err != nil {
		out.WriteString(showErr(r.Err))
	}
	fmt.Fprintf(&out, " rev %d prev %s deleted %d%s lease %d ttl %d", r.Revision, showKV(r.PrevKV), r.Deleted, showKVs(r.PrevKVs), r.Lease, r.TTL)
	for _, a := range r.Alarms {
		fmt.Fprintf(&out, " alarm %x/%d", a.MemberID, a.Alarm)
	}
	if r.Txn != nil {
		showTxn(&out, r.Txn)
	}
	return out.String()
}

func showTxn(out *strings.Builder, r *wire.TxnResponse) {
	fmt.Fprintf(out, " txn(%t at %d:", r.Succeeded, r.Header.Revision)
	for _, op := range r.Responses {
		switch {
		case op.Put != nil:
			fmt.Fprintf(out, " put at %d prev %s", op.Put.Header.Revision, showKV(op.Put.PrevKV))
		case op.DeleteRange != nil:
			fmt.Fprintf(out, " delete at %d %d%s", op.DeleteRange.Header.Revision, op.DeleteRange.Deleted, showKVs(op.DeleteRange.PrevKVs))
		case op.Range != nil:
			out.WriteString(" get " + showRange(op.Range, nil))
		case op.Txn != nil:
			showTxn(out, op.Txn)
		}
	}
	out.WriteString(")")
}

// showEffects is what a batch caused, in lines that do not depend on how commands are cut into batches: events, then leases,
// then members.
func showEffects(e *state.Effects) (events, leases, members []string) {
	for _, b := range e.Events {
		events = append(events, showEvents(b))
	}
	for _, l := range e.Leases {
		leases = append(leases, fmt.Sprintf("lease %d kind %d ttl %d remaining %d", l.ID, l.Kind, l.TTL, l.Remaining))
	}
	for _, c := range e.Changes {
		members = append(members, fmt.Sprintf("member %s %s", c.Kind, c.Member.JSON()))
	}
	return events, leases, members
}

func showEvents(b *mvcc.EventBatch) string {
	var out strings.Builder
	fmt.Fprintf(&out, "events of %d:", b.Revision)
	for i := range b.Events {
		e := &b.Events[i]
		fmt.Fprintf(&out, " {%d %s: [%s] before [%s]}", e.Type, showValue(e.Key), showKV(e.KV), showKV(e.PrevKV))
	}
	return out.String()
}

// showRest is what a view shows besides keys. self is a member that only some settings have.
func showRest(v *state.View) string {
	var out strings.Builder
	stats := v.Stats()
	fmt.Fprintf(&out, "revision %d compacted %d; %d keys of %d bytes; version %q downgrade %+v\n",
		v.Revision(), v.Compacted(), stats.Keys, stats.LiveBytes, v.Members.Version(), v.Members.Downgrade())
	for _, l := range v.Leases.All() {
		fmt.Fprintf(&out, "lease %d ttl %d remaining %d keys %q\n", l.ID, l.TTL, l.Remaining, v.Leases.Keys(l.ID))
	}
	for _, m := range v.Members.Members() {
		if m.ID != self {
			fmt.Fprintf(&out, "member %s\n", m.JSON())
		}
	}
	for _, a := range v.Alarms {
		fmt.Fprintf(&out, "alarm %x %d\n", a.MemberID, a.Alarm)
	}
	return out.String()
}
