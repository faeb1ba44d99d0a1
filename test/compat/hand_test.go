package compat

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"quorate.dev/quorate/test/compat/diff"
	"quorate.dev/quorate/test/compat/proc"
)

// This file holds the comparisons that are no sequence of etcd's own RPCs: raw gRPC, HTTP and snapshots.

// observe lists the facts that one server shows. Both servers are observed and the lists compared.
type observe func(t *testing.T, s *proc.Server) []diff.Fact

// compareBoth observes both servers of the pair.
func compareBoth(t *testing.T, p *pair, f observe) {
	t.Helper()
	var j, o []diff.Fact
	both(func() { j = f(t, p.judge) }, func() { o = f(t, p.other) })
	for _, line := range diff.Compare(j, o) {
		t.Error(line)
	}
}

// outcome lists the facts of a call that returned resp or err.
func outcome(path string, resp any, err error) []diff.Fact {
	facts := diff.Error(err)
	if err == nil {
		facts = []diff.Fact{{Path: "answer", Value: fmt.Sprint(resp)}}
	}
	for i := range facts {
		facts[i].Path = path + ": " + facts[i].Path
	}
	return facts
}

// TestRawCalls compares what a gRPC client sees below the level of requests.
func TestRawCalls(t *testing.T) {
	p := startPair(t, opponent(), "--unsafe-no-fsync")
	for name, f := range map[string]observe{
		"unknown method":                             invokeEmpty("/etcdserverpb.KV/Nothing"),
		"unknown service":                            invokeEmpty("/etcdserverpb.Nothing/Range"),
		"malformed path":                             invokeEmpty("/nothing"),
		"unary method as a stream":                   unaryAsStream,
		"empty metadata value of client-api-version": metadataCall("client-api-version", ""),
		"client-api-version that is no UTF-8":        metadataCall("client-api-version", "\xff\xfe"),
		"hasleader":                                  metadataCall("hasleader", "true"),
		"gzip":                                       compressed,
		"bytes that are no message":                  noMessage,
		"unknown fields in a request":                unknownFields,
		"cancelled by the client":                    cancelled,
		"health":                                     health,
		"response metadata":                          responseMetadata,
	} {
		t.Run(name, func(t *testing.T) { compareBoth(t, p, f) })
	}
}

func invokeEmpty(path string) observe {
	return func(t *testing.T, s *proc.Server) []diff.Fact {
		return outcome("call", nil, s.Conn().Invoke(t.Context(), path, &emptypb.Empty{}, &emptypb.Empty{}))
	}
}

func unaryAsStream(t *testing.T, s *proc.Server) []diff.Fact {
	st, err := s.Conn().NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/etcdserverpb.KV/Range")
	if err == nil {
		st.SendMsg(&pb.RangeRequest{Key: []byte("a"), CountOnly: true})
		st.CloseSend()
		err = st.RecvMsg(&pb.RangeResponse{})
	}
	return outcome("first message", "ok", err)
}

func compressed(t *testing.T, s *proc.Server) []diff.Fact {
	resp, err := pb.NewKVClient(s.Conn()).Range(t.Context(), &pb.RangeRequest{Key: []byte("a")}, grpc.UseCompressor(gzip.Name))
	return outcome("call", resp.GetCount(), err)
}

func noMessage(t *testing.T, s *proc.Server) []diff.Fact {
	err := s.Conn().Invoke(t.Context(), "/etcdserverpb.KV/Range", []byte{0x0a, 0xff, 0xff}, &pb.RangeResponse{}, grpc.ForceCodec(rawCodec{}))
	// Every protobuf runtime words this in its own way.
	return []diff.Fact{{Path: "code", Value: status.Code(err).String()}}
}

func unknownFields(t *testing.T, s *proc.Server) []diff.Fact {
	req := &pb.RangeRequest{Key: []byte("a")}
	req.ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 0x01})
	resp, err := pb.NewKVClient(s.Conn()).Range(t.Context(), req)
	return outcome("call", resp.GetCount(), err)
}

func cancelled(t *testing.T, s *proc.Server) []diff.Fact {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	st, err := pb.NewWatchClient(s.Conn()).Watch(ctx)
	if err != nil {
		return outcome("open", nil, err)
	}
	cancel()
	_, err = st.Recv()
	return outcome("recv", nil, err)
}

func health(t *testing.T, s *proc.Server) []diff.Fact {
	var facts []diff.Fact
	for _, name := range []string{"", "etcdserverpb.KV", "nothing"} {
		resp, err := healthpb.NewHealthClient(s.Conn()).Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
		facts = append(facts, outcome("check "+name, resp.GetStatus(), err)...)
	}
	st, err := healthpb.NewHealthClient(s.Conn()).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		return outcome("watch", nil, err)
	}
	resp, err := st.Recv()
	return append(facts, outcome("watch", resp.GetStatus(), err)...)
}

func responseMetadata(t *testing.T, s *proc.Server) []diff.Fact {
	var header, trailer metadata.MD
	_, err := pb.NewKVClient(s.Conn()).Range(t.Context(), &pb.RangeRequest{Key: []byte("a")}, grpc.Header(&header), grpc.Trailer(&trailer))
	return append(outcome("call", "ok", err), diff.Fact{Path: "header", Value: fmt.Sprint(header)}, diff.Fact{Path: "trailer", Value: fmt.Sprint(trailer)})
}

func metadataCall(key, value string) observe {
	return func(t *testing.T, s *proc.Server) []diff.Fact {
		ctx := metadata.AppendToOutgoingContext(t.Context(), key, value)
		resp, err := pb.NewKVClient(s.Conn()).Range(ctx, &pb.RangeRequest{Key: []byte("a")})
		facts := outcome("unary", resp.GetCount(), err)
		st, err := pb.NewWatchClient(s.Conn()).Watch(ctx)
		if err == nil {
			err = st.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("a")}}})
		}
		if err == nil || errors.Is(err, io.EOF) {
			_, err = st.Recv()
		}
		return append(facts, outcome("stream", "ok", err)...)
	}
}

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Name() string                  { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (rawCodec) Unmarshal([]byte, any) error   { return nil }

// TestRequestsThatKillEtcd holds differences that nobody wants to be without: any client can end an etcd process with one
// of these requests. Ours answers them, whatever it says, and lives.
func TestRequestsThatKillEtcd(t *testing.T) {
	del := &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte{0}}}}
	put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k"), IgnoreValue: true}}}
	for name, kill := range map[string]func(*grpc.ClientConn) error{
		"undefined alarm action": func(c *grpc.ClientConn) error {
			_, err := pb.NewMaintenanceClient(c).Alarm(t.Context(), &pb.AlarmRequest{Action: 9})
			return err
		},
		// The check for duplicates takes the end "\0" for a key below "a"; the put then finds no value to keep.
		"put that keeps the value of a key its transaction has deleted": func(c *grpc.ClientConn) error {
			_, err := pb.NewKVClient(c).Txn(t.Context(), &pb.TxnRequest{Success: []*pb.RequestOp{del, put}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startPair(t, opponent(), "--unsafe-no-fsync")
			for _, s := range []*proc.Server{p.judge, p.other} {
				if _, err := pb.NewKVClient(s.Conn()).Put(t.Context(), &pb.PutRequest{Key: []byte("k"), Value: []byte("v")}); err != nil {
					t.Fatal(err)
				}
				err := kill(s.Conn())
				_, after := pb.NewKVClient(s.Conn()).Put(t.Context(), &pb.PutRequest{Key: []byte("k"), Value: []byte("v")})
				switch lives := after == nil; {
				case s.Kind == proc.Quorate && (!lives || status.Code(err) == codes.Unavailable):
					t.Errorf("quorate: the request ended with %v, the one after it with %v", err, after)
				case s.Kind == proc.Etcd && lives:
					t.Errorf("etcd answers (%v) and lives: compare the answers in a scenario", err)
				}
			}
		})
	}
}

// TestHTTP compares the endpoints beside gRPC: status, body and the headers that clients read.
func TestHTTP(t *testing.T) {
	p := startPair(t, opponent(), "--unsafe-no-fsync")
	pages := []string{
		"GET /version", "HEAD /version", "POST /version",
		"GET /health", "POST /health", "HEAD /health", "GET /health?serializable=true", "GET /health?exclude=NOSPACE", "GET /health?exclude=nothing",
		"GET /livez", "GET /livez?verbose", "GET /livez/serializable_read", "GET /livez?exclude=serializable_read", "GET /livez/nothing", "POST /livez",
		"GET /readyz", "GET /readyz?verbose", "GET /readyz/data_corruption", "GET /readyz/serializable_read", "GET /readyz/linearizable_read",
		"GET /readyz/non_learner", "GET /readyz?verbose&exclude=linearizable_read&exclude=non_learner", "GET /readyz?exclude=nothing",
		"GET /", "GET /nothing", "GET /v2/keys", "OPTIONS /version",
	}
	ask := func(page string) observe {
		return func(t *testing.T, s *proc.Server) []diff.Fact { return fetch(t, s, page) }
	}
	for _, page := range pages {
		t.Run(page, func(t *testing.T) { compareBoth(t, p, ask(page)) })
	}
	alarm := func(a pb.AlarmType, action pb.AlarmRequest_AlarmAction) {
		for _, s := range []*proc.Server{p.judge, p.other} {
			if _, err := pb.NewMaintenanceClient(s.Conn()).Alarm(t.Context(), &pb.AlarmRequest{Action: action, MemberID: 7, Alarm: a}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, a := range []pb.AlarmType{pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT} {
		alarm(a, pb.AlarmRequest_ACTIVATE)
		for _, page := range []string{"GET /health", "GET /health?exclude=NOSPACE", "GET /health?exclude=CORRUPT", "GET /health?serializable=true",
			"GET /livez", "GET /readyz", "GET /readyz?exclude=data_corruption", "GET /readyz/data_corruption", "GET /readyz/linearizable_read"} {
			t.Run(a.String()+" "+page, func(t *testing.T) { compareBoth(t, p, ask(page)) })
		}
		alarm(a, pb.AlarmRequest_DEACTIVATE)
	}
}

// fetch asks for "METHOD path". The order of readyz lines is random in etcd; our own version stands beside etcd's.
func fetch(t *testing.T, s *proc.Server, page string) []diff.Fact {
	method, path, _ := strings.Cut(page, " ")
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Errorf("%s: %v", s.Kind, err)
		return nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("%s: %v", s.Kind, err)
	}
	lines := strings.SplitAfter(string(body), "\n")
	if strings.Contains(path, "readyz") {
		sort.Strings(lines)
	}
	text := strings.Join(lines, "")
	if path == "/version" {
		text = regexp.MustCompile(`,"quorate":"[^"]+"`).ReplaceAllString(text, "")
	}
	facts := []diff.Fact{{Path: "status", Value: resp.Status}, {Path: "body", Value: fmt.Sprintf("%q", text)}}
	for _, h := range []string{"Content-Type", "Allow", "X-Content-Type-Options", "Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers"} {
		facts = append(facts, diff.Fact{Path: h, Value: strings.Join(resp.Header.Values(h), "|")})
	}
	return facts
}

// metricOf finds the name of a sample line.
var metricOf = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)`)

// ownMetrics are names of etcd that describe its parts, not its behaviour; a server built otherwise has no such part.
var ownMetrics = regexp.MustCompile(`^(go_|process_|promhttp_|etcd_debugging_(store|disk_backend_commit|snap_save|mvcc_index_compaction|server_watch_send_loop)|etcd_grpc_proxy_|grpc_server_handling_seconds)`)

// TestMetricNames checks that every metric name and type that a fresh etcd shows is there, those of its innards excepted.
func TestMetricNames(t *testing.T) {
	p := startPair(t, opponent(), "--unsafe-no-fsync")
	names := func(s *proc.Server) map[string]string {
		if _, err := pb.NewKVClient(s.Conn()).Put(t.Context(), &pb.PutRequest{Key: []byte("a")}); err != nil {
			t.Fatal(err)
		}
		resp, err := http.Get(s.URL() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, m := range metricOf.FindAllStringSubmatch(string(body), -1) {
			out[m[1]] = m[2]
		}
		return out
	}
	judge, other := names(p.judge), names(p.other)
	if len(judge) < 100 {
		t.Fatalf("etcd shows only %d names", len(judge))
	}
	for name, kind := range judge {
		if ownMetrics.MatchString(name) {
			continue
		}
		if got, ok := other[name]; !ok {
			t.Errorf("no metric %s (%s)", name, kind)
		} else if got != kind {
			t.Errorf("%s is a %s, etcd has a %s", name, got, kind)
		}
	}
}

// TestSnapshot compares the shape of the stream: the sizes that remain, the version, the checksum at the end. That etcd's
// tools read the file and etcd starts from it is shown in test/e2e.
func TestSnapshot(t *testing.T) {
	p := startPair(t, opponent(), "--unsafe-no-fsync")
	compareBoth(t, p, func(t *testing.T, s *proc.Server) []diff.Fact {
		for i := range 300 {
			if _, err := pb.NewKVClient(s.Conn()).Put(t.Context(), &pb.PutRequest{Key: fmt.Appendf(nil, "k%d", i), Value: make([]byte, 1000)}); err != nil {
				t.Fatal(err)
			}
		}
		st, err := pb.NewMaintenanceClient(s.Conn()).Snapshot(t.Context(), &pb.SnapshotRequest{})
		if err != nil {
			return outcome("open", nil, err)
		}
		var all []byte
		var last *pb.SnapshotResponse
		version, wrong, remaining := "", "", uint64(0)
		for {
			m, err := st.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return outcome("recv", nil, err)
			}
			if last != nil && m.RemainingBytes+uint64(len(m.Blob)) != remaining && len(m.Blob) != sha256.Size {
				wrong = fmt.Sprintf("%d remain after a blob of %d, %d before", m.RemainingBytes, len(m.Blob), remaining)
			}
			all, last, version, remaining = append(all, m.Blob...), m, version+m.Version+" ", m.RemainingBytes
		}
		body, sum := all[:len(all)-sha256.Size], all[len(all)-sha256.Size:]
		want := sha256.Sum256(body)
		return []diff.Fact{
			{Path: "checksum at the end", Value: fmt.Sprint(bytes.Equal(want[:], sum))},
			{Path: "last blob", Value: fmt.Sprint(len(last.Blob))},
			{Path: "last remaining", Value: fmt.Sprint(last.RemainingBytes)},
			{Path: "header of the last message", Value: fmt.Sprint(last.Header)},
			{Path: "sizes", Value: wrong},
			{Path: "versions", Value: strings.Join(unique(strings.Fields(version)), " ")},
			{Path: "whole pages", Value: fmt.Sprint(len(body)%512 == 0)},
		}
	})
}

func unique(words []string) []string {
	var out []string
	for i, w := range words {
		if i == 0 || w != words[i-1] {
			out = append(out, w)
		}
	}
	return out
}

// TestSpaceComesBack fills both stores and frees the space again. etcd keeps its alarm, ours goes by itself: the chosen
// difference alarm-clears. An alarm that is disarmed by hand goes in both.
func TestSpaceComesBack(t *testing.T) {
	p := startPair(t, opponent(), "--unsafe-no-fsync", "--quota-backend-bytes=8000000")
	fill := func(s *proc.Server) {
		kv := pb.NewKVClient(s.Conn())
		var err error
		for i := 0; err == nil && i < 100; i++ {
			_, err = kv.Put(t.Context(), &pb.PutRequest{Key: fmt.Appendf(nil, "k%d", i), Value: make([]byte, 500000)})
		}
		if got := status.Convert(err); got.Code() != codes.ResourceExhausted || got.Message() != "etcdserver: mvcc: database space exceeded" {
			t.Fatalf("%s: filling ended with %v", s.Kind, err)
		}
		if n := alarms(t, s); n != 1 {
			t.Errorf("%s shows %d alarms when full", s.Kind, n)
		}
		del, err := kv.DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
		if err != nil {
			t.Fatalf("%s: deleting when full: %v", s.Kind, err)
		}
		if _, err = kv.Compact(t.Context(), &pb.CompactionRequest{Revision: del.Header.Revision, Physical: true}); err != nil {
			t.Fatalf("%s: compacting when full: %v", s.Kind, err)
		}
	}
	both(func() { fill(p.judge) }, func() { fill(p.other) })
	if !self {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		for tick := time.NewTicker(50 * time.Millisecond); alarms(t, p.other) > 0; <-tick.C {
			if ctx.Err() != nil {
				t.Fatal("the alarm does not clear by itself")
			}
		}
		if _, err := pb.NewKVClient(p.other.Conn()).Put(t.Context(), &pb.PutRequest{Key: []byte("a")}); err != nil {
			t.Errorf("put after the alarm went: %v", err)
		}
	}
	if n := alarms(t, p.judge); n != 1 {
		t.Errorf("etcd shows %d alarms after space came back: the difference alarm-clears is none", n)
	}
}

func alarms(t *testing.T, s *proc.Server) int {
	resp, err := pb.NewMaintenanceClient(s.Conn()).Alarm(t.Context(), &pb.AlarmRequest{Action: pb.AlarmRequest_GET})
	if err != nil {
		t.Fatal(err)
	}
	return len(resp.Alarms)
}
