package gateway

import (
	"context"
	"math"
	"net"
	"net/netip"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"quorate.dev/quorate/limits"
)

// pipes are the connections to this process's own gRPC server. It is a net.Listener whose connections are the server's ends.
type pipes struct {
	accept chan net.Conn
	ended  chan struct{} // closed with the listener
	once   sync.Once

	mu    sync.Mutex
	conns []*pipe
	over  bool
}

// pipe is a connection and how many calls it carries. pipes.mu protects it.
type pipe struct {
	*grpc.ClientConn
	calls int
}

func newPipes() *pipes {
	return &pipes{accept: make(chan net.Conn), ended: make(chan struct{})}
}

// take returns a connection for one call, and the function that gives it back. Those that carry calls already are filled first, so
// that others become free and can go.
func (p *pipes) take() (*grpc.ClientConn, func(), error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return nil, nil, status.Error(codes.Unavailable, "this server is stopping")
	}
	for _, c := range p.conns {
		if c.calls < limits.GatewayCallsPerConn {
			c.calls++
			return c.ClientConn, func() { p.give(c) }, nil
		}
	}
	conn, err := p.dial()
	if err != nil {
		return nil, nil, status.Error(codes.Internal, err.Error())
	}
	c := &pipe{conn, 1}
	p.conns = append(p.conns, c)
	return conn, func() { p.give(c) }, nil
}

// give ends a call. A connection without calls is closed, unless it is among the first few.
func (p *pipes) give(c *pipe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.calls--; c.calls > 0 {
		return
	}
	for i, other := range p.conns {
		if other == c && i >= limits.GatewayConnsKept {
			p.conns = append(p.conns[:i], p.conns[i+1:]...)
			_ = c.Close() // it carries nothing that could be lost
			return
		}
	}
}

// end closes all connections.
func (p *pipes) end() {
	_ = p.Close() // never an error
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	for _, c := range p.conns {
		_ = c.ClientConn.Close()
	}
	p.conns = nil
}

func (p *pipes) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///this-process",
		grpc.WithContextDialer(p.connect), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
		grpc.WithInitialWindowSize(limits.GatewayWindowBytes), grpc.WithInitialConnWindowSize(limits.GatewayCallsPerConn*limits.GatewayWindowBytes),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)), grpc.WithSharedWriteBuffer(true))
}

func (p *pipes) connect(ctx context.Context, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.accept <- serverEnd{theirs}:
		return ours, nil
	case <-p.ended:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pipes) Close() error {
	p.once.Do(func() { close(p.ended) })
	return nil
}

// Addr implements net.Listener.
func (p *pipes) Addr() net.Addr { return within{} }

// within is the address of both ends.
type within struct{}

func (within) Network() string { return "gateway" }
func (within) String() string  { return "gateway" }

// peerKey is the metadata that says whose a request is, to the server alone: a client's own is thrown away.
const peerKey = "quorate-gateway-client"

// serverEnd is the server's end of a pipe.
type serverEnd struct{ net.Conn }

// Client implements rpc.Passing.
func (serverEnd) Client(metadata func(string) string) net.Addr {
	if a, err := netip.ParseAddrPort(metadata(peerKey)); err == nil {
		return net.TCPAddrFromAddrPort(a)
	}
	return within{} // the client came over a Unix socket
}
