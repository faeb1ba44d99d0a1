package fan_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/protoadapt"

	"quorate.dev/quorate/proxy/fan"
)

// TestAsDirect makes the same requests of the store and of the proxy, and compares the answers.
func TestAsDirect(t *testing.T) {
	store := startStore(t, nil)
	f := startFront(t, fan.Config{}, store)
	kv := client(t, store)
	for i := range 9 {
		put(t, kv, fmt.Sprintf("a/%d", i%3), fmt.Sprint(i))
	} // revision 10
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := kv.Compact(ctx, 5); err != nil {
		t.Fatal(err)
	}
	direct := watchStream(t, context.Background(), connect(t, store))
	proxied := watchStream(t, context.Background(), connect(t, f.addr))
	// A watcher of the same range in another session, so that there is a group already.
	other := watchStream(t, context.Background(), connect(t, f.addr))
	other.create(prefix)
	other.next()

	// expect compares the next n answers of both, by id since the store does not promise an order among watchers.
	expect := func(what string, n int) {
		t.Helper()
		var got [2][]string
		for i, s := range []*stream{direct, proxied} {
			for range n {
				r := s.next()
				got[i] = append(got[i], fmt.Sprintf("%2d %v", r.WatchId, prototext.Format(protoadapt.MessageV2Of(r))))
			}
			slices.Sort(got[i])
		}
		if !slices.Equal(got[0], got[1]) {
			t.Fatalf("%s:\ndirectly %q\nthrough the proxy %q", what, got[0], got[1])
		}
	}
	both := func(do func(*stream)) { do(direct); do(proxied) }
	create := func(r *pb.WatchCreateRequest) { both(func(s *stream) { s.create(r) }) }

	create(prefix)
	expect("created", 1)
	create(&pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("a")})
	expect("an empty range", 1)
	create(&pb.WatchCreateRequest{Key: []byte("a/"), StartRevision: -1})
	expect("a negative revision", 1)
	create(&pb.WatchCreateRequest{Key: []byte("a/"), RangeEnd: []byte("a0"), StartRevision: 2})
	expect("a compacted revision", 2)
	create(&pb.WatchCreateRequest{Key: []byte("a/"), RangeEnd: []byte("a0"), StartRevision: 5, WatchId: 7, PrevKv: true})
	expect("all since the compaction, with previous values", 2)
	create(&pb.WatchCreateRequest{Key: []byte("a/"), WatchId: 7})
	expect("an id that is taken", 1)
	create(&pb.WatchCreateRequest{Key: []byte("a/1"), StartRevision: 13})
	expect("a future revision", 1)
	create(&pb.WatchCreateRequest{Key: []byte("a/1"), Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT}})
	expect("no puts", 1)
	create(&pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	expect("all keys", 1)
	both((*stream).progress) // which is not answered: a watcher starts in the future
	put(t, kv, "a/1", "11")
	expect("a put at 11: watchers 0, 7 and of all", 3)
	if _, err := kv.Txn(ctx).Then(clientv3.OpDelete("a/1"), clientv3.OpPut("a/2", "12"), clientv3.OpPut("c", "12")).Commit(); err != nil {
		t.Fatal(err)
	}
	expect("several keys at 12: watchers 0, 7, without puts, and of all", 4)
	put(t, kv, "a/1", "13")
	expect("a put at 13: also the watcher from the future", 4)
	both((*stream).progress)
	expect("progress", 1)
	both(func(s *stream) { s.cancelWatch(7); s.cancelWatch(99); s.cancelWatch(7) })
	expect("cancelled", 1)
	create(&pb.WatchCreateRequest{Key: []byte("a/"), RangeEnd: []byte("a0"), WatchId: 7, StartRevision: 11})
	expect("the id again, from the log", 2)
}

// TestNamespace: clients see their keys without the prefix that the store knows them by.
func TestNamespace(t *testing.T) {
	store := startStore(t, nil)
	f := startFront(t, fan.Config{Namespace: []byte("ns/")}, store)
	kv := client(t, store)
	s := watchStream(t, context.Background(), connect(t, f.addr))
	s.create(&pb.WatchCreateRequest{Key: []byte("a"), PrevKv: true})
	s.create(&pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("c")})
	s.create(&pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	for range 3 {
		s.next()
	}
	want := func(rev int64, ids ...int64) {
		t.Helper()
		var got []int64
		for range ids {
			r := s.next()
			for _, e := range r.Events {
				if string(e.Kv.Key) != "a" && string(e.Kv.Key) != "z" || e.PrevKv != nil && string(e.PrevKv.Key) != "a" || e.Kv.ModRevision != rev {
					t.Fatalf("%v", r)
				}
			}
			got = append(got, r.WatchId)
		}
		if slices.Sort(got); !slices.Equal(got, ids) {
			t.Fatalf("events for %v instead of %v", got, ids)
		}
	}
	put(t, kv, "a", "outside")
	put(t, kv, "ns0", "outside")
	want(put(t, kv, "ns/a", "1"), 0, 1, 2)
	want(put(t, kv, "ns/a", "2"), 0, 1, 2)
	want(put(t, kv, "ns/z", "3"), 2)
}
