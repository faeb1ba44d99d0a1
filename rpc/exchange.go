package rpc

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// role is what an exchange is for: a Call, a Stream or a web request. All methods but ready are called with conn.mu held.
type role interface {
	// take gets the payload of a DATA frame, valid until the reader reads on, or the end of the request, or both. It
	// reports whether the reader must call ready once the lock is released.
	take(p []byte, end bool) bool
	// ready runs on the reader without locks.
	ready()
	// unread reports whether received bytes wait for the handler, so that the peer should not send more.
	unread() bool
	// ended tells that the exchange is over, so that waiters wake up.
	ended()
}

// exchange is one HTTP/2 stream: a request and its answer. conn.mu protects the fields that change.
type exchange struct {
	c     *conn
	id    uint32
	req   *request
	role  role
	start time.Time // zero without an observer

	deadline time.Time // zero for none; immutable
	in       inflow
	out      outflow
	ctx      context.Context // nil until asked for
	cancel   context.CancelFunc
	end      *Status // how it ended; set once, when over is set
	over     bool    // removed from the connection: nothing more is sent or received
	running  bool    // a handler has it, or will have it for certain
	answered bool    // the handler is done with it, or never gets it
	witness  Witness // nil for nobody
}

// Witness hears what becomes of one call or stream. Its methods are called with the connection locked, one at a time, and must
// not block or use the call.
type Witness interface {
	// Replied gets the message of a call's answer, which is valid until Replied returns. An answer by ReplyStream has none.
	Replied(m Message)
	// Ended is called once and last. st is nil for OK; took is the time since the request's headers came.
	Ended(st *Status, took time.Duration)
}

// StreamWitness is a Witness that also hears of answers by ReplyStream.
type StreamWitness interface {
	Witness
	// Streaming gets the size of the message in bytes before any of it is made.
	Streaming(size int)
}

// inflow is the receiving half.
type inflow struct {
	window   int   // bytes the peer may still send
	held     int   // bytes of conn.held that belong to this exchange
	received int64 // payload bytes, to compare with content-length
	ended    bool  // END_STREAM arrived
	opened   int64 // when the HEADERS came, unix nanoseconds
	moved    int64 // when the request last made progress, unix nanoseconds; only kept while it is incomplete
}

// outflow is the sending half.
type outflow struct {
	window int64  // bytes the peer accepts; may be negative after a settings change
	box    outbox // bytes to be sent as DATA
	source
	header  []pair
	trailer []pair
	after   *exchange // the next in conn.w.queue
	progress

	begun   bool // response HEADERS are written
	queued  bool // in conn.w.queue
	closing bool // the answer is complete: after pend and next comes the end
	partial bool // some but not all of the pending message is framed
}

// source produces the rest of a payload: see Call.ReplyStream.
type source struct {
	next    func(dst []byte) ([]byte, bool)
	piece   []byte // the memory of its pieces
	left    int    // bytes next still owes
	idle    bool   // next has nothing yet: see Call.Resume
	resumed bool   // Resume was called since next was
}

// progress shows whether DATA leaves.
type progress struct {
	frames uint32 // so far
	seen   uint32 // frames at the last look for exchanges that do not move
	moved  int64  // when that last had grown, unix nanoseconds
}

// hasData reports whether DATA has to be sent.
func (o *outflow) hasData() bool { return o.box.size > 0 || o.next != nil }

// Method returns the full method name, for example "/etcdserverpb.KV/Put".
func (x *exchange) Method() string { return x.req.path }

// Metadata returns the first value of the lower-case key, "" when there is none. Values of -bin keys are decoded.
func (x *exchange) Metadata(key string) string {
	for i := range x.req.meta {
		if x.req.meta[i].Name == key {
			return x.req.meta[i].Value
		}
	}
	return ""
}

// MetadataValues returns all values of the lower-case key in order of arrival. Values of -bin keys are decoded.
func (x *exchange) MetadataValues(key string) []string {
	var values []string
	for _, f := range x.req.meta {
		if f.Name == key {
			values = append(values, f.Value)
		}
	}
	return values
}

// EachMetadata calls f with every field that Metadata sees, in order of arrival. Values of -bin keys are decoded.
func (x *exchange) EachMetadata(f func(key, value string)) {
	for i := range x.req.meta {
		f(x.req.meta[i].Name, x.req.meta[i].Value)
	}
}

// Derived returns what derive makes of the method and the metadata. Calls of a connection that came with equal headers share
// it, as long as the connection remembers them, so that work which depends on nothing else is not done for every call. All
// handlers of a server must derive the same thing.
func (x *exchange) Derived(derive func() any) any {
	if v := x.req.derived.Load(); v != nil {
		return *v
	}
	v := derive()
	x.req.derived.Store(&v)
	return v
}

// SetWitness says who hears what becomes of the exchange from now on. When it is over already, w hears that at once.
func (x *exchange) SetWitness(w Witness) {
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	if x.start.IsZero() {
		x.start = time.Now()
	}
	if x.over {
		w.Ended(x.end, time.Since(x.start))
		return
	}
	x.witness = w
}

// Witness is who was set, nil for nobody or when the exchange is over.
func (x *exchange) Witness() Witness {
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	return x.witness
}

// Passing is a net.Conn over which another part of this process passes on requests of its own clients.
type Passing interface {
	// Client returns the address of the client whose request has this metadata.
	Client(metadata func(key string) string) net.Addr
}

// Peer returns the client's address.
func (x *exchange) Peer() net.Addr {
	if p, ok := x.c.nc.(Passing); ok {
		return p.Client(x.Metadata)
	}
	return x.c.nc.RemoteAddr()
}

// TLS returns the state of the connection's handshake, nil without TLS.
func (x *exchange) TLS() *tls.ConnectionState { return x.c.tls }

// CertificateCN returns the common name of the client's certificate, for authentication. It is "" without TLS, without a
// certificate that was verified, and unless Config.CertificateNames is set.
func (x *exchange) CertificateCN() string { return x.c.cn }

// Deadline returns when the client gives up; false when it did not say.
func (x *exchange) Deadline() (time.Time, bool) { return x.deadline, !x.deadline.IsZero() }

// Context is made on the first call. It has the call's deadline and is cancelled when the call is answered or reset,
// or its connection is lost.
func (x *exchange) Context() context.Context {
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	if x.ctx == nil {
		if x.deadline.IsZero() {
			x.ctx, x.cancel = context.WithCancel(context.Background())
		} else {
			x.ctx, x.cancel = context.WithDeadline(context.Background(), x.deadline)
		}
		if x.over || x.answered {
			x.cancel()
		}
	}
	return x.ctx
}

// SetHeader adds a header to the answer; it has no effect once the first message is sent. The key is lower case, values
// of -bin keys may be any bytes. Names that HTTP/2 or gRPC reserve, and values that are not printable, are ignored.
func (x *exchange) SetHeader(key, value string) { x.set(&x.out.header, key, value) }

// SetTrailer adds a trailer to the answer; the same rules as for SetHeader.
func (x *exchange) SetTrailer(key, value string) { x.set(&x.out.trailer, key, value) }

func (x *exchange) set(to *[]pair, key, value string) {
	if reserved(key) || !strings.HasSuffix(key, "-bin") && !printable(value) {
		return
	}
	x.c.mu.Lock()
	*to = append(*to, pair{key, value})
	x.c.mu.Unlock()
}

func printable(v string) bool {
	for i := 0; i < len(v); i++ {
		if v[i] < ' ' || v[i] > '~' {
			return false
		}
	}
	return true
}

// finish ends the answer with st after what is queued. mu held.
func (x *exchange) finish(st *Status) {
	if x.over || x.out.closing {
		return
	}
	x.out.closing, x.end = true, st
	if !x.out.hasData() {
		x.writeEnd()
	}
}

// writeEnd writes the trailers and ends the exchange. mu held.
func (x *exchange) writeEnd() {
	if web, ok := x.role.(*web); ok {
		web.writeEnd()
	} else {
		x.c.w.appendTrailers(x)
	}
	if !x.in.ended {
		// The rest of the request is of no use, and saying so is no error (RFC 9113 section 8.1).
		x.c.w.appendReset(x.id, http2.ErrCodeNo)
		x.c.remember(x.id, true)
	}
	x.c.remove(x, x.end)
}

// abort ends the answer at once, dropping what is queued: with trailers where the peer can still understand them, else
// with a reset. mu held.
func (x *exchange) abort(st *Status) {
	if x.over {
		return
	}
	_, isWeb := x.role.(*web) // its headers belong to the handler's goroutine
	cut := isWeb || x.out.partial || x.out.closing && x.out.hasData()
	x.dropQueue()
	x.out.closing, x.end = true, st
	if !cut {
		x.writeEnd()
		return
	}
	x.reset(http2.ErrCodeCancel, st)
}

// reset sends RST_STREAM and forgets the exchange. mu held.
func (x *exchange) reset(code http2.ErrCode, st *Status) {
	if x.over {
		return
	}
	x.c.w.appendReset(x.id, code)
	x.c.remember(x.id, true)
	x.c.remove(x, st)
}

// dropQueue forgets what waits to be sent. mu held.
func (x *exchange) dropQueue() {
	x.c.w.waiting -= x.out.box.size
	x.out.box.clear()
	x.out.source = source{}
}

// done marks that the handler needs the exchange no more. mu held.
func (x *exchange) done() {
	if x.answered {
		return
	}
	x.answered = true
	if x.over && x.running {
		x.c.abandoned--
	}
	if x.cancel != nil {
		x.cancel()
	}
}
