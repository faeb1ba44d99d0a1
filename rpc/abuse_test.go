package rpc_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"quorate.dev/quorate/rpc"
)

// parked is a handler that answers only when told to.
type parked struct {
	mu    sync.Mutex
	calls []*rpc.Call
}

func (p *parked) handle(c *rpc.Call, _ []byte) {
	p.mu.Lock()
	p.calls = append(p.calls, c)
	p.mu.Unlock()
}

func (p *parked) register(s *rpc.Server) { s.Unary("/t.T/Park", p.handle) }

func (p *parked) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.calls)
}

// verdicts keeps why a server ended connections, by the peer's address.
type verdicts struct{ by sync.Map }

func (v *verdicts) log(_ string, kv ...any) {
	fields := map[any]any{}
	for i := 0; i+1 < len(kv); i += 2 {
		fields[kv[i]] = kv[i+1]
	}
	if fields["remote"] != nil {
		v.by.Store(fmt.Sprint(fields["remote"]), fmt.Sprint(fields["error"]))
	}
}

// of waits for the verdict about a client.
func (v *verdicts) of(t *testing.T, c *rawClient) (verdict string) {
	t.Helper()
	eventually(t, "a verdict", func() bool {
		found, ok := v.by.Load(c.nc.LocalAddr().String())
		if ok {
			verdict = found.(string)
		}
		return ok
	})
	return verdict
}

// TestFloods sends what costs a client nothing, without end: each kind ends the connection with ENHANCE_YOUR_CALM, and the heap
// does not grow with what was sent. The farewell reaches a client that reads; one that floods, and is slow to read what it is
// answered, may find the connection reset before.
func TestFloods(t *testing.T) {
	const n = 2_000_000
	p, why := &parked{}, &verdicts{}
	s := start(t, rpc.Config{StreamsMax: 1 << 31, KeepalivePermitWithoutStream: true, KeepaliveMinTime: 1, Log: why.log}, p.register)
	for _, f := range []struct {
		name string
		send func(c *rawClient) func(i int) error
	}{
		{"rapid reset", func(c *rawClient) func(int) error {
			block := c.block(plainRequest("/t.T/Park")...)
			again := c.block(plainRequest("/t.T/Park")...)
			return func(i int) error {
				id := uint32(2*i + 1)
				if err := c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: block}); err != nil {
					return err
				}
				block = again
				return c.fr.WriteRSTStream(id, http2.ErrCodeCancel)
			}
		}},
		{"SETTINGS", func(c *rawClient) func(int) error {
			return func(i int) error {
				return c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i)})
			}
		}},
		{"PING", func(c *rawClient) func(int) error {
			return func(int) error { return c.fr.WritePing(false, [8]byte{}) }
		}},
		{"empty DATA", func(c *rawClient) func(int) error {
			c.request(1, "/t.T/Stream", false)
			return func(int) error { return c.fr.WriteData(1, false, nil) }
		}},
		{"empty CONTINUATION", func(c *rawClient) func(int) error {
			c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: nil}))
			return func(int) error { return c.fr.WriteContinuation(1, false, nil) }
		}},
		{"CONTINUATION", func(c *rawClient) func(int) error {
			c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: nil}))
			piece := c.block(hpack.HeaderField{Name: "x", Value: strings.Repeat("v", 15000), Sensitive: true})
			return func(int) error { return c.fr.WriteContinuation(1, false, piece) }
		}},
		{"header bombs", func(c *rawClient) func(int) error {
			// One field fills the table; each further byte repeats it.
			big := hpack.HeaderField{Name: "x", Value: strings.Repeat("v", 4000)}
			c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true,
				BlockFragment: c.block(append(plainRequest("/t.T/Echo"), big)...)}))
			bomb := []byte(strings.Repeat(string(c.block(big)), 16000))
			return func(i int) error {
				return c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 3), EndHeaders: true, EndStream: true, BlockFragment: bomb})
			}
		}},
		{"PRIORITY", func(c *rawClient) func(int) error {
			return func(int) error { return c.fr.WritePriority(3, http2.PriorityParam{StreamDep: 5}) }
		}},
		{"unknown frames", func(c *rawClient) func(int) error {
			return func(int) error { return c.fr.WriteRawFrame(0xfa, 0, 0, nil) }
		}},
		{"DATA on closed streams", func(c *rawClient) func(int) error {
			c.alive(1)
			return func(int) error { return c.fr.WriteData(1, false, nil) }
		}},
		{"RST_STREAM on closed streams", func(c *rawClient) func(int) error {
			c.alive(1)
			return func(int) error { return c.fr.WriteRSTStream(1, http2.ErrCodeCancel) }
		}},
		{"malformed requests", func(c *rawClient) func(int) error {
			block := c.block(hpack.HeaderField{Name: ":status", Value: "200", Sensitive: true})
			return func(i int) error {
				return c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), EndHeaders: true, EndStream: true, BlockFragment: block})
			}
		}},
		{"unknown methods", func(c *rawClient) func(int) error {
			block := c.block(plainRequest("/x.X/Y")...)
			again := c.block(plainRequest("/x.X/Y")...)
			return func(i int) error {
				b := block
				block = again
				return c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), EndHeaders: true, EndStream: true, BlockFragment: b})
			}
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			before := heap()
			c := s.connect(t)
			if last := c.flood(n, f.send(c)); last != nil && last.ErrCode != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("%v, want ENHANCE_YOUR_CALM", last)
			}
			if verdict := why.of(t, c); !strings.HasPrefix(verdict, "ENHANCE_YOUR_CALM: ") {
				t.Errorf("ended with %q, want ENHANCE_YOUR_CALM", verdict)
			}
			c.nc.Close()
			if grown := heap() - before; grown > 8<<20 {
				t.Errorf("the heap grew by %d bytes", grown)
			}
		})
	}
	s.connect(t).alive(1)
}

// TestPingFloodUnread sends pings and reads no answers: the server stops reading, so that nothing piles up.
func TestPingFloodUnread(t *testing.T) {
	s := start(t, rpc.Config{WriteTimeout: 200 * time.Millisecond}, nil)
	before := heap()
	c := s.connect(t)
	c.request(1, "/t.T/Stream", false)
	ping := frame(nil, http2.FramePing, 0, 0, make([]byte, 8))
	block := []byte(strings.Repeat(string(ping), 1000))
	for range 1_000_000 {
		if _, err := c.nc.Write(block); err != nil {
			break
		}
	}
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	s.connect(t).alive(1)
}

// TestBusyHonestClient cancels and pings a lot while it works a lot: that is no abuse.
func TestBusyHonestClient(t *testing.T) {
	p := &parked{}
	s := start(t, rpc.Config{StreamsMax: 6000}, p.register)
	c := s.connect(t)
	id := uint32(1)
	for range 10 * 1000 {
		c.alive(id)
		c.request(id+2, "/t.T/Park", false)
		if id%8 == 1 { // half of them before the call is complete: no handler ever has those
			c.must(c.fr.WriteData(id+2, true, message(nil)))
		}
		c.must(c.fr.WriteRSTStream(id+2, http2.ErrCodeCancel))
		c.must(c.fr.WritePing(false, [8]byte{1}))
		id += 4
	}
	c.alive(id)
}

// TestAbandoned counts calls that were reset while their handlers are still at work: there is no way around the limit on
// streams by resetting them.
func TestAbandoned(t *testing.T) {
	p := &parked{}
	s := start(t, rpc.Config{StreamsMax: 10}, p.register)
	c := s.connect(t)
	for i := range uint32(10) {
		c.request(2*i+1, "/t.T/Park", false)
		c.must(c.fr.WriteData(2*i+1, true, message(nil)))
		c.must(c.fr.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
	}
	c.request(21, "/t.T/Echo", true)
	c.expectReset(21, http2.ErrCodeRefusedStream)
	if p.count() != 10 {
		t.Fatalf("%d calls reached the handler", p.count())
	}
	for _, k := range p.calls {
		if k.Context().Err() == nil {
			t.Error("the context of a reset call is not cancelled")
		}
		k.Reply(rpc.RawMessage("late"))
	}
	c.alive(23)
}

// TestStreamsMax refuses what is above the announced maximum.
func TestStreamsMax(t *testing.T) {
	p := &parked{}
	s := start(t, rpc.Config{StreamsMax: 2}, p.register)
	c := s.connect(t)
	for _, id := range []uint32{1, 3, 5} {
		c.request(id, "/t.T/Park", false)
	}
	c.expectReset(5, http2.ErrCodeRefusedStream)
	c.must(c.fr.WriteData(1, true, message(nil)))
	eventually(t, "the call arrives", func() bool { return p.count() == 1 })
	p.calls[0].Reply(rpc.RawMessage("x"))
	c.expectStatus(1, 0, "")
	c.alive(7)
}

// TestHalfOpen closes connections that say nothing, or not enough, in time.
func TestHalfOpen(t *testing.T) {
	s := start(t, rpc.Config{HandshakeTimeout: time.Second}, nil)
	for _, said := range []string{"", "PRI * HTTP/2", "GET / HT"} {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if _, err := nc.Write([]byte(said)); err != nil {
			t.Fatal(err)
		}
		if err := nc.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		for buf := make([]byte, 1000); err == nil; {
			_, err = nc.Read(buf)
		}
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Errorf("after %q the connection stays open", said)
		}
	}
	patiently(t, time.Second, func(t testing.TB, limit time.Duration) {
		c := start(t, rpc.Config{HandshakeTimeout: limit}, nil).connect(t)
		c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(plainRequest("/t.T/Echo")...)}))
		c.expectGoAway(http2.ErrCodeEnhanceYourCalm)
	})
}

// TestWindowGames breaks the rules of flow control.
func TestWindowGames(t *testing.T) {
	s := start(t, rpc.Config{}, (&parked{}).register)
	for _, g := range []struct {
		name string
		play func(c *rawClient)
	}{
		{"connection window overflow", func(c *rawClient) {
			c.must(c.fr.WriteWindowUpdate(0, 1<<31-1))
			c.expectGoAway(http2.ErrCodeFlowControl)
		}},
		{"stream window overflow", func(c *rawClient) {
			c.request(1, "/t.T/Park", false)
			c.must(c.fr.WriteWindowUpdate(1, 1<<31-1))
			c.expectReset(1, http2.ErrCodeFlowControl)
			c.alive(3)
		}},
		{"windows overflow by SETTINGS", func(c *rawClient) {
			c.request(1, "/t.T/Park", false)
			c.must(c.fr.WriteWindowUpdate(1, 1<<30))
			c.must(c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1}))
			c.expectGoAway(http2.ErrCodeFlowControl)
		}},
		{"zero increment", func(c *rawClient) {
			c.must(c.fr.WriteWindowUpdate(0, 0))
			c.expectGoAway(http2.ErrCodeProtocol)
		}},
		{"zero increment of a stream", func(c *rawClient) {
			c.request(1, "/t.T/Park", false)
			c.must(c.fr.WriteWindowUpdate(1, 0))
			c.expectReset(1, http2.ErrCodeProtocol)
			c.alive(3)
		}},
		{"self dependency", func(c *rawClient) {
			c.must(c.fr.WritePriority(1, http2.PriorityParam{StreamDep: 1}))
			c.expectReset(1, http2.ErrCodeProtocol)
			c.alive(3)
		}},
	} {
		t.Run(g.name, func(t *testing.T) { c := s.connect(t); c.t = t; g.play(c) })
	}
}

// TestBeyondWindow sends more than a stream whose handler does not read may get.
func TestBeyondWindow(t *testing.T) {
	release := make(chan struct{})
	s := start(t, rpc.Config{}, func(s *rpc.Server) {
		s.Stream("/t.T/Deaf", func(s *rpc.Stream) *rpc.Status { <-release; return nil })
	})
	defer close(release)
	before := heap()
	c := s.connect(t)
	c.request(1, "/t.T/Deaf", false)
	full := message(make([]byte, 16<<10-5))
	for range 1 << 20 / len(full) {
		c.must(c.fr.WriteData(1, false, full))
	}
	c.alive(3) // the connection goes on while the stream is full
	c.must(c.fr.WriteData(1, false, full))
	c.expectReset(1, http2.ErrCodeFlowControl)
	c.alive(5)
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

// TestHeldBytes lets a client open many streams and fill each a little: a connection holds so much and no more.
func TestHeldBytes(t *testing.T) {
	release := make(chan struct{})
	s := start(t, rpc.Config{}, func(s *rpc.Server) {
		s.Stream("/t.T/Deaf", func(s *rpc.Stream) *rpc.Status { <-release; return nil })
	})
	defer close(release)
	c := s.connect(t)
	full := message(make([]byte, 16<<10-5))
	go func() { // until the test ends, and its connection with it
		for id := uint32(1); id < 2*200; id += 2 {
			head := http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: c.block(plainRequest("/t.T/Deaf")...)}
			if c.fr.WriteHeaders(head) != nil {
				return
			}
			for range 60 {
				if c.fr.WriteData(id, false, full) != nil {
					return
				}
			}
		}
	}()
	for refused := 0; refused < 50; {
		f, err := c.fr.ReadFrame()
		c.must(err)
		if h, ok := f.(*http2.MetaHeadersFrame); ok && h.StreamEnded() {
			if v := h.Fields[2]; v.Name != "grpc-status" || v.Value != "8" {
				t.Fatalf("refused with %v", h.Fields)
			}
			refused++
		}
		if rst, ok := f.(*http2.RSTStreamFrame); ok && rst.ErrCode == http2.ErrCodeRefusedStream {
			refused++
		}
	}
}

// TestStalledWindow never opens its windows: what waits for it is bounded, and the handlers learn about it.
func TestStalledWindow(t *testing.T) {
	sent := make(chan int, 1)
	writable := make(chan struct{})
	s := start(t, rpc.Config{}, func(s *rpc.Server) {
		s.Stream("/t.T/Gush", func(s *rpc.Stream) *rpc.Status {
			s.NotifyWritable(func() { close(writable) })
			n := 0
			for s.TrySend(make([]byte, 500), make([]byte, 500)) {
				n += 1005
			}
			sent <- n
			<-s.Context().Done()
			return nil
		})
	})
	c := s.connect(t)
	c.must(c.fr.WriteWindowUpdate(0, 2<<20)) // the stream's window stays small
	c.request(1, "/t.T/Gush", true)
	n := <-sent
	if n < 1<<20 || n > 1<<20+100_000 {
		t.Errorf("%d bytes were taken", n)
	}
	c.alive(3)
	c.must(c.fr.WriteWindowUpdate(1, 1<<19+2000)) // below half
	<-writable
}

// TestDeafSocket opens its windows wide and then does not read: the write timeout ends it, and others are served.
func TestDeafSocket(t *testing.T) {
	ended := make(chan int, 1)
	s := start(t, rpc.Config{WriteTimeout: time.Second}, func(s *rpc.Server) {
		s.Stream("/t.T/Gush", func(s *rpc.Stream) *rpc.Status {
			n := 0
			for s.Send(rpc.RawMessage(make([]byte, 10_000))) == nil {
				n++
			}
			ended <- n
			return nil
		})
	})
	before := heap()
	c := s.connect(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	c.must(c.fr.WriteWindowUpdate(0, 1<<31-1-65535))
	c.request(1, "/t.T/Gush", true)
	s.connect(t).alive(1)
	if n := <-ended; n > 2000 {
		t.Errorf("%d messages of 10,000 bytes were taken for a client that reads none", n)
	}
	c.nc.Close()
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

// TestHeaderListTooLarge is refused with a reason, and the connection goes on with its HPACK state intact.
func TestHeaderListTooLarge(t *testing.T) {
	s := start(t, rpc.Config{}, nil)
	c := s.connect(t)
	c.alive(1)
	var many []hpack.HeaderField
	for range 40 {
		many = append(many, hpack.HeaderField{Name: "x", Value: strings.Repeat("v", 2000)})
	}
	c.request(3, "/t.T/Echo", true, many...)
	a := c.await(3)
	if a.headers[":status"] != "431" || a.headers["grpc-status"] != "8" {
		t.Errorf("answer %v", a)
	}
	c.alive(5)
	long := c.block(append(plainRequest("/t.T/Echo"), hpack.HeaderField{Name: "x", Value: strings.Repeat("v", 130_000), Sensitive: true})...)
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 7, EndStream: true}))
	for ; len(long) > 16<<10 && c.fr.WriteContinuation(7, false, long[:16<<10]) == nil; long = long[16<<10:] {
	}
	c.expectGoAway(http2.ErrCodeEnhanceYourCalm)
}
