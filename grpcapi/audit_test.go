package grpcapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/audit"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/wire"
)

// auditFile is a file in memory that may be read while it is written.
type auditFile struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (f *auditFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.buf.Write(p)
}

func (f *auditFile) Close() error { return nil }

func (f *auditFile) text() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.buf.String()
}

// audited is a server with an audit log.
func audited(t *testing.T, methods audit.Class) (*server, *auditFile) {
	file := new(auditFile)
	l, err := audit.Start(audit.Options{Out: file, Methods: methods})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	st := newStore(t)
	st.audit = l
	return serve(t, st, settings()), file
}

// awaitLines waits for n lines and returns what they say, without time, remote address and latency, which it checks.
func (f *auditFile) awaitLines(t *testing.T, n int) (lines []string) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for tick := time.NewTicker(time.Millisecond); strings.Count(f.text(), "\n") < n; {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d lines are missing:\n%s", n-strings.Count(f.text(), "\n"), f.text())
		}
	}
	for line := range strings.Lines(f.text()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(fields["time"]))
		remote, took := fmt.Sprint(fields["remote"]), fields["latency_us"].(float64)
		if err != nil || time.Since(at) > time.Hour || !strings.HasPrefix(remote, "127.0.0.1:") || took < 0 || took > 60e6 {
			t.Errorf("%v: %s", err, line)
		}
		for _, name := range []string{"time", "remote", "latency_us"} {
			delete(fields, name)
		}
		rest, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, sorted(t, string(rest)))
	}
	return lines
}

// sorted puts the fields of a line into the order of their names, except error of what was canceled, which depends on who
// notices first and goes.
func sorted(t *testing.T, line string) string {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(line), &fields); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	if fields["code"] == "Canceled" {
		delete(fields, "error")
	}
	b, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestAuditLines: what a call asks for and what it gets is in its line.
func TestAuditLines(t *testing.T) {
	s, file := audited(t, audit.Read)
	ctx := t.Context()
	auth, leases := pb.NewAuthClient(s.conn), pb.NewLeaseClient(s.conn)
	n := 0
	for _, c := range []struct {
		call func() error
		want string
	}{
		{func() error {
			_, err := s.kv.Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: []byte("v")})
			return err
		},
			`"method":"/etcdserverpb.KV/Put","ranges":[{"action":"put","key":"k"}],"revision":2`},
		{func() error {
			_, err := s.kv.Range(ctx, &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("z")})
			return err
		},
			`"method":"/etcdserverpb.KV/Range","ranges":[{"action":"read","key":"a","range_end":"z"}],"revision":2`},
		{func() error {
			_, err := s.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
			return err
		},
			`"method":"/etcdserverpb.KV/DeleteRange","ranges":[{"action":"delete","key_base64":"AA==","range_end_base64":"AA=="}],"revision":3`},
		{func() error {
			_, err := s.kv.Txn(ctx, &pb.TxnRequest{
				Compare: []*pb.Compare{{Key: []byte("c"), RangeEnd: []byte("d"), TargetUnion: &pb.Compare_Version{}}},
				Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{
					Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("p"), Value: []byte("v")}}}},
				}}}},
				Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("x")}}}},
			})
			return err
		}, `"method":"/etcdserverpb.KV/Txn","ranges":[{"action":"read","key":"c","range_end":"d"},{"action":"put","key":"p"},{"action":"delete","key":"x"}],"revision":4`},
		{func() error { _, err := leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 60}); return err },
			`"lease":"7e57","method":"/etcdserverpb.Lease/LeaseGrant","revision":4`},
		{func() error { _, err := s.kv.Compact(ctx, &pb.CompactionRequest{Revision: 3}); return err },
			`"compact_revision":3,"method":"/etcdserverpb.KV/Compact","revision":4`},
		{func() error { _, err := auth.AuthStatus(ctx, &pb.AuthStatusRequest{}); return err },
			`"method":"/etcdserverpb.Auth/AuthStatus","revision":4`},
	} {
		if err := c.call(); err != nil {
			t.Fatal(err)
		}
		n++
		want := sorted(t, `{"code":"OK","decision":"allowed","event":"call","identified":"none",`+c.want+"}")
		if got := file.awaitLines(t, n)[n-1]; got != want {
			t.Errorf("line %s\nwant %s", got, want)
		}
	}
	_, err := s.kv.Put(ctx, &pb.PutRequest{})
	want := `{"code":"InvalidArgument","decision":"allowed","error":"etcdserver: key is not provided","event":"call","identified":"none","method":"/etcdserverpb.KV/Put","ranges":[{"action":"put","key":""}]}`
	if got := file.awaitLines(t, n+1)[n]; err == nil || got != want {
		t.Errorf("%v, line %s\nwant %s", err, got, want)
	}
}

// TestAuditStreams: a stream has a line when it begins and one when it ends, and watches have lines of their own.
func TestAuditStreams(t *testing.T) {
	s, file := audited(t, audit.Read)
	ctx, cancel := context.WithCancel(t.Context())
	w, err := pb.NewWatchClient(s.conn).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*pb.WatchRequest{
		{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("b"), WatchId: 7}}},
		{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 7}}},
	} {
		if err := w.Send(r); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	file.awaitLines(t, 3)
	cancel()
	file.awaitLines(t, 4)
	r, err := s.kv.RangeStream(t.Context(), &pb.RangeRequest{Key: []byte("x")})
	for err == nil {
		_, err = r.Recv()
	}
	if err != io.EOF {
		t.Fatal(err)
	}
	got := file.awaitLines(t, 6)
	for i, want := range []string{
		`{"code":"OK","decision":"allowed","event":"open","identified":"none","method":"/etcdserverpb.Watch/Watch"}`,
		`{"code":"OK","decision":"allowed","event":"create","identified":"none","method":"/etcdserverpb.Watch/Watch","ranges":[{"action":"read","key":"a","range_end":"b"}],"watch_id":7}`,
		`{"code":"OK","decision":"allowed","event":"cancel","identified":"none","method":"/etcdserverpb.Watch/Watch","watch_id":7}`,
		`{"code":"Canceled","decision":"allowed","event":"end","identified":"none","method":"/etcdserverpb.Watch/Watch"}`,
		`{"code":"OK","decision":"allowed","event":"open","identified":"none","method":"/etcdserverpb.KV/RangeStream"}`,
		`{"code":"OK","decision":"allowed","event":"end","identified":"none","method":"/etcdserverpb.KV/RangeStream","ranges":[{"action":"read","key":"x"}]}`,
	} {
		if got[i] != want {
			t.Errorf("line %d %s\nwant %s", i, got[i], want)
		}
	}
}

// TestAuditMethods: what only reads is left out where the operator wants writes, and data where he wants management.
func TestAuditMethods(t *testing.T) {
	read := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("k")}}}
	write := &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("k")}}}
	for lowest, want := range map[audit.Class]string{
		audit.Read:       "Range Txn Txn Put Alarm Alarm MoveLeader",
		audit.Write:      "Txn Put Alarm MoveLeader",
		audit.Management: "Alarm MoveLeader",
	} {
		s, file := audited(t, lowest)
		ctx, maintenance := t.Context(), pb.NewMaintenanceClient(s.conn)
		for _, call := range []func() error{
			func() error { _, err := s.kv.Range(ctx, &pb.RangeRequest{Key: []byte("k")}); return err },
			func() error { _, err := s.kv.Txn(ctx, &pb.TxnRequest{Failure: []*pb.RequestOp{read}}); return err },
			func() error {
				_, err := s.kv.Txn(ctx, &pb.TxnRequest{Failure: []*pb.RequestOp{read, write}})
				return err
			},
			func() error { _, err := s.kv.Put(ctx, &pb.PutRequest{Key: []byte("k")}); return err },
			func() error { _, err := maintenance.Alarm(ctx, &pb.AlarmRequest{}); return err },
			func() error {
				_, err := maintenance.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, Alarm: pb.AlarmType_NOSPACE})
				return err
			},
		} {
			if err := call(); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = maintenance.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: 0xb2}) // nobody is there
		var got []string
		for _, line := range file.awaitLines(t, len(strings.Fields(want))) {
			var fields struct{ Method string }
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatal(err)
			}
			got = append(got, fields.Method[strings.LastIndexByte(fields.Method, '/')+1:])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("lowest class %d: %v, want %s", lowest, got, want)
		}
	}
}

// TestAuditAllocations holds a recorded call to one allocation more than an unrecorded one.
func TestAuditAllocations(t *testing.T) {
	file := nowhere{}
	l, err := audit.Start(audit.Options{Out: file})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(t.Context())
	txn := &pb.TxnRequest{Success: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("p")}}},
		{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("b")}}},
	}}
	for path, req := range map[string]proto.Message{
		"/etcdserverpb.KV/Put":   &pb.PutRequest{Key: []byte("key"), Value: make([]byte, 256)},
		"/etcdserverpb.KV/Range": &pb.RangeRequest{Key: []byte("key")},
		"/etcdserverpb.KV/Txn":   txn,
	} {
		var cost [2]float64
		for i, log := range []*audit.Log{nil, l} {
			st := newStore(t)
			st.audit = log
			w := dialWire(t, serveNode(t, st, &instant{store: st, result: command.Result{Revision: 7, Txn: new(wire.TxnResponse)}}, settings()), path, req)
			for range 5000 {
				w.call()
			}
			cost[i] = testing.AllocsPerRun(2000, w.call)
		}
		t.Logf("%s: %v allocations, %v when recorded", path, cost[0], cost[1])
		if cost[1] > cost[0]+1 && !poolsForget {
			t.Errorf("%s: recording costs %v allocations", path, cost[1]-cost[0])
		}
	}
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) Close() error                { return nil }
