package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// handle is the goroutine of a connection: it finds out what the client speaks, and serves HTTP/2.
func (s *Server) handle(nc net.Conn) {
	defer s.work.Done()
	c, err := s.identify(nc)
	if err != nil {
		nc.Close()
	}
	if c == nil {
		s.detach(nc)
		return
	}
	defer s.detach(nc)
	if !s.attach(c) {
		nc.Close()
		return
	}
	c.serve()
}

// identify reads the first bytes of nc. It returns an HTTP/2 connection, or nil when nc was handed to the HTTP/1.1
// server; an error means that nc is of no use.
func (s *Server) identify(nc net.Conn) (*conn, error) {
	if err := nc.SetDeadline(time.Now().Add(s.cfg.HandshakeTimeout)); err != nil {
		return nil, err
	}
	var state *tls.ConnectionState
	if tc, ok := nc.(*tls.Conn); ok {
		if err := tc.HandshakeContext(context.Background()); err != nil {
			s.logf("rpc: TLS handshake failed", "remote", nc.RemoteAddr(), "error", err)
			return nil, err
		}
		cs := tc.ConnectionState()
		if cs.NegotiatedProtocol != http2.NextProtoTLS {
			return nil, s.handOver(nc)
		}
		state = &cs
	}
	seen, err := readPreface(nc)
	if err != nil {
		return nil, err
	}
	if string(seen) != http2.ClientPreface {
		if state != nil {
			return nil, errors.New("rpc: h2 was negotiated but HTTP/2's preface did not come")
		}
		if s.cfg.Misdirected != nil && len(seen) > 0 && seen[0] == handshakeRecord {
			s.cfg.Misdirected(nc.RemoteAddr())
		}
		return nil, s.handOver(&prefixedConn{Conn: nc, prefix: seen}) // whose answer to nonsense is an error
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return newConn(s, nc, state), nil
}

// handshakeRecord is the first byte of a connection with TLS.
const handshakeRecord = 0x16

// readPreface reads until the bytes are HTTP/2's preface or cannot become it any more, and returns them.
func readPreface(r io.Reader) ([]byte, error) {
	buf := make([]byte, 0, len(http2.ClientPreface))
	for len(buf) < cap(buf) {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if string(buf) != http2.ClientPreface[:len(buf)] {
			return buf, nil
		}
		if err != nil && len(buf) < cap(buf) {
			return nil, err
		}
	}
	return buf, nil
}

// handOver gives an HTTP/1.1 connection to net/http.
func (s *Server) handOver(nc net.Conn) error {
	if err := nc.SetDeadline(time.Time{}); err != nil {
		return err
	}
	select {
	case s.webConns.ch <- nc:
		return nil
	case <-s.webConns.done:
		return net.ErrClosed
	}
}

func (s *Server) newWebServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler: s.cfg.HTTP, Protocols: protocols, ReadHeaderTimeout: s.cfg.HandshakeTimeout, IdleTimeout: webIdleTimeout,
		MaxHeaderBytes: headerListBytes, ErrorLog: s.webLog(),
	}
}

// prefixedConn is a connection whose first bytes were read already.
type prefixedConn struct {
	net.Conn
	prefix []byte
}

func (c *prefixedConn) Read(p []byte) (int, error) {
	if len(c.prefix) > 0 {
		n := copy(p, c.prefix)
		c.prefix = c.prefix[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// chanListener is a net.Listener fed by handOver.
type chanListener struct {
	ch   chan net.Conn
	done chan struct{}
	once *sync.Once
}

func newChanListener() chanListener {
	return chanListener{make(chan net.Conn), make(chan struct{}), new(sync.Once)}
}

func (l *chanListener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.ch:
		return nc, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *chanListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *chanListener) Addr() net.Addr { return &net.TCPAddr{} }
