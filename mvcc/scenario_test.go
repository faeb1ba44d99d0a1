package mvcc_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/wire"
)

// TestScenarios runs the files of testdata. Verbs:
//
//	write                     the lines of the input in one Tx: put KEY VALUE [lease=N] [keep-value] [keep-lease], del KEY [END]
//	txn                       one transaction; lines "if KEY TARGET OPERATOR OPERAND", "then ...", "else ..." with the
//	                          operations put, del and get (KEY [END] [rev=N]); indented lines belong to a nested transaction
//	publish [view=NAME]       commits the engine batch and names the view
//	get KEY [END] [view=NAME] [rev=N] [limit=N] [order=...] [target=...] [keys-only] [count-only] [min-mod=N] ...
//	compact rev=N, scrub [max=N], reopen, hash [rev=N], events from=N [to=N], stats
//
// A key or end of "0x00" is one zero byte. A key-value is shown as key=value c(reate) m(od) v(ersion) l(ease).
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &scenario{rig: newRig(t), views: map[string]*mvcc.View{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			verb, ok := verbs[d.Cmd]
			if !ok {
				d.Fatalf(t, "unknown verb")
			}
			out, err := verb(s, d)
			if err != nil {
				out += "error: " + err.Error() + "\n"
			}
			if out == "" {
				out = "ok\n"
			}
			return out
		})
	})
}

type scenario struct {
	*rig
	views map[string]*mvcc.View
}

var verbs = map[string]func(*scenario, *datadriven.TestData) (string, error){
	"write": (*scenario).write, "txn": (*scenario).txn, "get": (*scenario).get, "compact": (*scenario).compact,
	"scrub": (*scenario).scrub, "hash": (*scenario).hash, "events": (*scenario).events,
	"publish": func(s *scenario, d *datadriven.TestData) (string, error) {
		v := s.publish()
		if name := text(d, "view", ""); name != "" {
			s.views[name] = v
		}
		return fmt.Sprintf("revision %d, compacted %d\n", v.Revision(), v.Compacted()), nil
	},
	"reopen": func(s *scenario, _ *datadriven.TestData) (string, error) {
		s.reopen()
		v := s.s.View()
		return fmt.Sprintf("revision %d, compacted %d, scrubbing %v\n", v.Revision(), v.Compacted(), s.s.Scrubbing()), nil
	},
	"stats": func(s *scenario, _ *datadriven.TestData) (string, error) {
		return fmt.Sprintf("%+v\n", s.s.View().Stats()), nil
	},
}

func text(d *datadriven.TestData, name, missing string) string {
	for _, a := range d.CmdArgs {
		if a.Key == name && len(a.Vals) > 0 {
			return a.Vals[0]
		}
	}
	return missing
}

func number(d *datadriven.TestData, name string) int64 {
	n, _ := strconv.ParseInt(text(d, name, "0"), 10, 64)
	return n
}

// plainArgs are the arguments without a value.
func plainArgs(d *datadriven.TestData) (keys []string, flags map[string]bool) {
	flags = map[string]bool{}
	for _, a := range d.CmdArgs {
		switch {
		case len(a.Vals) > 0:
		case strings.HasSuffix(a.Key, "-only"):
			flags[a.Key] = true
		default:
			keys = append(keys, a.Key)
		}
	}
	return keys, flags
}

func keyBytes(s string) []byte { return []byte(strings.ReplaceAll(s, "0x00", "\x00")) }

func show(kv []byte) string {
	var m wire.KeyValue
	if err := m.Unmarshal(kv); err != nil {
		return err.Error()
	}
	s := fmt.Sprintf("%s=%s c%d m%d v%d", m.Key, m.Value, m.CreateRevision, m.ModRevision, m.Version)
	if m.Lease != 0 {
		s += fmt.Sprintf(" l%d", m.Lease)
	}
	return s
}

func showRange(r *wire.RangeResponse) string {
	s := fmt.Sprintf("revision %d, count %d", r.Header.Revision, r.Count)
	if r.More {
		s += ", more"
	}
	for _, kv := range r.KVs {
		s += "\n  " + show(kv)
	}
	return s + "\n"
}

// putOf reads "KEY VALUE [lease=N] [keep-value] [keep-lease]".
func putOf(words []string) *wire.PutRequest {
	req := &wire.PutRequest{Key: keyBytes(words[0]), PrevKV: true}
	for _, w := range words[1:] {
		switch n, isLease := strings.CutPrefix(w, "lease="); {
		case isLease:
			req.Lease, _ = strconv.ParseInt(n, 10, 64)
		case w == "keep-value":
			req.IgnoreValue = true
		case w == "keep-lease":
			req.IgnoreLease = true
		default:
			req.Value = []byte(w)
		}
	}
	return req
}

func endOf(words []string) []byte {
	if len(words) > 1 && !strings.Contains(words[1], "=") {
		return keyBytes(words[1])
	}
	return nil
}

func (s *scenario) write(d *datadriven.TestData) (out string, err error) {
	tx := s.s.Begin(s.b)
	for line := range strings.Lines(d.Input) {
		words := strings.Fields(line)
		switch words[0] {
		case "put":
			req := putOf(words[1:])
			if err = tx.CheckPut(req, grantedID); err == nil {
				tx.Put(req)
			}
		case "del":
			n, _ := tx.DeleteRange(keyBytes(words[1]), endOf(words[1:]))
			out += fmt.Sprintf("deleted %d\n", n)
		}
	}
	for _, c := range tx.Changes() {
		if c.OldLease != c.NewLease {
			out += fmt.Sprintf("lease of %s: %d -> %d\n", c.Key, c.OldLease, c.NewLease)
		}
	}
	out += showBatch(tx.End())
	return out + fmt.Sprintf("revision %d\n", s.s.Revision()), err
}

func showBatch(b *mvcc.EventBatch) string {
	if b == nil {
		return ""
	}
	s := ""
	for _, e := range b.Events {
		s += fmt.Sprintf("%d %s %s", b.Revision, []string{"put", "delete"}[e.Type], show(e.KV))
		if e.PrevKV != nil {
			s += " before " + show(e.PrevKV)
		}
		s += "\n"
	}
	return s
}

func (s *scenario) view(d *datadriven.TestData) *mvcc.View {
	if v := s.views[text(d, "view", "")]; v != nil {
		return v
	}
	return s.s.View()
}

func (s *scenario) get(d *datadriven.TestData) (string, error) {
	keys, flags := plainArgs(d)
	req := &wire.RangeRequest{Key: keyBytes(keys[0]), Revision: number(d, "rev"), Limit: number(d, "limit"),
		KeysOnly: flags["keys-only"], CountOnly: flags["count-only"], MinModRevision: number(d, "min-mod"),
		MaxModRevision: number(d, "max-mod"), MinCreateRevision: number(d, "min-create"), MaxCreateRevision: number(d, "max-create")}
	if len(keys) > 1 {
		req.RangeEnd = keyBytes(keys[1])
	}
	req.SortOrder = map[string]wire.SortOrder{"ascend": wire.SortAscend, "descend": wire.SortDescend}[text(d, "order", "")]
	req.SortTarget = map[string]wire.SortTarget{"version": wire.SortByVersion, "create": wire.SortByCreate, "mod": wire.SortByMod,
		"value": wire.SortByValue}[text(d, "target", "")]
	resp, err := s.view(d).Range(req)
	if err != nil {
		return "", err
	}
	return showRange(resp), nil
}

func (s *scenario) compact(d *datadriven.TestData) (string, error) {
	return "", s.s.Compact(s.b, ids.Revision(number(d, "rev")))
}

func (s *scenario) scrub(d *datadriven.TestData) (string, error) {
	most := number(d, "max")
	if most == 0 {
		most = 1000
	}
	return fmt.Sprintf("more %v\n", s.s.Scrub(s.b, int(most))), nil
}

func (s *scenario) hash(d *datadriven.TestData) (string, error) {
	f := s.e.Freeze()
	h, err := mvcc.HashKV(f, ids.Revision(number(d, "rev")))
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d compacted %d revision %d\n", h.Hash, h.Compacted, h.Revision), nil
}

func (s *scenario) events(d *datadriven.TestData) (out string, err error) {
	v := s.view(d)
	to := v.Revision()
	if n := number(d, "to"); n != 0 {
		to = ids.Revision(n)
	}
	batches, next, err := v.Events(ids.Revision(number(d, "from")), to, 1<<20, nil)
	for _, b := range batches {
		out += showBatch(b)
	}
	return out + fmt.Sprintf("next %d\n", next), err
}

// txn parses its input into a request and shows the response.
func (s *scenario) txn(d *datadriven.TestData) (string, error) {
	lines := strings.Split(strings.TrimRight(d.Input, "\n"), "\n")
	req := parseTxn(s.t, lines)
	tx := s.s.Begin(s.b)
	resp, err := tx.Txn(req, grantedID)
	out := showBatch(tx.End())
	if err == nil {
		out = showTxn(resp, "") + out
	}
	return out, err
}

// parseTxn reads lines up to the first that is indented less; a nested transaction is "then txn" or "else txn" followed by
// lines indented by two more spaces.
func parseTxn(t testing.TB, lines []string) *wire.TxnRequest {
	req := &wire.TxnRequest{}
	for i := 0; i < len(lines); i++ {
		words := strings.Fields(lines[i])
		if words[0] == "if" {
			req.Compare = append(req.Compare, compareOf(t, words[1:]))
			continue
		}
		var op wire.RequestOp
		switch words[1] {
		case "put":
			op.Put = putOf(words[2:])
		case "del":
			op.DeleteRange = &wire.DeleteRangeRequest{Key: keyBytes(words[2]), RangeEnd: endOf(words[2:]), PrevKV: true}
		case "get":
			op.Range = &wire.RangeRequest{Key: keyBytes(words[2]), RangeEnd: endOf(words[2:])}
			if n, ok := strings.CutPrefix(words[len(words)-1], "rev="); ok {
				op.Range.Revision, _ = strconv.ParseInt(n, 10, 64)
			}
		case "txn":
			var inner []string
			for i+1 < len(lines) && strings.HasPrefix(lines[i+1], "  ") {
				i++
				inner = append(inner, lines[i][2:])
			}
			op.Txn = parseTxn(t, inner)
		}
		if words[0] == "then" {
			req.Success = append(req.Success, op)
		} else {
			req.Failure = append(req.Failure, op)
		}
	}
	return req
}

// compareOf reads "KEY[..END] TARGET OPERATOR OPERAND".
func compareOf(t testing.TB, words []string) wire.Compare {
	require.Len(t, words, 4)
	key, end, _ := strings.Cut(words[0], "..")
	c := wire.Compare{Key: keyBytes(key), RangeEnd: keyBytes(end)}
	c.Target = map[string]wire.CompareTarget{"version": wire.CompareVersion, "create": wire.CompareCreate, "mod": wire.CompareMod,
		"value": wire.CompareValue, "lease": wire.CompareLease}[words[1]]
	c.Union = []int32{4, 5, 6, 7, 8}[c.Target]
	c.Result = map[string]wire.CompareResult{"=": wire.CompareEqual, "!=": wire.CompareNotEqual, ">": wire.CompareGreater,
		"<": wire.CompareLess}[words[2]]
	c.Number, _ = strconv.ParseInt(words[3], 10, 64)
	c.Value = []byte(words[3])
	return c
}

func showTxn(r *wire.TxnResponse, indent string) string {
	s := fmt.Sprintf("%srevision %d, succeeded %v\n", indent, r.Header.Revision, r.Succeeded)
	for _, op := range r.Responses {
		switch {
		case op.Range != nil:
			s += indent + "get: " + strings.ReplaceAll(showRange(op.Range), "\n  ", "\n  "+indent)
		case op.Put != nil:
			s += fmt.Sprintf("%sput: revision %d", indent, op.Put.Header.Revision)
			if op.Put.PrevKV != nil {
				s += " before " + show(op.Put.PrevKV)
			}
			s += "\n"
		case op.DeleteRange != nil:
			s += fmt.Sprintf("%sdel: revision %d, deleted %d\n", indent, op.DeleteRange.Header.Revision, op.DeleteRange.Deleted)
		case op.Txn != nil:
			s += indent + "txn:\n" + showTxn(op.Txn, indent+"  ")
		}
	}
	return s
}
