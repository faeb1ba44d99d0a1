package proxy_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"quorate.dev/quorate/proxy"
	"quorate.dev/quorate/rpc"
)

// spaced is a store with a client of its own and one behind a proxy with a namespace.
func spaced(t *testing.T, prefix string) (direct, through *clientv3.Client, raw *caller) {
	s := store(t, nil)
	p := start(t, s.ClientURLs(), func(c *proxy.Config) { c.Namespace = prefix })
	return client(t, s.ClientURLs()[0], nil), client(t, p.Address(), nil), dial(t, p.Address(), nil)
}

func keysOf(t *testing.T, c *clientv3.Client, key string, opts ...clientv3.OpOption) []string {
	t.Helper()
	got, err := c.Get(within(t), key, opts...)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, kv := range got.Kvs {
		keys = append(keys, string(kv.Key))
	}
	if int(got.Count) != len(keys) {
		t.Errorf("%d keys, count %d", len(keys), got.Count)
	}
	return keys
}

func wantKeys(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// TestNamespace: keys get the prefix wherever a client names them and lose it wherever it is shown them; nothing outside can be
// read, changed or watched.
func TestNamespace(t *testing.T) {
	direct, c, _ := spaced(t, "ns/")
	ctx := within(t)
	for _, outside := range []string{"a", "ns", "ns.", "ns0", "z"} {
		if _, err := direct.Put(ctx, outside, "outside"); err != nil {
			t.Fatal(err)
		}
	}
	events := c.Watch(ctx, "", clientv3.WithFromKey(), clientv3.WithPrevKV())
	for _, k := range []string{"a", "b", "b1", "c"} {
		if _, err := c.Put(ctx, k, "v-"+k); err != nil {
			t.Fatal(err)
		}
	}
	all := []string{"ns/a", "ns/b", "ns/b1", "ns/c"}
	wantKeys(t, "in the store", keysOf(t, direct, "ns/", clientv3.WithPrefix()), all...)
	wantKeys(t, "all", keysOf(t, c, "", clientv3.WithPrefix()), "a", "b", "b1", "c")
	wantKeys(t, "from a key", keysOf(t, c, "b", clientv3.WithFromKey()), "b", "b1", "c")
	wantKeys(t, "a range", keysOf(t, c, "b", clientv3.WithRange("c")), "b", "b1")
	wantKeys(t, "one key", keysOf(t, c, "b"), "b")
	if put, err := c.Put(ctx, "a", "again", clientv3.WithPrevKV()); err != nil || string(put.PrevKv.Key) != "a" {
		t.Errorf("%v %v", put, err)
	}
	if del, err := c.Delete(ctx, "", clientv3.WithFromKey(), clientv3.WithPrevKV()); err != nil || del.Deleted != 4 || string(del.PrevKvs[1].Key) != "b" {
		t.Errorf("%v %v", del, err)
	}
	wantKeys(t, "what is left", keysOf(t, direct, "", clientv3.WithFromKey()), "a", "ns", "ns.", "ns0", "z")
	for _, err := range []error{
		second(c.Put(ctx, "", "v")), second(c.Get(ctx, "")), second(c.Delete(ctx, "")),
		second(c.Txn(ctx).Then(clientv3.OpPut("", "v")).Commit()), second(c.Txn(ctx).If(clientv3.Compare(clientv3.Version(""), "=", 0)).Commit()),
	} {
		if !errors.Is(err, rpctypes.ErrEmptyKey) {
			t.Errorf("an empty key: %v", err)
		}
	}
	var seen []string
	for len(seen) < 9 {
		r := wait(t, "events", events)
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
		for _, e := range r.Events {
			if e.PrevKv != nil && !bytes.Equal(e.PrevKv.Key, e.Kv.Key) {
				t.Errorf("event of %q with the previous value of %q", e.Kv.Key, e.PrevKv.Key)
			}
			seen = append(seen, string(e.Kv.Key))
		}
	}
	wantKeys(t, "events", seen, "a", "b", "b1", "c", "a", "a", "b", "b1", "c")
}

func second[T any](_ T, err error) error { return err }

// TestNamespaceTxn: the keys of transactions within transactions are the namespace's too.
func TestNamespaceTxn(t *testing.T) {
	direct, c, _ := spaced(t, "\xff")
	ctx := within(t)
	if _, err := direct.Put(ctx, "a", "outside"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, "0", "before"); err != nil {
		t.Fatal(err)
	}
	inner := clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision("a"), "=", 0)},
		[]clientv3.Op{clientv3.OpPut("a", "1"), clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut("b", "2"), clientv3.OpGet("a", clientv3.WithFromKey())}, nil)},
		[]clientv3.Op{clientv3.OpPut("wrong", "")})
	txn, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Version("a").WithRange("\x00"), "=", 0)).Then(inner, clientv3.OpDelete("0", clientv3.WithPrevKV())).Commit()
	if err != nil || !txn.Succeeded {
		t.Fatalf("%v %v", txn, err)
	}
	read := txn.Responses[0].GetResponseTxn().Responses[1].GetResponseTxn().Responses[1].GetResponseRange()
	if len(read.Kvs) != 2 || string(read.Kvs[0].Key) != "a" || string(read.Kvs[1].Key) != "b" {
		t.Errorf("read in the transaction: %v", read)
	}
	if del := txn.Responses[1].GetResponseDeleteRange(); len(del.PrevKvs) != 1 || string(del.PrevKvs[0].Key) != "0" {
		t.Errorf("deleted in the transaction: %v", del)
	}
	wantKeys(t, "in the store", keysOf(t, direct, "", clientv3.WithFromKey()), "a", "\xffa", "\xffb")
}

// TestNamespaceLease: a lease shows the namespace's keys only.
func TestNamespaceLease(t *testing.T) {
	direct, c, _ := spaced(t, "ns/")
	ctx := within(t)
	lease, err := c.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []struct {
		c   *clientv3.Client
		key string
	}{{direct, "outside"}, {direct, "n"}, {c, "a"}} {
		if _, err := w.c.Put(ctx, w.key, "", clientv3.WithLease(lease.ID)); err != nil {
			t.Fatal(err)
		}
	}
	ttl, err := c.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
	if err != nil || len(ttl.Keys) != 1 || string(ttl.Keys[0]) != "a" {
		t.Errorf("%v %v", ttl, err)
	}
}

// TestNamespaceRangeStream: etcd's namespaces do not have it.
func TestNamespaceRangeStream(t *testing.T) {
	_, c, _ := spaced(t, "ns/")
	ctx := within(t)
	for i := range 10 {
		if _, err := c.Put(ctx, fmt.Sprint("k", i), "v"); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := pb.NewKVClient(c.ActiveConnection()).RangeStream(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range r.RangeResponse.Kvs {
			keys = append(keys, string(kv.Key))
		}
	}
	wantKeys(t, "streamed", keys, "k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8", "k9")
}

func bytesField(num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), v)
}

func fieldOf(t *testing.T, msg []byte, num protowire.Number) []byte {
	t.Helper()
	for len(msg) > 0 {
		n, kind, tag := protowire.ConsumeTag(msg)
		size := protowire.ConsumeFieldValue(n, kind, msg[max(tag, 0):])
		if tag < 0 || size < 0 {
			t.Fatalf("malformed message %x", msg)
		}
		if n == num && kind == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(msg[tag:])
			return v
		}
		msg = msg[tag+size:]
	}
	return nil
}

// TestNamespaceLock: locks and elections lie in the namespace as well; through etcd's proxy they lie outside.
func TestNamespaceLock(t *testing.T) {
	direct, c, raw := spaced(t, "ns/")
	ctx := within(t)
	lease, err := c.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	leaseField := protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), uint64(lease.ID))
	call := func(method string, msg ...[]byte) []byte {
		t.Helper()
		body, err := raw.call(method, bytes.Join(msg, nil))
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		return body
	}
	owner := fmt.Sprintf("/%x", lease.ID)
	key := fieldOf(t, call("/v3lockpb.Lock/Lock", bytesField(1, []byte("lock")), leaseField), 2)
	if string(key) != "lock"+owner {
		t.Errorf("the lock's key is %q", key)
	}
	wantKeys(t, "locked", keysOf(t, direct, "", clientv3.WithFromKey()), "ns/lock"+owner)
	call("/v3lockpb.Lock/Unlock", bytesField(1, key))
	wantKeys(t, "unlocked", keysOf(t, direct, "", clientv3.WithFromKey()))

	leader := fieldOf(t, call("/v3electionpb.Election/Campaign", bytesField(1, []byte("e")), leaseField, bytesField(3, []byte("me"))), 2)
	if string(fieldOf(t, leader, 1)) != "e" || string(fieldOf(t, leader, 2)) != "e"+owner {
		t.Errorf("the leader is %q", leader)
	}
	wantKeys(t, "elected", keysOf(t, direct, "", clientv3.WithFromKey()), "ns/e"+owner)
	call("/v3electionpb.Election/Proclaim", bytesField(1, leader), bytesField(2, []byte("still me")))
	kv := fieldOf(t, call("/v3electionpb.Election/Leader", bytesField(1, []byte("e"))), 2)
	if string(fieldOf(t, kv, 1)) != "e"+owner || string(fieldOf(t, kv, 5)) != "still me" {
		t.Errorf("the leader's key is %q", kv)
	}
	observed := openWith(t, raw, "/v3electionpb.Election/Observe", bytesField(1, []byte("e")))
	kv = fieldOf(t, wait(t, "the leader", observed.messages), 2)
	if string(fieldOf(t, kv, 1)) != "e"+owner {
		t.Errorf("the observed key is %q", kv)
	}
	call("/v3electionpb.Election/Resign", bytesField(1, leader))
	wantKeys(t, "resigned", keysOf(t, direct, "", clientv3.WithFromKey()))
	_, err = raw.call("/etcdserverpb.KV/Put", []byte{0x0a, 0x7f})
	wantStatus(t, err, rpc.Internal, "the message cannot be decoded as what its method takes")
	// An empty key that is written out is none either.
	_, err = raw.call("/etcdserverpb.KV/Put", []byte{0x0a, 0x00})
	wantStatus(t, err, rpc.InvalidArgument, "etcdserver: key is not provided")
	wantKeys(t, "put under no key", keysOf(t, direct, "", clientv3.WithFromKey()))
}
