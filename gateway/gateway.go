// Package gateway answers JSON over HTTP under /v3/ as etcd's gateway does: it turns a request into the gRPC call of the
// same name, makes that call on this member, and turns the answer back. Streams are lines of JSON, or messages of a
// WebSocket.
//
// It is not a way around anything: it has no door of its own into the store. A call takes the way of every other gRPC
// call, over connections within the process, so that bounds, authentication, the audit log, metrics and error texts are
// those of gRPC. It decides nothing about who asks either: it passes the client's headers on and has no certificate.
// Which Host and Origin may ask is decided before (package httpapi).
//
// How data passes: ServeHTTP finds the route, decodes the body into the request's message, and calls it over one of a few
// connections that are made when they are needed, each one end of a pipe. The other ends come out of the Listener, which
// the gRPC server serves like any address; they say for every request whose it is.
//
// Invariants:
//   - No identity comes from a connection of this package: its requests count for what their tokens say, and nothing else.
//   - A client that does not read, or reads slowly, holds up its own answer alone: a connection carries so few calls that
//     what the server keeps for all of them fits (limits.GatewayCallsPerConn), and every call has its own window.
//   - What waits to be decoded of one request is bounded by Config.BodyBytes. An answer to a unary call lies in memory
//     whole, as in etcd's gateway: what reads very large ranges should use gRPC.
package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Files finds what services and messages look like.
type Files interface {
	FindDescriptorByName(protoreflect.FullName) (protoreflect.Descriptor, error)
}

// Config is what New needs.
type Config struct {
	// Files knows the services of the table of routes; one that it does not know is a bug of the caller.
	Files Files
	// BodyBytes bounds one request as JSON, in bytes; above 0.
	BodyBytes int64
}

// Gateway is an http.Handler for everything under /v3/.
type Gateway struct {
	mux   *runtime.ServeMux
	pipes *pipes
	bound int64

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	mu     sync.Mutex // makes sure that nothing is added to work once Close waits for it
	closed bool
	work   sync.WaitGroup // WebSockets, of which no HTTP server knows any more
}

// quiet keeps the libraries from writing to the standard error whatever clients cause, unless that is asked for.
var quiet = sync.OnceFunc(func() {
	if os.Getenv("GRPC_GO_LOG_SEVERITY_LEVEL") == "" {
		grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	}
})

// New makes a gateway. Nothing is connected until the first request. As in etcd, grpc-go's log of the whole process is off from
// then on, unless the variable GRPC_GO_LOG_SEVERITY_LEVEL is set.
func New(c Config) (*Gateway, error) {
	quiet()
	if c.BodyBytes <= 0 {
		return nil, fmt.Errorf("gateway: BodyBytes is %d; it must be above 0", c.BodyBytes)
	}
	g := &Gateway{pipes: newPipes(), bound: c.BodyBytes}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.mux = runtime.NewServeMux(runtime.WithMarshalerOption(runtime.MIMEWildcard, newMarshaler()))
	for _, r := range routes {
		if err := g.add(c.Files, r); err != nil {
			return nil, fmt.Errorf("gateway: %s: %w", r.path, err)
		}
	}
	return g, nil
}

// Listener yields the connections over which the gateway makes its calls; the gRPC server is to serve it.
func (g *Gateway) Listener() net.Listener { return g.pipes }

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if asksForSocket(r) {
		if !g.begin() {
			http.Error(w, "this server is stopping", http.StatusServiceUnavailable)
			return
		}
		defer g.work.Done()
		g.serveSocket(w, r)
		return
	}
	g.mux.ServeHTTP(w, r)
}

// begin notes the work on a WebSocket; false when the gateway is closed.
func (g *Gateway) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.work.Add(1)
	}
	return !g.closed
}

// Close ends all requests under way and returns when the WebSockets are closed. It may be called twice.
func (g *Gateway) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	g.work.Wait()
	g.pipes.end()
}
