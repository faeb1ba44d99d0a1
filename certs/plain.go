package certs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// needTLS is what a client without TLS reads, in the words of Go's own server.
const needTLS = "Client sent an HTTP request to an HTTPS server: this address speaks TLS, use https://"

// A connection that got a refusal is read for so long and so much, so that the refusal arrives.
const (
	farewellTime  = 3 * time.Second
	farewellBytes = 64 << 10
)

// answerPlain tells a client that does not speak TLS so in its own language, if it is HTTP/1 or HTTP/2. It reports whether that
// is so.
func answerPlain(ctx context.Context, s *seam) bool {
	text := string(s.first)
	isHTTP2 := strings.HasPrefix(text, http2Preface[:8])
	if !isHTTP2 && !isMethod(text) {
		return false
	}
	stop := closeAfter(ctx, s)
	defer stop()
	var err error
	if isHTTP2 {
		err = answerHTTP2(s)
	} else {
		_, err = io.WriteString(s.Conn, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"+needTLS+"\n")
	}
	if err == nil {
		s.drain()
	}
	return true
}

// closeAfter closes a connection after farewellTime, or when ctx ends, unless stop is called first.
func closeAfter(ctx context.Context, s *seam) (stop func()) {
	ctx, cancel := context.WithTimeout(ctx, farewellTime)
	done := context.AfterFunc(ctx, func() { _ = s.Close() })
	return func() {
		done()
		cancel()
	}
}

// farewell lets a client read why it was refused, which TLS has told it.
func farewell(ctx context.Context, s *seam) {
	stop := closeAfter(ctx, s)
	defer stop()
	s.drain()
}

// drain ends the sending side and reads on: closing a socket with unread input would destroy what was sent. What comes is of no
// interest.
func (s *seam) drain() {
	if s.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, s.Conn, farewellBytes)
	}
}

// isMethod reports whether text begins like a request of HTTP/1.
func isMethod(text string) bool {
	for _, m := range []string{"GET /", "HEAD /", "POST /", "PUT /", "OPTIONS ", "DELETE /", "CONNECT ", "PATCH /"} {
		if strings.HasPrefix(text, m) {
			return true
		}
	}
	return false
}

// What is needed of HTTP/2 (RFC 9113) to refuse the first call of a connection.
const (
	http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	frameHeader  = 9
	frameMost    = 16 << 10 // bytes of a frame that a client may send unasked
	framesMost   = 64       // that are read in search of a call

	frameHeaders, frameSettings, frameGoAway = 1, 4, 7
)

// answerHTTP2 answers the first call as gRPC does, with a status that clients do not take as a reason to try again.
func answerHTTP2(s *seam) error {
	in := bufio.NewReader(io.MultiReader(bytes.NewReader(s.first), s.Conn))
	if _, err := in.Discard(len(http2Preface)); err != nil {
		return err
	}
	if _, err := s.Conn.Write(frame(nil, frameSettings, 0, 0, "")); err != nil {
		return err
	}
	for range framesMost {
		var head [frameHeader]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return err
		}
		size := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		if size > frameMost {
			return fmt.Errorf("a frame of %d bytes", size)
		}
		if _, err := in.Discard(size); err != nil {
			return err
		}
		if head[3] == frameHeaders {
			const endStream, endHeaders = 0x1, 0x4
			out := frame(nil, frameSettings, 1, 0, "")
			out = frame(out, frameHeaders, endStream|endHeaders, binary.BigEndian.Uint32(head[5:])&(1<<31-1), refusal())
			const inadequateSecurity = "\x00\x00\x00\x0c"
			_, err := s.Conn.Write(frame(out, frameGoAway, 0, 0, "\x00\x00\x00\x01"+inadequateSecurity+needTLS))
			return err
		}
	}
	return errors.New("no call came")
}

// refusal is the header block of an answer with status FailedPrecondition. Nothing of it is put into the client's table.
func refusal() string {
	block := "\x88" // :status 200
	for _, f := range [][2]string{{"content-type", "application/grpc"}, {"grpc-status", "9"}, {"grpc-message", needTLS}} {
		block += "\x00" + string([]byte{byte(len(f[0]))}) + f[0] + string([]byte{byte(len(f[1]))}) + f[1]
	}
	return block
}

func frame(dst []byte, kind, flags byte, stream uint32, payload string) []byte {
	n := len(payload)
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	return append(binary.BigEndian.AppendUint32(dst, stream), payload...)
}

// ErrPlain is why a connection with TLS to an address without came to nothing.
var ErrPlain = errors.New("the client began a TLS handshake, and this address is without TLS: it needs http:// in place of https://")

// Plain makes a listener of l, which is without TLS, that tells of clients that try to speak TLS.
func Plain(l net.Listener, rejected func(Rejection)) net.Listener { return &plainListener{l, rejected} }

type plainListener struct {
	net.Listener
	rejected func(Rejection)
}

// Accept implements net.Listener.
func (l *plainListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok {
		return &plainConn{TCPConn: tcp, rejected: l.rejected}, err
	}
	return c, err
}

// plainConn looks at the first byte. Everything else is the connection's own, so that files are still sent without copying.
type plainConn struct {
	*net.TCPConn
	rejected func(Rejection) // nil once the first byte was seen
}

// handshakeRecord is the first byte of a TLS connection.
const handshakeRecord = 0x16

// Read implements net.Conn.
func (c *plainConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if c.rejected != nil && n > 0 {
		if p[0] == handshakeRecord {
			c.rejected(Rejection{Remote: c.RemoteAddr(), Err: ErrPlain})
		}
		c.rejected = nil
	}
	return n, err
}
