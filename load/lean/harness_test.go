package lean

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// patience bounds what a test waits for.
const patience = 2 * time.Minute

// raw is a message that is its own encoding.
type raw []byte

func (r raw) Size() int                { return len(r) }
func (r raw) Append(dst []byte) []byte { return append(dst, r...) }

// answer is how a call ended; it also counts, because a call must end exactly once.
type answer struct {
	mu    sync.Mutex
	ends  int
	body  []byte
	err   error
	ended chan struct{}
}

func newAnswer() *answer { return &answer{ended: make(chan struct{})} }

func (a *answer) Done(body []byte, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ends++
	a.body, a.err = append([]byte(nil), body...), err
	if a.ends == 1 {
		close(a.ended)
	}
}

// wait returns the end of the call.
func (a *answer) wait(t testing.TB) ([]byte, error) {
	t.Helper()
	select {
	case <-a.ended:
	case <-time.After(patience):
		t.Fatal("the call does not end")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ends != 1 {
		t.Errorf("the call ended %d times", a.ends)
	}
	return a.body, a.err
}

// call makes one call and waits.
func call(t testing.TB, c *Conn, m Method, body []byte) ([]byte, error) {
	t.Helper()
	a := newAnswer()
	if err := c.Call(m, raw(body), a); err != nil {
		return nil, err
	}
	if err := c.Flush(); err != nil {
		t.Logf("flush: %v", err)
	}
	return a.wait(t)
}

// peer is the server's end of a connection, played by a test frame by frame.
type peer struct {
	t   testing.TB
	nc  net.Conn
	fr  *http2.Framer
	buf bytes.Buffer
	enc *hpack.Encoder
}

// play dials a server whose first connection script plays.
func play(t testing.TB, cfg Config, script func(p *peer), settings ...http2.Setting) *Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		p := newPeer(t, nc)
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(nc, preface); err != nil || string(preface) != http2.ClientPreface {
			t.Errorf("preface %q: %v", preface, err)
			return
		}
		p.check(p.fr.WriteSettings(settings...))
		script(p)
	}()
	cfg.Address = l.Addr().String()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := Dial(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		l.Close()
		<-done
	})
	return c
}

func newPeer(t testing.TB, nc net.Conn) *peer {
	p := &peer{t: t, nc: nc, fr: http2.NewFramer(nc, nc)}
	p.fr.AllowIllegalWrites = true
	p.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.enc = hpack.NewEncoder(&p.buf)
	return p
}

func (p *peer) check(err error) {
	if err != nil {
		p.t.Errorf("the server's end: %v", err)
	}
}

// next is the next frame that a script cares about: not SETTINGS, WINDOW_UPDATE or PING's answer. It is nil at the end of
// the connection.
func (p *peer) next() http2.Frame {
	for {
		f, err := p.fr.ReadFrame()
		if err != nil {
			return nil
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				p.check(p.fr.WriteSettingsAck())
			}
		case *http2.WindowUpdateFrame:
		default:
			return f
		}
	}
}

// request reads one whole request and returns its stream, path and body without the prefix. ok is false at the end of the
// connection.
func (p *peer) request() (id uint32, path string, body []byte, ok bool) {
	for {
		switch f := p.next().(type) {
		case nil:
			return 0, "", nil, false
		case *http2.MetaHeadersFrame:
			id, path = f.StreamID, f.PseudoValue("path")
		case *http2.DataFrame:
			body = append(body, f.Data()...)
			if f.StreamEnded() {
				return id, path, body[min(messageHeader, len(body)):], true
			}
		}
	}
}

func (p *peer) block(fields ...string) []byte {
	p.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		p.check(p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return bytes.Clone(p.buf.Bytes())
}

func (p *peer) headers(id uint32, end bool, fields ...string) {
	p.check(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(fields...), EndHeaders: true, EndStream: end}))
}

func (p *peer) open(id uint32) {
	p.headers(id, false, ":status", "200", "content-type", "application/grpc")
}
func (p *peer) ok(id uint32) { p.headers(id, true, "grpc-status", "0", "grpc-message", "") }

// reply answers with body and status OK.
func (p *peer) reply(id uint32, body []byte) {
	p.open(id)
	p.check(p.fr.WriteData(id, false, appendMessage(nil, body)))
	p.ok(id)
}

func appendMessage(dst, body []byte) []byte {
	return append(appendMessageHeader(dst, len(body)), body...)
}

// drain reads until the client closes.
func (p *peer) drain() {
	for p.next() != nil {
		continue
	}
}

func wantStatus(t testing.TB, err error, code int, text string) {
	t.Helper()
	var s *Status
	if !errors.As(err, &s) || s.Code != code || s.Message != text {
		t.Errorf("got %v, want code %d %q", err, code, text)
	}
}
