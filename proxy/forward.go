package proxy

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/proxy/upstream"
	"quorate.dev/quorate/rpc"
)

// The bounds of passing calls on.
const (
	triesMax    = 4               // members that are asked in turn
	waitDefault = 5 * time.Second // Store.Wait
	waitingMax  = 1 << 16         // calls that wait so
	sharedBytes = 4 << 10         // reads whose requests are larger are not shared
)

// The ends that the proxy itself gives.
var (
	// etcd's clients make any call again that ends with this text, because it says that nothing was sent.
	statusNone     = &rpc.Status{Code: rpc.Unavailable, Message: "there is no connection available"}
	statusLost     = &rpc.Status{Code: rpc.Unavailable, Message: "the proxy's connection to the store was lost"}
	statusStopping = &rpc.Status{Code: rpc.Unavailable, Message: "the proxy is stopping"}
)

func tooLargeToSend(size, limit int) *rpc.Status {
	return &rpc.Status{Code: rpc.ResourceExhausted, Message: fmt.Sprintf("trying to send message larger than max (%d vs. %d)", size, limit)}
}

func tooLargeToReceive(size, limit int) *rpc.Status {
	return &rpc.Status{Code: rpc.ResourceExhausted, Message: fmt.Sprintf("grpc: received message larger than max (%d vs. %d)", size, limit)}
}

func errorField(err error) zap.Field { return zap.Error(err) }

// Limits bound messages, in bytes.
type Limits struct {
	Send int // to the store
	Recv int // from the store
}

// forwarder passes calls on to the store and answers back.
type forwarder struct {
	ctx     context.Context
	pool    *upstream.Pool
	clock   clock.Clock
	log     *zap.Logger
	limits  Limits
	wait    time.Duration // for a connection
	space   *namespace    // nil for none
	order   ordering
	reads   coalescer
	counts  forwardCounts
	waiting atomic.Int64
	work    sync.WaitGroup
}

// forwardCounts are for the metrics.
type forwardCounts struct {
	calls, retries, reordered atomic.Uint64
	shared, asked             atomic.Uint64 // reads answered with another's call, and calls made for reads
}

// handler is how the unary method is passed on.
func (f *forwarder) handler(method string) rpc.UnaryHandler {
	there, back := f.space.rewriting(method)
	isRange := method == methodRange
	return func(c *rpc.Call, msg []byte) {
		o := originOf(c)
		if o.bad != nil {
			c.Fail(o.bad)
			return
		}
		if there != nil {
			var bad *rpc.Status
			if msg, bad = there(msg); bad != nil {
				c.Fail(bad)
				return
			}
		}
		if len(msg) > f.limits.Send {
			c.Fail(tooLargeToSend(len(msg), f.limits.Send))
			return
		}
		f.counts.calls.Add(1)
		if isRange && len(msg) <= sharedBytes {
			f.reads.read(c, o, msg, back)
			return
		}
		f.relay(c, o, msg, back)
	}
}

// relay makes one call for one client.
func (f *forwarder) relay(c *rpc.Call, o *origin, msg []byte, back rewriter) {
	r := &relay{call: c, back: back}
	r.errand = errand{f: f, header: o.header, msg: append([]byte(nil), msg...), to: r}
	r.errand.deadline, _ = c.Deadline()
	if f.order.on && c.Method() == methodRange && isSerializable(msg) {
		r.errand.raise(f.order.floor())
	}
	c.SetWitness(r)
	r.errand.start()
}

// relay is a call of one client.
type relay struct {
	errand errand
	call   *rpc.Call
	back   rewriter
	done   atomic.Bool // the store's answer is there
}

// answered implements receiver.
func (r *relay) answered(body []byte, bad *rpc.Status) {
	r.done.Store(true)
	reply(r.call, body, bad, r.errand.metadata, r.back)
}

// reply answers a client.
func reply(c *rpc.Call, body []byte, bad *rpc.Status, metadata []lean.Field, back rewriter) {
	if bad == nil && back != nil {
		body, bad = back(body)
	}
	if bad != nil {
		c.Fail(bad)
		return
	}
	for _, m := range metadata {
		c.SetHeader(m.Name, m.Value)
	}
	c.Reply(rpc.RawMessage(body))
}

// Replied implements rpc.Witness.
func (r *relay) Replied(rpc.Message) {}

// Ended implements rpc.Witness: a client that gave up takes its call to the store back.
func (r *relay) Ended(*rpc.Status, time.Duration) {
	if !r.done.Load() {
		r.errand.cancel()
	}
}
