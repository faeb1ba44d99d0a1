package state_test

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// TestScenarios runs testdata. The verbs:
//
//	apply            one batch; each line is a command (see parse), each answer a line; then the effects
//	view             what readers see
//	background [max] one step of housekeeping
//	restart          a clean stop and a start
//	crash            a power loss that keeps what was synced, and a start
//	flush            makes everything durable
//	stored bucket    the records of a bucket, named as in storage (k m l a c M R A U O v)
//	hash             HashKV at the current revision
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &scenario{rig: newRig(t, vfs.NewCrashableMem())}
		defer func() { s.close() }()
		datadriven.RunTest(t, path, s.verb)
	})
}

type scenario struct {
	*rig
	term ids.Term
}

func (s *scenario) verb(t *testing.T, d *datadriven.TestData) string {
	s.TB = t
	switch d.Cmd {
	case "apply":
		return s.batch(t, d)
	case "view":
		return showView(t, s.machine.View())
	case "background":
		limit := 1000
		d.MaybeScanArgs(t, "max", &limit)
		more, err := s.machine.Background(limit)
		require.NoError(t, err)
		return fmt.Sprintf("more %t, retained %d bytes\n", more, s.machine.View().RetainedBytes())
	case "restart":
		s.reopen()
	case "crash":
		fs := s.fs.CrashClone(vfs.CrashCloneCfg{})
		require.NoError(t, s.engine.CloseDirty())
		s.fs = fs
		s.open()
	case "flush":
		require.NoError(t, s.engine.Flush())
		return ""
	case "stored":
		bucket := d.CmdArgs[0].Key[0]
		lower, upper := storage.BucketBounds(bucket)
		return dump(t, s.engine, lower, upper)
	case "hash":
		return s.hash() + "\n"
	default:
		d.Fatalf(t, "unknown verb %s", d.Cmd)
	}
	return fmt.Sprintf("applied %v\n", s.machine.Applied())
}

func (s *scenario) batch(t *testing.T, d *datadriven.TestData) string {
	d.MaybeScanArgs(t, "term", (*uint64)(&s.term))
	s.term = max(s.term, 1)
	var cmds []command.Command
	lines := strings.Split(d.Input, "\n")
	for _, line := range lines {
		c, err := parse(line)
		if err != nil {
			d.Fatalf(t, "%s: %v", line, err)
		}
		cmds = append(cmds, c)
	}
	results, effects := s.apply(number(s.machine.Applied().Index+1, s.term, cmds))
	var out strings.Builder
	for i := range results {
		fmt.Fprintf(&out, "%s: %s\n", lines[i], results[i])
	}
	return out.String() + showEffects(&effects)
}

// fields are the words of a command: positional ones, and flags and name=value pairs.
type fields struct {
	words []string
	named map[string]string
}

func (f *fields) word(i int) string {
	if i < len(f.words) {
		return f.words[i]
	}
	return ""
}

// bytes is a word in which ” stands for the empty string and + for the range end that means all keys.
func (f *fields) bytes(i int) []byte {
	if f.word(i) == "+" {
		return []byte{0}
	}
	return []byte(strings.ReplaceAll(f.word(i), "''", ""))
}

func (f *fields) int(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (f *fields) has(name string) bool { _, ok := f.named[name]; return ok }

func split(line string) *fields {
	f := &fields{named: map[string]string{}}
	for _, w := range strings.Fields(line) {
		switch name, value, pair := strings.Cut(w, "="); {
		case pair:
			f.named[name] = value
		case w == "prev_kv" || w == "ignore_value" || w == "ignore_lease" || w == "learner" || w == "promote":
			f.named[w] = ""
		default:
			f.words = append(f.words, w)
		}
	}
	return f
}

// parse reads a command:
//
//	put KEY VALUE [lease=N] [ignore_value] [ignore_lease]     del KEY [END]      compact REV
//	txn mod(KEY) N ; OP ; OP else OP ; OP                     with OP: put..., del..., get KEY [END]
//	grant ID TTL     revoke ID     checkpoint ID REMAINING    alarm get|activate|deactivate MEMBER TYPE
//	add ID URL [name=N] [learner] [promote]    update ID URL  remove ID          attributes ID NAME URL
//	version V        downgrade [V]                            empty              raw KIND HEX
//	v2 METHOD PATH... (see parseV2)
//	and those of parseAuth
func parse(line string) (command.Command, error) {
	verb, rest, _ := strings.Cut(line, " ")
	f := split(rest)
	id := f.int(f.word(0))
	switch verb {
	case "put":
		return cmd(command.Put, parsePut(f)), nil
	case "del":
		return cmd(command.DeleteRange, parseDelete(f)), nil
	case "txn":
		t, err := parseTxn(rest)
		return cmd(command.Txn, t), err
	case "compact":
		return cmd(command.Compaction, &wire.CompactionRequest{Revision: id}), nil
	case "grant":
		return cmd(command.LeaseGrant, &wire.LeaseGrantRequest{ID: id, TTL: f.int(f.word(1))}), nil
	case "revoke":
		return cmd(command.LeaseRevoke, &wire.LeaseRevokeRequest{ID: id}), nil
	case "checkpoint":
		return cmd(command.LeaseCheckpoint, &wire.LeaseCheckpointRequest{Checkpoints: []wire.LeaseCheckpoint{{ID: id, RemainingTTL: f.int(f.word(1))}}}), nil
	case "alarm":
		action := map[string]wire.AlarmAction{"get": wire.AlarmGet, "activate": wire.AlarmActivate, "deactivate": wire.AlarmDeactivate}[f.word(0)]
		return cmd(command.Alarm, &wire.AlarmRequest{Action: action, MemberID: uint64(f.int(f.word(1))), Alarm: wire.AlarmType(f.int(f.word(2)))}), nil
	case "version":
		return cmd(command.ClusterVersion, &wire.ClusterVersionSetRequest{Ver: f.word(0)}), nil
	case "downgrade":
		return cmd(command.DowngradeInfo, &wire.DowngradeInfoSetRequest{Enabled: f.word(0) != "", Ver: f.word(0)}), nil
	case "attributes":
		return cmd(command.MemberAttributes, &wire.ClusterMemberAttrSetRequest{MemberID: uint64(id), Name: f.word(1), ClientURLs: f.words[2:]}), nil
	case "v2":
		return parseV2(f), nil
	case "empty":
		return command.Command{Kind: command.Empty}, nil
	}
	if c, err := parseAuth(verb, rest); err == nil {
		return c, nil
	}
	return parseRare(verb, f, id)
}

func parseRare(verb string, f *fields, id int64) (command.Command, error) {
	m := member.Member{ID: ids.MemberID(id), PeerURLs: []string{f.word(1)}, Name: f.named["name"], IsLearner: f.has("learner")}
	switch verb {
	case "add":
		switch {
		case f.has("promote"):
			return change(raftpb.ConfChangeAddNode, uint64(id), member.PromoteContext(m)), nil
		case f.has("learner"):
			return change(raftpb.ConfChangeAddLearnerNode, uint64(id), m.JSON()), nil
		}
		return change(raftpb.ConfChangeAddNode, uint64(id), m.JSON()), nil
	case "update":
		return change(raftpb.ConfChangeUpdateNode, uint64(id), m.JSON()), nil
	case "remove":
		return change(raftpb.ConfChangeRemoveNode, uint64(id), nil), nil
	case "raw":
		body, err := hex.DecodeString(f.word(1))
		for _, row := range command.Table() {
			if row.Name == f.word(0) {
				return command.Command{Kind: row.Kind, Body: body}, err
			}
		}
	}
	return command.Command{}, fmt.Errorf("unknown command")
}

func parsePut(f *fields) *wire.PutRequest {
	return &wire.PutRequest{Key: f.bytes(0), Value: f.bytes(1), Lease: f.int(f.named["lease"]), PrevKV: f.has("prev_kv"),
		IgnoreValue: f.has("ignore_value"), IgnoreLease: f.has("ignore_lease")}
}

func parseDelete(f *fields) *wire.DeleteRangeRequest {
	return &wire.DeleteRangeRequest{Key: f.bytes(0), RangeEnd: f.bytes(1), PrevKV: f.has("prev_kv")}
}

func parseTxn(s string) (*wire.TxnRequest, error) {
	then, otherwise, _ := strings.Cut(s, " else ")
	parts := strings.Split(then, ";")
	t := &wire.TxnRequest{}
	if compare := strings.Fields(parts[0]); len(compare) == 2 {
		key := strings.TrimSuffix(strings.TrimPrefix(compare[0], "mod("), ")")
		n, err := strconv.ParseInt(compare[1], 10, 64)
		if err != nil {
			return t, err
		}
		t.Compare = []wire.Compare{{Target: wire.CompareMod, Key: []byte(strings.ReplaceAll(key, "''", "")), Union: 6, Number: n}}
	}
	t.Success = parseOps(parts[1:])
	if otherwise != "" {
		t.Failure = parseOps(strings.Split(otherwise, ";"))
	}
	return t, nil
}

func parseOps(ops []string) []wire.RequestOp {
	var out []wire.RequestOp
	for _, s := range ops {
		verb, rest, _ := strings.Cut(strings.TrimSpace(s), " ")
		f := split(rest)
		switch verb {
		case "put":
			out = append(out, wire.RequestOp{Put: parsePut(f)})
		case "del":
			out = append(out, wire.RequestOp{DeleteRange: parseDelete(f)})
		case "get":
			out = append(out, wire.RequestOp{Range: &wire.RangeRequest{Key: f.bytes(0), RangeEnd: f.bytes(1),
				Revision: f.int(f.named["rev"]), SortOrder: wire.SortOrder(f.int(f.named["order"]))}})
		case "txn":
			out = append(out, wire.RequestOp{Txn: &wire.TxnRequest{Success: parseOps([]string{rest})}})
		default:
			out = append(out, wire.RequestOp{})
		}
	}
	return out
}
