package grpcapi_test

import (
	"bytes"
	"context"
	"runtime"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
)

// congested is a node that takes so many proposals and answers none until it is let go, as one whose disk stands still.
type congested struct {
	*store
	room int

	mu      sync.Mutex
	open    bool
	waiting []func()
}

func (n *congested) ProposeAs(kind command.Kind, body []byte, user string, revision uint64, w command.Waiter) {
	n.mu.Lock()
	switch {
	case n.open:
		n.mu.Unlock()
		n.store.ProposeAs(kind, body, user, revision, w)
	case len(n.waiting) < n.room:
		body = bytes.Clone(body)
		n.waiting = append(n.waiting, func() { n.store.ProposeAs(kind, body, user, revision, w) })
		n.mu.Unlock()
	default:
		n.mu.Unlock()
		w.Complete(&command.Result{Err: fault.TooManyRequests})
	}
}

// release lets everything through, from now on.
func (n *congested) release() {
	n.mu.Lock()
	n.open = true
	waiting := n.waiting
	n.waiting = nil
	n.mu.Unlock()
	for _, f := range waiting {
		f()
	}
}

// TestOverload offers thousands of calls at once to a node that has stopped: those over its bound are refused at once, by
// etcd's error, nothing is kept for them, and when the node goes on, so does everybody.
func TestOverload(t *testing.T) {
	const room, offered, rounds = 200, 1000, 10
	st := newStore(t)
	node := &congested{store: st, room: room}
	s := connect(t, st, serveNode(t, st, node, settings()))
	put := func(ctx context.Context) error {
		_, err := s.kv.Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 10_000)})
		return err
	}
	accepted := make(chan error, room)
	for range room {
		go func() { accepted <- put(t.Context()) }()
	}
	eventually(t, func() bool {
		node.mu.Lock()
		defer node.mu.Unlock()
		return len(node.waiting) == room
	}, "the node is full")
	before := liveHeap()
	for range rounds {
		refused := make(chan error, offered)
		for range offered {
			go func() { refused <- put(t.Context()) }()
		}
		for range offered {
			failsAs(t, <-refused, fault.TooManyRequests)
		}
	}
	if grown := liveHeap() - before; grown > 16<<20 {
		t.Errorf("%d refused calls left %d bytes behind", rounds*offered, grown)
	}
	// Reading goes on all the while.
	if _, err := s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k")}); err != nil {
		t.Errorf("a read beside the flood: %v", err)
	}
	node.release()
	for range room {
		if err := <-accepted; err != nil {
			t.Errorf("an accepted call: %v", err)
		}
	}
	if err := put(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// liveHeap is the heap after a collection, bytes.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
