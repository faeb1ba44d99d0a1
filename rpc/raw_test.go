package rpc_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// rawClient speaks frames, also those no honest client would send.
type rawClient struct {
	t   testing.TB
	nc  net.Conn
	fr  *http2.Framer
	enc *hpack.Encoder
	buf bytes.Buffer // of enc

	ended map[uint32]bool // streams whose end was awaited
}

// connect opens a connection and sends the preface with settings.
func (s *testServer) connect(t testing.TB, settings ...http2.Setting) *rawClient {
	t.Helper()
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	c := speak(t, nc)
	if _, err := nc.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	c.must(c.fr.WriteSettings(settings...))
	return c
}

func speak(t testing.TB, nc net.Conn) *rawClient {
	c := &rawClient{t: t, nc: nc, fr: http2.NewFramer(nc, nc), ended: map[uint32]bool{}}
	c.fr.AllowIllegalWrites = true
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.enc = hpack.NewEncoder(&c.buf)
	c.must(nc.SetDeadline(time.Now().Add(2 * time.Minute)))
	return c
}

func (c *rawClient) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// block encodes header fields.
func (c *rawClient) block(fields ...hpack.HeaderField) []byte {
	c.buf.Reset()
	for _, f := range fields {
		c.must(c.enc.WriteField(f))
	}
	return bytes.Clone(c.buf.Bytes())
}

// request sends the HEADERS of a gRPC call; extra fields come last.
func (c *rawClient) request(id uint32, method string, end bool, extra ...hpack.HeaderField) {
	c.t.Helper()
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: end,
		BlockFragment: c.block(append(plainRequest(method), extra...)...)}))
}

// plainRequest are a call's headers without a deadline.
func plainRequest(method string) []hpack.HeaderField {
	f := requestFields(method)
	return f[:len(f)-1]
}

func message(body []byte) []byte {
	n := len(body)
	return append([]byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, body...)
}

// answer is what came back on one stream.
type answer struct {
	headers map[string]string // headers and trailers together
	data    []byte
	reset   http2.ErrCode
	isReset bool
}

func (a *answer) String() string {
	return fmt.Sprintf("%v, %d bytes, reset %v %v", a.headers, len(a.data), a.isReset, a.reset)
}

// await reads until stream id ends, crediting nothing.
func (c *rawClient) await(id uint32) *answer {
	c.t.Helper()
	a := &answer{headers: map[string]string{}}
	defer func() { c.ended[id] = true }()
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			c.t.Fatalf("waiting for stream %d, got %v: %v", id, a, err)
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			c.t.Fatalf("waiting for stream %d: GOAWAY %v %q", id, g.ErrCode, g.DebugData())
		}
		if h := f.Header(); h.StreamID != id {
			if c.ended[h.StreamID] && (h.Type == http2.FrameData || h.Type == http2.FrameHeaders) {
				c.t.Errorf("%v after the end of stream %d", h, h.StreamID)
			}
			continue
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			for _, h := range f.Fields {
				a.headers[h.Name] = h.Value
			}
			if f.StreamEnded() {
				return a
			}
		case *http2.DataFrame:
			a.data = append(a.data, f.Data()...)
			if f.StreamEnded() {
				return a
			}
		case *http2.RSTStreamFrame:
			a.reset, a.isReset = f.ErrCode, true
			return a
		}
	}
}

// expectStatus checks the gRPC status of stream id.
func (c *rawClient) expectStatus(id uint32, code int, text string) {
	c.t.Helper()
	a := c.await(id)
	if a.headers["grpc-status"] != strconv.Itoa(code) || a.headers["grpc-message"] != text {
		c.t.Errorf("stream %d: %v; want status %d %q", id, a, code, text)
	}
}

// expectGoAway reads until GOAWAY with code, then until the end of the connection.
func (c *rawClient) expectGoAway(code http2.ErrCode) string {
	c.t.Helper()
	debug, seen := "", false
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				c.t.Fatalf("the connection stays open (GOAWAY seen: %v)", seen)
			}
			if !seen {
				c.t.Fatalf("no GOAWAY before the connection ended: %v", err)
			}
			return debug
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			if g.ErrCode != code {
				c.t.Errorf("GOAWAY %v %q, want %v", g.ErrCode, g.DebugData(), code)
			}
			debug, seen = string(g.DebugData()), true
		}
	}
}

// expectReset checks that stream id is reset with code.
func (c *rawClient) expectReset(id uint32, code http2.ErrCode) {
	c.t.Helper()
	if a := c.await(id); !a.isReset || a.reset != code {
		c.t.Errorf("stream %d: %v; want a reset with %v", id, a, code)
	}
}

// alive checks that the connection still serves calls.
func (c *rawClient) alive(id uint32) {
	c.t.Helper()
	c.request(id, "/t.T/Echo", false)
	c.must(c.fr.WriteData(id, true, message([]byte("alive"))))
	if a := c.await(id); string(a.data) != string(message([]byte("alive"))) || a.headers["grpc-status"] != "0" {
		c.t.Errorf("echo: %v", a)
	}
	c.must(c.fr.WriteWindowUpdate(0, 10))
}

// flood calls send until it fails or n calls are done, while the answers are read and dropped, and returns the last GOAWAY that
// arrived, nil for none. Writing to a connection that the server has closed fails sooner or later.
func (c *rawClient) flood(n int, send func(i int) error) *http2.GoAwayFrame {
	c.t.Helper()
	end := make(chan *http2.GoAwayFrame, 1)
	go func() {
		var last *http2.GoAwayFrame
		for {
			f, err := c.fr.ReadFrame()
			if err != nil {
				end <- last
				return
			}
			if f, ok := f.(*http2.GoAwayFrame); ok {
				last = &http2.GoAwayFrame{LastStreamID: f.LastStreamID, ErrCode: f.ErrCode}
			}
		}
	}()
	for i := range n {
		if send(i) != nil {
			break
		}
	}
	return <-end
}

// heap is the live heap after a collection, bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("it does not happen: %s", what)
		}
		runtime.Gosched()
	}
}

// attempt is a test that may be tried again: what it reports is kept.
type attempt struct {
	testing.TB
	text string
}

func (a *attempt) Error(args ...any)            { a.text += fmt.Sprintln(args...) }
func (a *attempt) Errorf(f string, args ...any) { a.text += fmt.Sprintf(f+"\n", args...) }

func (a *attempt) Fatal(args ...any) {
	a.Error(args...)
	runtime.Goexit()
}

func (a *attempt) Fatalf(f string, args ...any) {
	a.Errorf(f, args...)
	runtime.Goexit()
}

// patiently tests what a server does after a limit of time that a client must not exceed before. Whether a machine that stalls
// keeps up with a short one is luck, so who fails is given a limit eight times as long, up to one of more than a minute.
func patiently(t *testing.T, limit time.Duration, try func(t testing.TB, limit time.Duration)) {
	t.Helper()
	for ; ; limit *= 8 {
		a, done := &attempt{TB: t}, make(chan struct{})
		go func() {
			defer close(done)
			try(a, limit)
		}()
		if <-done; a.text == "" {
			return
		}
		if limit > time.Minute {
			t.Fatal(a.text)
		}
		t.Logf("with %v: %s", limit, a.text)
	}
}
