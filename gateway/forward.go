package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// request is one HTTP request on its way.
type request struct {
	g       *Gateway
	call    *call
	w       http.ResponseWriter
	http    *http.Request
	body    *body
	in, out runtime.Marshaler
	refused atomic.Pointer[error] // why a message of a stream was not passed on
}

func (g *Gateway) request(c *call, w http.ResponseWriter, r *http.Request) *request {
	q := &request{g: g, call: c, w: w, http: r, body: &body{from: r.Body, left: g.bound, bound: g.bound}}
	q.in, q.out = runtime.MarshalerForRequest(g.mux, r)
	return q
}

// context is the context of the call that a request becomes: it ends with the client and with the gateway, and carries what the
// client's headers say.
func (q *request) context() (context.Context, context.CancelFunc, error) {
	ctx, cancel := context.WithCancel(q.http.Context())
	stop := context.AfterFunc(q.g.ctx, cancel)
	release := func() { stop(); cancel() }
	ctx, err := runtime.AnnotateContext(ctx, q.g.mux, q.http, q.call.full, runtime.WithHTTPPathPattern(q.call.path))
	if err != nil {
		return q.http.Context(), release, err
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	md = md.Copy()
	if md == nil {
		md = metadata.MD{}
	}
	md.Set(peerKey, q.http.RemoteAddr) // in place of one that the client made up
	return metadata.NewOutgoingContext(ctx, md), release, nil
}

func (q *request) fail(ctx context.Context, err error) {
	runtime.HTTPError(ctx, q.g.mux, q.out, q.w, q.http, err)
}

// unary makes a call with one request and one answer.
func (g *Gateway) unary(c *call, w http.ResponseWriter, r *http.Request) {
	q := g.request(c, w, r)
	ctx, cancel, err := q.context()
	defer cancel()
	if err != nil {
		q.fail(ctx, err)
		return
	}
	req, err := q.only()
	if err != nil {
		q.fail(runtime.NewServerMetadataContext(ctx, runtime.ServerMetadata{}), err)
		return
	}
	conn, done, err := g.pipes.take()
	if err != nil {
		q.fail(ctx, err)
		return
	}
	var md runtime.ServerMetadata
	resp := c.out.New().Interface()
	err = conn.Invoke(ctx, c.full, req, resp, grpc.Header(&md.HeaderMD), grpc.Trailer(&md.TrailerMD))
	done()
	ctx = runtime.NewServerMetadataContext(ctx, md)
	if err != nil {
		q.fail(ctx, err)
		return
	}
	runtime.ForwardResponseMessage(ctx, g.mux, q.out, w, r, resp)
}

// only decodes the body, which is one request. None at all is the request without fields.
func (q *request) only() (proto.Message, error) {
	m := q.call.in.New().Interface()
	if err := q.in.NewDecoder(q.body).Decode(m); err != nil && !errors.Is(err, io.EOF) {
		return nil, q.malformed("", err)
	}
	// That a client has gone away is only seen once its whole request was read.
	_, _ = io.Copy(io.Discard, q.body)
	return m, nil
}

// malformed is the error of a body that cannot be decoded.
func (q *request) malformed(doing string, err error) error {
	if errors.Is(err, errBody) {
		return status.Errorf(codes.ResourceExhausted, "%v: %d bytes; send less at a time, or raise --max-request-bytes of the server", err, q.body.bound)
	}
	return status.Error(codes.InvalidArgument, doing+steady(err))
}

// stream makes a call with any number of answers, and with any number of requests where the method takes them.
func (g *Gateway) stream(c *call, w http.ResponseWriter, r *http.Request) {
	q := g.request(c, w, r)
	ctx, cancel, err := q.context()
	defer cancel()
	if err != nil {
		q.fail(ctx, err)
		return
	}
	conn, done, err := g.pipes.take()
	if err != nil {
		q.fail(ctx, err)
		return
	}
	defer done()
	defer cancel() // the call is over before its connection may be used for another
	st, end, err := q.open(ctx, cancel, conn)
	if err == nil {
		defer end()
		var md runtime.ServerMetadata
		if md.HeaderMD, err = st.Header(); err == nil && q.refused.Load() == nil {
			ctx = runtime.NewServerMetadataContext(ctx, md)
			runtime.ForwardResponseStream(ctx, g.mux, q.out, w, r, func() (proto.Message, error) {
				m := c.out.New().Interface()
				return m, q.reason(st.RecvMsg(m))
			})
			return
		}
	}
	q.fail(runtime.NewServerMetadataContext(ctx, runtime.ServerMetadata{}), q.reason(err))
}

// reason is why a stream ended with err, nil for not yet.
func (q *request) reason(err error) error {
	if refused := q.refused.Load(); refused != nil {
		return *refused
	}
	return err
}

// open begins a stream and has its requests sent. end is to be called once nothing more is wanted.
func (q *request) open(ctx context.Context, cancel func(), conn *grpc.ClientConn) (st grpc.ClientStream, end func(), err error) {
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: q.call.clientStream}
	if !q.call.clientStream {
		m, err := q.only()
		if err != nil {
			return nil, nil, err
		}
		if st, err = conn.NewStream(ctx, desc, q.call.full); err != nil {
			return nil, nil, err
		}
		if err := st.SendMsg(m); err != nil && !errors.Is(err, io.EOF) { // at its end the answer says why
			return nil, nil, err
		}
		return st, func() {}, st.CloseSend()
	}
	if st, err = conn.NewStream(ctx, desc, q.call.full); err != nil {
		return nil, nil, err
	}
	// Else net/http would throw away what has not come when the answer begins. HTTP/2 and WebSockets need not be told.
	if http.NewResponseController(q.w).EnableFullDuplex() == nil && q.http.ProtoMajor == 1 {
		// An answer may end before its request does. What is left of that must not be taken for the next request; and net/http,
		// which would read it after the handler, panics when it comes to its end there (conn.serve, go 1.26).
		q.w.Header().Set("Connection", "close")
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		q.send(st, cancel)
	}()
	return st, func() {
		select {
		case <-sent:
		default: // the client has not finished its request, and net/http would wait for that
			cancel()
			if http.NewResponseController(q.w).SetReadDeadline(time.Unix(1, 0)) == nil {
				<-sent // net/http reads from the connection next, and nobody else may then
			}
		}
	}, nil
}

// send passes on requests until there are no more. One that cannot be decoded ends the stream: etcd leaves it open then, and the
// client to wait for an answer that does not come.
func (q *request) send(st grpc.ClientStream, cancel func()) {
	dec := q.in.NewDecoder(q.body)
	for {
		q.body.again()
		m := q.call.in.New().Interface()
		switch err := dec.Decode(m); {
		case errors.Is(err, io.EOF), errors.Is(err, http.ErrBodyReadAfterClose): // or the answer has begun, and net/http wants no more
			_ = st.CloseSend() // it fails when the stream has ended, which the receiver is told
			return
		case err != nil:
			err = q.malformed("Failed to decode request: ", err)
			q.refused.Store(&err)
			cancel()
			return
		}
		if st.SendMsg(m) != nil {
			return
		}
	}
}

// errBody refuses a body.
var errBody = errors.New("the JSON text of a request is too large")

// body is the body of a request, of which only so much is read for each message.
type body struct {
	from        io.Reader
	left, bound int64
}

func (b *body) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errBody
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// again says that the next message begins.
func (b *body) again() { b.left = b.bound }
