package state_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/lease"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

var config = state.Config{Member: 0xa1, Cluster: 0xc1, LeaseTTLMin: 2}

// rig is a machine on a file system in memory.
type rig struct {
	testing.TB
	fs      *vfs.MemFS
	engine  *storage.Engine
	machine *state.Machine
}

func newRig(t testing.TB, fs *vfs.MemFS) *rig {
	t.Helper()
	r := &rig{TB: t, fs: fs}
	r.open()
	return r
}

func (r *rig) open() {
	r.Helper()
	var err error
	r.engine, err = storage.Open("db", storage.Options{FS: r.fs, MemTableBytes: 1 << 20})
	require.NoError(r, err)
	r.machine, err = state.Open(r.engine, config)
	require.NoError(r, err)
}

func (r *rig) close() {
	r.Helper()
	require.NoError(r, r.engine.Close())
}

// reopen stops cleanly and starts again.
func (r *rig) reopen() {
	r.Helper()
	r.close()
	r.open()
}

// apply applies commands and hands their results out as text.
func (r *rig) apply(cmds []command.Command) ([]string, state.Effects) {
	r.Helper()
	results := make([]command.Result, len(cmds))
	effects, err := r.machine.Apply(cmds, results)
	require.NoError(r, err)
	if effects.Compacted != nil {
		require.NoError(r, effects.Compacted.Frozen.Close())
	}
	out := make([]string, len(results))
	for i := range results {
		out[i] = showResult(&results[i])
	}
	return out, effects
}

// settle does all housekeeping there is.
func (r *rig) settle() {
	r.Helper()
	for {
		more, err := r.machine.Background(3)
		require.NoError(r, err)
		if !more {
			return
		}
	}
}

// content is every record of every bucket, as text.
func (r *rig) content() string {
	r.Helper()
	return dump(r.TB, r.engine, nil, nil)
}

func dump(t testing.TB, r storage.Reader, lower, upper []byte) string {
	t.Helper()
	var out strings.Builder
	it, err := r.Iter(lower, upper)
	require.NoError(t, err)
	for ok := it.First(); ok; ok = it.Next() {
		fmt.Fprintf(&out, "%q -> %q\n", it.Key(), it.Value())
	}
	require.NoError(t, it.Close())
	return out.String()
}

func (r *rig) hash() string {
	r.Helper()
	image := r.machine.Image()
	h, err := image.Hash(0)
	require.NoError(r, err)
	require.NoError(r, image.Close())
	return fmt.Sprintf("%08x at %d, compacted %d", h.Hash, h.Revision, h.Compacted)
}

// showView prints everything a view shows, so that two can be compared.
func showView(t testing.TB, v *state.View) string {
	t.Helper()
	var out strings.Builder
	fmt.Fprintf(&out, "applied %d term %d revision %d compacted %d\n", v.Applied, v.Term, v.Revision(), v.Compacted())
	resp, err := v.Range(&wire.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	require.NoError(t, err)
	for _, kv := range resp.KVs {
		fmt.Fprintf(&out, "key %s\n", showKV(kv))
	}
	for _, l := range v.Leases.All() {
		fmt.Fprintf(&out, "lease %d ttl %d remaining %d keys %q\n", l.ID, l.TTL, l.Remaining, v.Leases.Keys(l.ID))
	}
	for _, m := range v.Members.Members() {
		fmt.Fprintf(&out, "member %s\n", m.JSON())
	}
	for _, a := range v.Alarms {
		fmt.Fprintf(&out, "alarm %x %d\n", a.MemberID, a.Alarm)
	}
	showAuth(t, v, &out)
	showV2(t, v, &out)
	if c := v.Members.ConfState(); len(c.Voters)+len(c.Learners) > 0 {
		fmt.Fprintf(&out, "voters %x learners %x\n", c.Voters, c.Learners)
	}
	if v.Members.Version() != "" {
		fmt.Fprintf(&out, "version %s downgrade %+v\n", v.Members.Version(), v.Members.Downgrade())
	}
	return out.String()
}

func showKV(b []byte) string {
	if b == nil {
		return "none"
	}
	var kv wire.KeyValue
	if err := kv.Unmarshal(b); err != nil {
		return err.Error()
	}
	s := fmt.Sprintf("%s=%s create %d mod %d version %d", kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version)
	if kv.Lease != 0 {
		s += fmt.Sprintf(" lease %d", kv.Lease)
	}
	return s
}

func showResult(r *command.Result) string {
	var out strings.Builder
	if r.Err != nil {
		var f *fault.Error
		if errors.As(r.Err, &f) {
			fmt.Fprintf(&out, "%s", f.Name)
		} else {
			fmt.Fprintf(&out, "error %q", r.Err)
		}
	} else {
		out.WriteString("ok")
	}
	fmt.Fprintf(&out, " rev %d", r.Revision)
	if r.PrevKV != nil {
		fmt.Fprintf(&out, " prev [%s]", showKV(r.PrevKV))
	}
	if r.Deleted != 0 {
		fmt.Fprintf(&out, " deleted %d", r.Deleted)
		for _, kv := range r.PrevKVs {
			fmt.Fprintf(&out, " [%s]", showKV(kv))
		}
	}
	if r.Lease != 0 {
		fmt.Fprintf(&out, " lease %d ttl %d", r.Lease, r.TTL)
	}
	for _, a := range r.Alarms {
		fmt.Fprintf(&out, " alarm %x/%d", a.MemberID, a.Alarm)
	}
	if r.Txn != nil {
		showTxn(&out, r.Txn)
	}
	if r.V2 != nil {
		fmt.Fprintf(&out, " v2 %s", must(json.Marshal(r.V2)))
	}
	return out.String()
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func showTxn(out *strings.Builder, r *wire.TxnResponse) {
	fmt.Fprintf(out, " txn(%t at %d:", r.Succeeded, r.Header.Revision)
	for _, op := range r.Responses {
		switch {
		case op.Put != nil:
			fmt.Fprintf(out, " put@%d", op.Put.Header.Revision)
			if op.Put.PrevKV != nil {
				fmt.Fprintf(out, " prev [%s]", showKV(op.Put.PrevKV))
			}
		case op.DeleteRange != nil:
			fmt.Fprintf(out, " del@%d %d", op.DeleteRange.Header.Revision, op.DeleteRange.Deleted)
		case op.Range != nil:
			fmt.Fprintf(out, " get@%d", op.Range.Header.Revision)
			for _, kv := range op.Range.KVs {
				fmt.Fprintf(out, " [%s]", showKV(kv))
			}
		case op.Txn != nil:
			showTxn(out, op.Txn)
		}
	}
	out.WriteString(")")
}

func showEffects(e *state.Effects) string {
	var out strings.Builder
	for _, b := range e.Events {
		fmt.Fprintf(&out, "events of %d:", b.Revision)
		for i := range b.Events {
			ev := &b.Events[i]
			fmt.Fprintf(&out, " %s%s", [...]string{"put ", "delete "}[ev.Type], ev.Key)
		}
		out.WriteString("\n")
	}
	for _, l := range e.Leases {
		kind := map[lease.Kind]string{state.Granted: "granted", state.Revoked: "revoked", state.Checkpointed: "checkpointed"}[l.Kind]
		fmt.Fprintf(&out, "lease %d %s, ttl %d remaining %d\n", l.ID, kind, l.TTL, l.Remaining)
	}
	for _, c := range e.Changes {
		kind := [...]string{member.Added: "added", member.Promoted: "promoted", member.Updated: "updated", member.Removed: "removed"}[c.Kind]
		fmt.Fprintf(&out, "member %s %s\n", c.Member.ID, kind)
	}
	for _, c := range e.Auth {
		out.WriteString(showAuthChange(c))
	}
	for _, e := range e.V2 {
		fmt.Fprintf(&out, "v2 %d: %s\n", e.Index, must(json.Marshal(e)))
	}
	if e.Alarms {
		out.WriteString("alarms changed\n")
	}
	if e.Members {
		out.WriteString("members changed\n")
	}
	if e.Compacted != nil {
		fmt.Fprintf(&out, "compacted at %d, before at %d\n", e.Compacted.At, e.Compacted.Previous)
	}
	return out.String()
}

// appender is a request of package wire.
type appender interface{ Append([]byte) []byte }

// cmd makes a command; index and term are set when it is put into a log.
func cmd(kind command.Kind, m appender) command.Command {
	return command.Command{Kind: kind, Body: m.Append(nil)}
}

func change(kind raftpb.ConfChangeType, id uint64, context []byte) command.Command {
	body, err := proto.Marshal(&raftpb.ConfChange{Type: kind.Enum(), NodeId: proto.Uint64(id), Context: context})
	if err != nil {
		panic(err)
	}
	return command.Command{Kind: command.ConfChange, Body: body}
}

// number gives the commands indexes from first and a term.
func number(first ids.Index, term ids.Term, cmds []command.Command) []command.Command {
	for i := range cmds {
		cmds[i].Index, cmds[i].Term = first+ids.Index(i), term
	}
	return cmds
}

// randomLog makes n commands: mostly sensible, with some of everything that can be refused and some bytes that are nothing.
func randomLog(r *rand.Rand, n int) []command.Command {
	g := generator{r}
	log := make([]command.Command, n)
	for i := range log {
		log[i] = g.command(i)
		if r.IntN(200) == 0 && len(log[i].Body) > 0 { // damage
			log[i].Body = bytes.Clone(log[i].Body)
			log[i].Body[r.IntN(len(log[i].Body))] ^= byte(1 + r.IntN(255))
		}
	}
	return number(1, 1, log)
}

type generator struct{ *rand.Rand }

func (g generator) key() []byte { return fmt.Appendf(nil, "k%02d", g.IntN(40)) }

func (g generator) lease() int64 {
	if g.IntN(3) > 0 {
		return 0
	}
	return int64(1 + g.IntN(12))
}

func (g generator) end() []byte {
	switch g.IntN(6) {
	case 0:
		return []byte{0}
	case 1, 2:
		return g.key()
	}
	return nil
}

func (g generator) put() *wire.PutRequest {
	p := &wire.PutRequest{Key: g.key(), Value: fmt.Append(nil, g.Uint32()), Lease: g.lease(), PrevKV: g.IntN(2) == 0}
	switch g.IntN(20) {
	case 0:
		p.Value, p.IgnoreValue = nil, true
	case 1:
		p.Lease, p.IgnoreLease = 0, true
	case 2:
		p.Key = nil
	}
	return p
}

func (g generator) txn(depth int) *wire.TxnRequest {
	t := &wire.TxnRequest{Compare: []wire.Compare{{
		Target: wire.CompareTarget(g.IntN(5)), Result: wire.CompareResult(g.IntN(4)), Key: g.key(), Union: 4, Number: g.Int64N(4),
	}}}
	if g.IntN(3) == 0 {
		t.Compare[0].RangeEnd = g.end()
	}
	for range g.IntN(4) {
		t.Success = append(t.Success, g.op(depth))
	}
	for range g.IntN(4) {
		t.Failure = append(t.Failure, g.op(depth))
	}
	return t
}

func (g generator) op(depth int) wire.RequestOp {
	switch n := g.IntN(20); {
	case n == 0:
		return wire.RequestOp{}
	case n < 8:
		return wire.RequestOp{Put: g.put()}
	case n < 12:
		return wire.RequestOp{DeleteRange: &wire.DeleteRangeRequest{Key: g.key(), RangeEnd: g.end(), PrevKV: true}}
	case n < 15 && depth > 0:
		return wire.RequestOp{Txn: g.txn(depth - 1)}
	}
	get := &wire.RangeRequest{Key: g.key(), RangeEnd: g.end(), Limit: g.Int64N(4)}
	if g.IntN(8) == 0 {
		get.Revision = g.Int64N(300)
	}
	if g.IntN(8) == 0 {
		get.SortOrder, get.SortTarget = wire.SortOrder(g.IntN(4)), wire.SortTarget(g.IntN(6))
	}
	return wire.RequestOp{Range: get}
}

// command makes the i-th command of a log.
func (g generator) command(i int) command.Command {
	switch n := g.IntN(1000); {
	case n < 500:
		return cmd(command.Put, g.put())
	case n < 600:
		return cmd(command.DeleteRange, &wire.DeleteRangeRequest{Key: g.key(), RangeEnd: g.end()})
	case n < 800:
		return cmd(command.Txn, g.txn(2))
	case n < 830:
		return cmd(command.LeaseGrant, &wire.LeaseGrantRequest{ID: g.Int64N(13), TTL: g.Int64N(100) - 10})
	case n < 845:
		return cmd(command.LeaseRevoke, &wire.LeaseRevokeRequest{ID: g.Int64N(13)})
	case n < 870:
		return cmd(command.LeaseCheckpoint, &wire.LeaseCheckpointRequest{Checkpoints: []wire.LeaseCheckpoint{
			{ID: g.Int64N(13), RemainingTTL: g.Int64N(50)}, {ID: g.Int64N(13), RemainingTTL: g.Int64N(50)}}})
	case n < 900:
		return cmd(command.Compaction, &wire.CompactionRequest{Revision: g.Int64N(int64(i)/2 + 2)})
	case n < 903:
		return cmd(command.Alarm, &wire.AlarmRequest{Action: wire.AlarmActivate, MemberID: g.Uint64N(2), Alarm: wire.AlarmType(g.IntN(3))})
	case n < 940:
		return cmd(command.Alarm, &wire.AlarmRequest{Action: wire.AlarmDeactivate, MemberID: g.Uint64N(2), Alarm: wire.AlarmType(1 + g.IntN(2))})
	case n < 950:
		return cmd(command.Alarm, &wire.AlarmRequest{Action: wire.AlarmAction(3 * g.IntN(2)), Alarm: wire.AlarmType(g.IntN(3))})
	case n < 960:
		return cmd(command.ClusterVersion, &wire.ClusterVersionSetRequest{Ver: fmt.Sprintf("3.%d.0", 5+g.IntN(3))})
	case n < 965:
		return cmd(command.DowngradeInfo, &wire.DowngradeInfoSetRequest{Enabled: g.IntN(2) == 0, Ver: "3.6.0"})
	case n < 970:
		return cmd(command.MemberAttributes, &wire.ClusterMemberAttrSetRequest{MemberID: 1 + g.Uint64N(4), Name: "n", ClientURLs: []string{"http://c"}})
	case n < 985:
		id := 1 + g.Uint64N(5)
		m := member.Member{ID: ids.MemberID(id), PeerURLs: []string{fmt.Sprintf("http://%d:1", g.IntN(8))}}
		return change(raftpb.ConfChangeType(g.IntN(5)), id, m.JSON())
	case n < 995:
		return command.Command{Kind: command.Empty}
	}
	return command.Command{Kind: command.Unknown, Body: []byte("?")}
}
