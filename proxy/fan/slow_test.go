package fan_test

import (
	"context"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"quorate.dev/quorate/proxy/fan"
	"quorate.dev/quorate/proxy/upstream"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/wire"
)

// TestSlow: clients that do not read delay nobody and make the proxy hold little; when they read, they get everything.
func TestSlow(t *testing.T) {
	const puts, size, log = 120, 32 << 10, 256 << 10
	store := startStore(t, nil)
	f := startFront(t, fan.Config{LogBytes: log}, store)
	kv := client(t, store)
	slow := make([]*stream, 3)
	for i := range slow {
		slow[i] = watchStream(t, context.Background(), connect(t, f.addr))
		for range 2 {
			slow[i].create(prefix)
			slow[i].next()
		}
	}
	fast := watchStream(t, context.Background(), connect(t, f.addr))
	fast.create(prefix)
	fast.next()
	bounded := func() fan.Stats {
		t.Helper()
		s := f.hub.Stats()
		if s.Logged > 2*log || s.Held > int64(len(slow))*2*upstream.StreamWindow {
			t.Fatalf("the proxy holds too much: %+v", s)
		}
		return s
	}
	value := strings.Repeat("v", size)
	write := func(n int) (last int64) {
		for range n {
			last = put(t, kv, "a/k", value)
			for rev := int64(0); rev < last; {
				r := fast.next()
				rev = r.Events[len(r.Events)-1].Kv.ModRevision
			}
			bounded()
		}
		return last
	}
	write(puts)
	// The slow ones read a little, find that the log does not go back so far, are watched for alone, and stop again.
	seen := make([][2]int64, len(slow))
	read := func(i int) {
		t.Helper()
		r := slow[i].next()
		for _, e := range r.Events {
			last := &seen[i][r.WatchId]
			if *last != 0 && e.Kv.ModRevision != *last+1 {
				t.Fatalf("%d after %d", e.Kv.ModRevision, *last)
			}
			*last = e.Kv.ModRevision
		}
	}
	alone := false
	for i := range slow {
		for !alone && seen[i] != [2]int64{puts + 1, puts + 1} {
			read(i)
			alone = bounded().Alone > 0
		}
	}
	if !alone {
		t.Fatal("no slow watcher was watched for alone")
	}
	last := write(puts)
	for i := range slow {
		for seen[i] != [2]int64{last, last} {
			read(i)
		}
	}
	await(t, "all are together again", func() bool { return bounded().Alone == 0 })
	last = put(t, kv, "a/k", "end")
	for i := range slow {
		for seen[i] != [2]int64{last, last} {
			read(i)
		}
	}
}

// await waits for a condition.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("not within a minute: " + what)
		}
	}
}

// TestGone: what clients leave behind is nothing.
func TestGone(t *testing.T) {
	store := startStore(t, nil)
	f := startFront(t, fan.Config{}, store)
	kv := client(t, store)
	conn := connect(t, f.addr)
	for range 5 {
		s := watchStream(t, context.Background(), conn)
		s.create(prefix)
		s.create(&pb.WatchCreateRequest{Key: []byte("b"), StartRevision: 1})
		s.next()
		s.next()
		put(t, kv, "a/1", "v")
		s.next()
		s.cancel()
	}
	await(t, "the streams are forgotten", func() bool {
		s := f.hub.Stats()
		return s.Streams == 0 && s.Watchers == 0 && s.Groups == 0 && s.Alone == 0 && s.Upstream == 0 && s.Logged == 0 && s.Held == 0
	})
}

// fakeStore answers watch streams as a test says.
func fakeStore(t *testing.T, watch rpc.StreamHandler) string {
	t.Helper()
	return serve(t, func(s *rpc.Server) { s.Stream("/etcdserverpb.Watch/Watch", watch) })
}

// TestNoLeader: the end of an upstream stream that says there is no leader is the end of the streams that asked to know.
func TestNoLeader(t *testing.T) {
	ready, lose := make(chan struct{}, 8), make(chan struct{})
	store := fakeStore(t, func(st *rpc.Stream) *rpc.Status {
		if st.Metadata("hasleader") != "true" {
			return &rpc.Status{Code: rpc.Internal, Message: "hasleader is missing"}
		}
		for id := int64(0); ; id++ {
			msg, err := st.Recv()
			if err != nil {
				return nil
			}
			var req wire.WatchRequest
			if err := req.Unmarshal(msg); err != nil || req.Create == nil {
				continue
			}
			if err := st.Send(&wire.WatchResponse{Header: wire.Header{Revision: 5}, WatchID: id, Created: true}); err != nil {
				return nil
			}
			ready <- struct{}{}
			<-lose
			return &rpc.Status{Code: rpc.Unavailable, Message: "etcdserver: no leader"}
		}
	})
	f := startFront(t, fan.Config{}, store)
	s := watchStream(t, metadata.AppendToOutgoingContext(context.Background(), "hasleader", "true"), connect(t, f.addr))
	s.create(prefix)
	s.next()
	<-ready
	close(lose)
	if _, err := s.Recv(); status.Code(err) != codes.Unavailable || status.Convert(err).Message() != "etcdserver: no leader" {
		t.Fatalf("ended with %v", err)
	}
}

// TestLostProgress: etcd drops a progress request when a watcher is behind; the proxy asks again, and its clients get an answer.
func TestLostProgress(t *testing.T) {
	asked := 0
	store := fakeStore(t, func(st *rpc.Stream) *rpc.Status {
		for id := int64(0); ; {
			msg, err := st.Recv()
			if err != nil {
				return nil
			}
			var req wire.WatchRequest
			if err := req.Unmarshal(msg); err != nil {
				return nil
			}
			r := wire.WatchResponse{Header: wire.Header{Revision: 5}}
			switch {
			case req.Create != nil:
				r.WatchID, r.Created = id, true
				id++
			case req.Progress:
				if asked++; asked < 3 {
					continue
				}
				r.WatchID, r.Header.Revision = -1, 9
			default:
				continue
			}
			if err := st.Send(&r); err != nil {
				return nil
			}
		}
	})
	f := startFront(t, fan.Config{}, store)
	s := watchStream(t, context.Background(), connect(t, f.addr))
	s.create(prefix)
	s.next()
	s.progress()
	if r := s.next(); r.WatchId != -1 || r.Header.Revision != 9 || len(r.Events) > 0 {
		t.Fatalf("%v", r)
	}
}

// TestOfficial: the official client's watcher over a proxy that loses the store and whose client loses nothing.
func TestOfficial(t *testing.T) {
	store := startStore(t, nil)
	g := newGate(t, store)
	f := startFront(t, fan.Config{}, g.addr())
	kv := client(t, store)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	events := client(t, f.addr).Watch(ctx, "a/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if r := <-events; !r.Created {
		t.Fatalf("%+v", r)
	}
	for i := range 20 {
		if i%5 == 2 {
			g.cut(true)
		}
		rev := put(t, kv, "a/1", "v")
		if i%5 == 2 {
			g.cut(false)
		}
		if r := <-events; r.Err() != nil || len(r.Events) != 1 || r.Events[0].Kv.ModRevision != rev {
			t.Fatalf("%d: %+v", rev, r)
		}
	}
}

// TestProgressBehindEvents: a progress answer that arrives together with events, and with a request of the client, leaves after
// the events.
func TestProgressBehindEvents(t *testing.T) {
	store := fakeStore(t, func(st *rpc.Stream) *rpc.Status {
		rev := int64(5)
		for id := int64(0); ; {
			msg, err := st.Recv()
			if err != nil {
				return nil
			}
			var req wire.WatchRequest
			if err := req.Unmarshal(msg); err != nil {
				return nil
			}
			var answers []*wire.WatchResponse
			switch {
			case req.Create != nil:
				answers = []*wire.WatchResponse{{Header: wire.Header{Revision: rev}, WatchID: id, Created: true}}
				id++
			case req.Progress:
				rev++
				event := wire.Event{KV: wire.AppendKeyValue(nil, &wire.KeyValue{Key: []byte("a/1"), CreateRevision: rev, ModRevision: rev, Version: 1})}
				head := wire.Header{Revision: rev}
				answers = []*wire.WatchResponse{{Header: head, Events: [][]byte{event.Append(nil)}}, {Header: head, WatchID: -1}}
			}
			for _, r := range answers {
				if !st.TrySend(r.Append(nil), nil) {
					return nil
				}
			}
			st.Flush()
		}
	})
	f := startFront(t, fan.Config{}, store)
	s := watchStream(t, context.Background(), connect(t, f.addr))
	s.create(prefix)
	s.next()
	last := int64(0)
	for range 300 {
		s.create(prefix)
		s.progress()
		extra := int64(-1)
		for answered := false; extra < 0 || !answered; {
			switch r := s.next(); {
			case r.Created:
				extra = r.WatchId
				s.cancelWatch(extra)
			case r.WatchId == -1:
				if r.Header.Revision > last {
					t.Fatalf("progress to %d before its event; the last one was %d", r.Header.Revision, last)
				}
				answered = true
			case r.WatchId == 0:
				last = r.Events[0].Kv.ModRevision
			}
		}
	}
}
