package node

import (
	"sync"

	"go.etcd.io/raft/v3/raftpb"
)

// event is one thing for the loop. Fields are handled in their order.
type event struct {
	durable  []*raftpb.Entry    // entries the log now holds durably
	appended int                // storage-append messages that are durable
	change   raftpb.ConfChangeI // a member change that was applied
	messages []*raftpb.Message  // to step, or to send when they are for others
	remote   *raftpb.Message    // a message of a peer
	call     func(l *loop)      // anything else
	drop     func()             // instead of call, when the loop has ended
}

// inbox brings events to the loop, in order. It is bounded by what causes them: each event answers one message of the loop,
// except calls, which are rare, and messages of peers, which have a bound of their own.
type inbox struct {
	mu     sync.Mutex
	events []event
	spare  []event // the last batch's memory
	remote int     // messages of peers among events
	closed bool
	wake   chan struct{}
}

// put adds an event, wakes the loop and reports true, or reports false when the loop has ended.
func (b *inbox) put(e event) bool {
	ok := b.leave(e)
	b.ring()
	return ok
}

// leave is put for an event that can wait for the next turn.
func (b *inbox) leave(e event) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.events = append(b.events, e)
	return true
}

// remoteMessages is how many messages of peers may wait for the loop. Raft repeats what is dropped.
const remoteMessages = 4096

// receive adds a message of a peer, if there is room.
func (b *inbox) receive(m *raftpb.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.remote >= remoteMessages {
		return
	}
	b.remote++
	b.events = append(b.events, event{remote: m})
	b.ring()
}

// close refuses further events and drops those that wait.
func (b *inbox) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	for _, e := range b.take() {
		if e.drop != nil {
			e.drop()
		}
	}
}

// ring wakes the loop.
func (b *inbox) ring() { ring(b.wake) }

// take returns all events; they are valid until the next call.
func (b *inbox) take() []event {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.spare)
	b.events, b.spare, b.remote = b.spare[:0], b.events, 0
	return b.spare
}

// ring puts a token into a channel that holds one.
func ring(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
