package peer

import (
	"sync"

	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/limits"
)

// outbox is the bounded queue before one stream to one member. It drops everything while nobody serves the stream.
type outbox struct {
	mu       sync.Mutex
	messages []*raftpb.Message
	spare    []*raftpb.Message
	bytes    int           // data of messages
	wake     chan struct{} // holds a token while there are messages
	end      chan struct{} // closed when whoever serves must stop; nil while nobody serves
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

// put adds a message and reports whether the stream is served and there is room. One message has always room.
func (o *outbox) put(m *raftpb.Message) bool {
	size := dataOf(m)
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.messages)
	if o.end == nil || n >= limits.PeerQueueMessages || n > 0 && o.bytes+size > limits.PeerQueueBytes {
		return false
	}
	if o.bytes += size; !merge(o.messages, m) {
		o.messages = append(o.messages, m)
	}
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return true
}

// take returns all messages. They are valid until the next call.
func (o *outbox) take() []*raftpb.Message {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.spare)
	o.messages, o.spare, o.bytes = o.spare[:0], o.messages, 0
	return o.spare
}

// serve begins to serve the stream. Whoever served it before must stop; what waits stays, and may have been lost on the way
// that ends. The caller must stop when end is closed.
func (o *outbox) serve() (end chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end != nil {
		close(o.end)
	}
	o.end = make(chan struct{})
	return o.end
}

// leave ends serving, unless another one serves already, and drops what waits. It reports whether nobody serves now.
func (o *outbox) leave(end chan struct{}) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end != end {
		return false
	}
	o.end = nil
	o.drop()
	return true
}

// close makes whoever serves stop.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end != nil {
		close(o.end)
		o.end = nil
	}
	o.drop()
}

func (o *outbox) drop() {
	clear(o.messages)
	o.messages, o.bytes = o.messages[:0], 0
}

// served reports whether the stream is served.
func (o *outbox) served() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.end != nil
}

func dataOf(m *raftpb.Message) int {
	n := 0
	for _, e := range m.GetEntries() {
		n += len(e.GetData())
	}
	return n
}
