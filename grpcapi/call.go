package grpcapi

import (
	"context"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/rpc"
)

// Metadata of clients (source: etcd v3.7 api/v3rpc/rpctypes/metadatafields.go).
const (
	metaClientVersion = "client-api-version"
	metaRequireLeader = "hasleader"
	requireLeader     = "true"

	// metaVersion is our own response header of Status, whose message has room for etcd's version only.
	metaVersion = "quorate-version"
)

// metadata is what calls and streams have in common.
type metadata interface{ Metadata(key string) string }

// admissible checks what a request's metadata asks for, and says whether the client wants to be told of a lost leader.
func (v *Services) admissible(m metadata, stream bool) (needsLeader bool, err error) {
	version := m.Metadata(metaClientVersion)
	if !utf8.ValidString(version) {
		return false, fault.InvalidClientAPIVersion
	}
	if v.Request != nil {
		v.Request(stream, version)
	}
	if m.Metadata(metaRequireLeader) != requireLeader {
		return false, nil
	}
	if v.Node.Status().Leader == 0 {
		return true, fault.NoLeader
	}
	return true, nil
}

// name remembers a service for reflection.
func (v *Services) name(service string) {
	if !slices.Contains(v.names, service) {
		v.names = append(v.names, service)
	}
}

// unary registers a handler behind a door and the metadata checks. It runs on the connection's reader and must not block.
func (v *Services) unary(s *rpc.Server, service, method string, h unaryHandler) {
	v.name(service)
	d := v.door(service, method)
	d.handle = h
	s.Unary(d.path, func(c *rpc.Call, msg []byte) {
		if v.Audit != nil {
			v.attend(c, msg, false)
		}
		if weight := v.Desk.Sample(); weight > 0 {
			v.count(c, d, msg, weight)
		}
		if d.method == 0 {
			c.Fail(statusOf(errNoRow))
			return
		}
		if d.data && v.fenced() {
			c.Fail(statusOf(fault.Corrupt))
			return
		}
		if v.learner() {
			if status := v.learnerCall(d.path, msg); status != nil {
				c.Fail(status)
				return
			}
		}
		if _, err := v.admissible(c, false); err != nil {
			c.Fail(statusOf(err))
			return
		}
		d.enter(c, msg, false)
	})
}

// stream registers a stream handler behind a door and the metadata checks. A stream that requires a leader ends with NoLeader when
// the member has seen none for too long, whatever its handler is doing.
func (v *Services) stream(s *rpc.Server, service, method string, h streamHandler) {
	v.name(service)
	d := v.door(service, method)
	s.Stream(d.path, func(st *rpc.Stream) *rpc.Status {
		if v.Audit != nil {
			v.attend(st, nil, true)
		}
		if weight := v.Desk.Sample(); weight > 0 {
			v.count(st, d, nil, weight)
		}
		if d.method == 0 {
			return statusOf(errNoRow)
		}
		if (d.data || d.path == methodSnapshot) && v.fenced() {
			return statusOf(fault.Corrupt)
		}
		if d.path != methodSnapshot && v.learner() {
			return statusOf(fault.NotSupportedForLearner)
		}
		needsLeader, err := v.admissible(st, true)
		if err != nil {
			return statusOf(err)
		}
		if !needsLeader {
			return d.enterStream(st, h)
		}
		lost, forget := v.watch.add()
		defer forget()
		ended := make(chan *rpc.Status, 1)
		go func() { ended <- d.enterStream(st, h) }()
		select {
		case status := <-ended:
			return status
		case <-lost:
			return statusOf(fault.NoLeader)
		}
	})
}

// cold adapts a handler over generated messages: it decodes into req, and replies with what h returns. h must not block.
func cold[Req any, P interface {
	*Req
	proto.Message
}](h func(c *rpc.Call, who asker, req P)) unaryHandler {
	return func(c *rpc.Call, who asker, msg []byte) {
		req := P(new(Req))
		if err := proto.Unmarshal(msg, req); err != nil {
			c.Fail(malformed(err))
			return
		}
		h(c, who, req)
	}
}

// replyProto answers with a generated message.
func replyProto(c *rpc.Call, m proto.Message) {
	b, err := proto.Marshal(m)
	if err != nil {
		c.Fail(statusOf(err))
		return
	}
	c.Reply(rpc.RawMessage(b))
}

// answer is a waiter for the commands that are rare: ok runs when the command took effect.
type answer struct {
	call *rpc.Call
	ok   func(*command.Result)
}

func (w *answer) Complete(r *command.Result) {
	if r.Err != nil {
		w.call.Fail(statusOf(r.Err))
		return
	}
	w.ok(r)
}

// leaderLostElections is for how many election timeouts no leader may be seen before streams that require one end.
const leaderLostElections = 3

// leaderWatch tells streams when the leader is gone for too long. Its goroutine exists only while there are such streams.
type leaderWatch struct {
	node     Node
	election time.Duration

	mu      sync.Mutex
	streams map[chan struct{}]struct{}
	stop    context.CancelFunc // set while the goroutine runs
	closed  bool
}

func (l *leaderWatch) init(n Node, election time.Duration) {
	l.node, l.election = n, election
	l.streams = map[chan struct{}]struct{}{}
}

// add returns a channel that is closed when the leader is lost, and the function that ends the interest.
func (l *leaderWatch) add() (lost <-chan struct{}, forget func()) {
	ch := make(chan struct{})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams[ch] = struct{}{}
	if l.stop == nil && !l.closed {
		ctx, stop := context.WithCancel(context.Background())
		l.stop = stop
		go l.run(ctx)
	}
	return ch, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.streams, ch)
		if len(l.streams) == 0 && l.stop != nil {
			l.stop()
			l.stop = nil
		}
	}
}

func (l *leaderWatch) run(ctx context.Context) {
	tick := time.NewTicker(l.election)
	defer tick.Stop()
	without := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if l.node.Status().Leader != 0 {
			without = 0
			continue
		}
		if without++; without >= leaderLostElections {
			l.loseAll()
		}
	}
}

func (l *leaderWatch) loseAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for ch := range l.streams {
		close(ch)
		delete(l.streams, ch)
	}
}

func (l *leaderWatch) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.stop != nil {
		l.stop()
		l.stop = nil
	}
}
