package rpc_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"quorate.dev/quorate/rpc"
)

// TestRefusals are the answers rpc itself gives, in the words of grpc-go.
func TestRefusals(t *testing.T) {
	s := start(t, rpc.Config{MessageBytesMax: 1000}, nil)
	cc := s.dial(t)
	for _, c := range []struct {
		method string
		msg    []byte
		opts   []grpc.CallOption
		code   codes.Code
		text   string
	}{
		{"/t.T/Nope", nil, nil, codes.Unimplemented, "unknown method Nope for service t.T"},
		{"/x.Y/Nope", nil, nil, codes.Unimplemented, "unknown service x.Y"},
		{"/t.T/Echo", pattern(1001), nil, codes.ResourceExhausted, "grpc: received message larger than max (1001 vs. 1000)"},
		{"/t.T/Echo", make([]byte, 100_000), []grpc.CallOption{grpc.UseCompressor(gzip.Name)}, codes.ResourceExhausted,
			"grpc: received message after decompression larger than max 1000"},
	} {
		_, err := call(within(t), cc, c.method, c.msg, c.opts...)
		if got := status.Convert(err); got.Code() != c.code || got.Message() != c.text {
			t.Errorf("%s: %v; want %v %q", c.method, err, c.code, c.text)
		}
	}
	if got, err := call(within(t), cc, "/t.T/Echo", make([]byte, 1000), grpc.UseCompressor(gzip.Name)); err != nil || len(got) != 1000 {
		t.Errorf("gzip: %v, %d bytes", err, len(got))
	}
	st, err := cc.NewStream(within(t), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/t.T/Stream")
	if err != nil {
		t.Fatal(err)
	}
	big := pattern(1001)
	if err := st.SendMsg(&big); err != nil {
		t.Fatal(err)
	}
	if err := st.RecvMsg(&big); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a stream's message that is too large: %v", err)
	}
}

// TestRawRefusals are answers to requests grpc-go's client would not send.
func TestRawRefusals(t *testing.T) {
	s := start(t, rpc.Config{}, nil)
	c := s.connect(t)
	field := func(name, value string) []hpack.HeaderField { return []hpack.HeaderField{{Name: name, Value: value}} }
	replaced := func(name, value string) []hpack.HeaderField {
		f := plainRequest("/t.T/Echo")
		for i := range f {
			if f[i].Name == name {
				f[i].Value = value
			}
		}
		return f
	}
	id := uint32(1)
	for _, r := range []struct {
		what   string
		fields []hpack.HeaderField
		body   []byte
		http   string
		code   string
		text   string
	}{
		{"content type", replaced("content-type", "text/plain"), nil, "415", "3", `invalid gRPC request content-type "text/plain"`},
		{"content type like gRPC's", replaced("content-type", "application/grpcx"), nil, "415", "3", `invalid gRPC request content-type "application/grpcx"`},
		{"method", replaced(":method", "GET"), nil, "405", "13", `Received a HEADERS frame with :method "GET" which should be POST`},
		{"path", replaced(":path", "t.T/Echo"), nil, "200", "12", `malformed method name: "t.T/Echo"`},
		{"path without a service", replaced(":path", "/nothing"), nil, "200", "12", `malformed method name: "/nothing"`},
		{"timeout", append(plainRequest("/t.T/Echo"), field("grpc-timeout", "5x")...), nil, "400", "13",
			`malformed grpc-timeout: transport: timeout unit is not recognized: "5x"`},
		{"timeout of zero", append(plainRequest("/t.T/Echo"), field("grpc-timeout", "0n")...), nil, "200", "4", "context deadline exceeded"},
		{"base64", append(plainRequest("/t.T/Echo"), field("x-bin", "!")...), nil, "400", "13",
			`malformed binary metadata "!" in header "x-bin": illegal base64 data at input byte 0`},
		{"encoding", append(plainRequest("/t.T/Echo"), field("grpc-encoding", "br")...), nil, "200", "12",
			`grpc: Decompressor is not installed for grpc-encoding "br"`},
		{"no message", plainRequest("/t.T/Echo"), []byte{}, "200", "13",
			"cardinality violation: received no request message from non-client-streaming RPC"},
		{"two messages", plainRequest("/t.T/Echo"), append(message(nil), message(nil)...), "200", "13",
			"cardinality violation: received multiple request messages for non-client-streaming RPC"},
		{"half a message", plainRequest("/t.T/Echo"), message(pattern(10))[:12], "200", "13", "unexpected EOF"},
		{"compressed without encoding", plainRequest("/t.T/Echo"), []byte{1, 0, 0, 0, 0}, "200", "13",
			"grpc: compressed flag set with identity or empty encoding"},
		{"prefix", plainRequest("/t.T/Echo"), []byte{7, 0, 0, 0, 0}, "200", "13", "grpc: received unexpected payload format 7"},
		{"declared size", plainRequest("/t.T/Echo"), []byte{0, 255, 255, 255, 255}, "200", "8",
			"grpc: received message larger than max (4294967295 vs. 4194304)"},
	} {
		c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: r.body == nil, BlockFragment: c.block(r.fields...)}))
		if r.body != nil {
			c.must(c.fr.WriteData(id, true, r.body))
		}
		a := c.await(id)
		if a.headers[":status"] != r.http || a.headers["grpc-status"] != r.code || a.headers["grpc-message"] != r.text {
			t.Errorf("%s: %v", r.what, a)
		}
		id += 2
	}
	c.alive(id)
}

// TestMessageInPieces sends a request byte by byte, and ends it with an empty frame, and with trailers.
func TestMessageInPieces(t *testing.T) {
	s := start(t, rpc.Config{}, nil)
	c := s.connect(t)
	for i, trailers := range []bool{false, true} {
		id := uint32(2*i + 1)
		c.request(id, "/t.T/Echo", false, hpack.HeaderField{Name: "content-length", Value: "15"})
		for _, b := range message([]byte("0123456789")) {
			c.must(c.fr.WriteDataPadded(id, false, []byte{b}, make([]byte, 5)))
		}
		if trailers {
			c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true,
				BlockFragment: c.block(hpack.HeaderField{Name: "x", Value: "y"})}))
		} else {
			c.must(c.fr.WriteData(id, true, nil))
		}
		if a := c.await(id); string(a.data) != string(message([]byte("0123456789"))) {
			t.Errorf("answer %v", a)
		}
	}
}

// TestSmallHeaderTable is a client that wants no HPACK table, first or later.
func TestSmallHeaderTable(t *testing.T) {
	s := start(t, rpc.Config{}, nil)
	c := s.connect(t, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
	c.fr.ReadMetaHeaders.SetAllowedMaxDynamicTableSize(0)
	c.alive(1)
	c.alive(3)
	c = s.connect(t)
	c.alive(1)
	c.must(c.fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 100}))
	for {
		f, err := c.fr.ReadFrame()
		c.must(err)
		if f, ok := f.(*http2.SettingsFrame); ok && f.IsAck() {
			break
		}
	}
	headers := c.fr.ReadMetaHeaders
	c.fr.ReadMetaHeaders = nil
	c.request(3, "/x.X/Y", true)
	f, err := c.fr.ReadFrame()
	c.must(err)
	// RFC 7541 section 4.2: the first block after the change says that the table shrank.
	b := f.(*http2.HeadersFrame).HeaderBlockFragment()
	if b[0] != 0x20 {
		t.Errorf("the block begins with %#x, want a table size update to 0", b[0])
	}
	if _, err := headers.DecodeFull(b); err != nil {
		t.Error(err)
	}
	c.fr.ReadMetaHeaders = headers
	c.alive(5)
}

// TestMetadata carries metadata both ways.
func TestMetadata(t *testing.T) {
	s := start(t, rpc.Config{}, func(s *rpc.Server) {
		s.Unary("/t.T/Meta", func(c *rpc.Call, _ []byte) {
			got := fmt.Sprintf("%s|%q|%q|%q|%q", c.Method(), c.Metadata("a"), c.MetadataValues("b-bin"), c.Metadata("none"), c.Metadata("te"))
			c.SetHeader("h", "1")
			c.SetHeader("h-bin", "\x00\xff")
			c.SetHeader("grpc-status", "7")
			c.SetHeader("Upper", "no")
			c.SetHeader("ctl", "a\nb")
			c.SetTrailer("t", "2")
			c.SetTrailer("t", "3")
			c.Reply(rpc.RawMessage(got))
		})
		s.Unary("/t.T/Bad", func(c *rpc.Call, _ []byte) {
			c.SetTrailer("t", "2")
			c.Fail(&rpc.Status{Code: rpc.Aborted, Message: "100% wröng\n", Details: []byte{8, 10, 18, 1, 'x'}})
		})
	})
	cc := s.dial(t)
	ctx := metadata.NewOutgoingContext(within(t), metadata.Pairs("a", "x", "b-bin", "\x00\x01", "b-bin", "zz"))
	var header, trailer metadata.MD
	for range 3 { // the second and third request come from the cache of decoded blocks
		got, err := call(ctx, cc, "/t.T/Meta", nil, grpc.Header(&header), grpc.Trailer(&trailer))
		if want := `/t.T/Meta|"x"|["\x00\x01" "zz"]|""|""`; err != nil || string(got) != want {
			t.Errorf("%v, %s; want %s", err, got, want)
		}
		want := metadata.MD{"content-type": {"application/grpc+raw"}, "h": {"1"}, "h-bin": {"\x00\xff"}}
		if fmt.Sprint(header) != fmt.Sprint(want) || fmt.Sprint(trailer) != fmt.Sprint(metadata.MD{"t": {"2", "3"}}) {
			t.Errorf("header %v, trailer %v", header, trailer)
		}
	}
	_, err := call(ctx, cc, "/t.T/Bad", nil, grpc.Trailer(&trailer))
	st := status.Convert(err)
	if st.Code() != codes.Aborted || st.Message() != "x" || trailer["t"][0] != "2" {
		t.Errorf("status with details: %v %q, %v", st.Code(), st.Message(), trailer)
	}
}

// TestDeadline is kept by rpc itself, for calls and streams.
func TestDeadline(t *testing.T) { patiently(t, 900*time.Millisecond, deadlineIsKept) }

func deadlineIsKept(t testing.TB, limit time.Duration) {
	p := &parked{}
	ended := make(chan error, 1)
	s := start(t, rpc.Config{}, func(s *rpc.Server) {
		p.register(s)
		s.Stream("/t.T/Wait", func(s *rpc.Stream) *rpc.Status {
			<-s.Context().Done()
			ended <- s.Context().Err()
			return nil
		})
	})
	c := s.connect(t)
	timeout := hpack.HeaderField{Name: "grpc-timeout", Value: fmt.Sprintf("%dm", limit.Milliseconds())}
	c.request(1, "/t.T/Park", false, timeout)
	c.must(c.fr.WriteData(1, true, message(nil)))
	c.expectStatus(1, 4, "context deadline exceeded")
	if p.count() == 0 {
		t.Fatal("the deadline passed before the call had arrived")
	}
	k := p.calls[0]
	if _, ok := k.Deadline(); !ok || k.Context().Err() == nil {
		t.Error("the call does not know that its deadline has passed")
	}
	k.Reply(rpc.RawMessage("late"))
	k.Fail(&rpc.Status{Code: rpc.Aborted})
	c.request(3, "/t.T/Park", false, hpack.HeaderField{Name: "grpc-timeout", Value: "1H"})
	c.request(5, "/t.T/Wait", false, timeout)
	c.expectStatus(5, 4, "context deadline exceeded")
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the stream's context has no error")
		}
	case <-within(t).Done():
		t.Error("the handler of the stream was not called, or not told")
	}
	c.alive(7)
}

// TestCancel ends a stream's context, and its Recv and Send.
func TestCancel(t *testing.T) {
	errs := make(chan error, 2)
	s := start(t, rpc.Config{}, func(s *rpc.Server) {
		s.Stream("/t.T/Wait", func(s *rpc.Stream) *rpc.Status {
			_, err := s.Recv()
			errs <- err
			errs <- s.Send(rpc.RawMessage("x"))
			return nil
		})
	})
	ctx, cancel := context.WithCancel(within(t))
	if _, err := s.dial(t).NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/t.T/Wait"); err != nil {
		t.Fatal(err)
	}
	cancel()
	for range 2 {
		if st, ok := (<-errs).(*rpc.Status); !ok || st.Code != rpc.Canceled {
			t.Errorf("after a reset: %v", st)
		}
	}
}

// TestReplyStreamInTurns has a producer that has to fetch each piece elsewhere, and one that fails in the middle.
func TestReplyStreamInTurns(t *testing.T) {
	const pieces, pieceBytes = 50, 30_000
	fetch := make(chan func(), 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for f := range fetch {
			f()
		}
	}()
	var attempts atomic.Int64
	turns := func(c *rpc.Call, fails bool) {
		var ready atomic.Bool
		n := 0
		c.ReplyStream(pieces*pieceBytes, func(dst []byte) ([]byte, bool) {
			if !ready.Load() {
				fetch <- func() {
					if fails && n == pieces/2 {
						c.Abandon(&rpc.Status{Code: rpc.Unavailable, Message: "lost"})
						return
					}
					ready.Store(true)
					c.Resume()
				}
				return dst, true
			}
			ready.Store(false)
			n++
			return append(dst, pattern(pieceBytes)...), n < pieces
		})
	}
	s := start(t, rpc.Config{}, func(s *rpc.Server) {
		s.Unary("/t.T/Turns", func(c *rpc.Call, _ []byte) { turns(c, false) })
		s.Unary("/t.T/Fails", func(c *rpc.Call, _ []byte) { turns(c, attempts.Add(1) == 1) })
		s.Unary("/t.T/AlwaysFails", func(c *rpc.Call, _ []byte) { turns(c, true) })
	})
	defer func() { close(fetch); <-done }()
	want := bytes.Repeat(pattern(pieceBytes), pieces)
	for _, method := range []string{"/t.T/Turns", "/t.T/Fails"} {
		got, err := call(within(t), s.dial(t), method, nil)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", method, len(got), err)
		}
	}
	if attempts.Load() != 2 {
		t.Errorf("%d attempts, want a second one of the client's own", attempts.Load())
	}
	if _, err := call(within(t), s.dial(t), "/t.T/AlwaysFails", nil); status.Code(err) != codes.Unavailable {
		t.Errorf("an answer that is never completed ends with %v", err)
	}
}

// TestReplyStream produces a reply far larger than what is ever in memory.
func TestReplyStream(t *testing.T) {
	const size = 48 << 20
	var most atomic.Int64
	s := start(t, rpc.Config{}, func(s *rpc.Server) {
		s.Unary("/t.T/Large", func(c *rpc.Call, _ []byte) {
			left := size
			before := heap()
			c.ReplyStream(size, func(dst []byte) ([]byte, bool) {
				n := min(left, 100_000)
				left -= n
				if left%(8<<20) < n {
					most.Store(max(most.Load(), heap()-before))
				}
				return append(dst, pattern(n)...), left > 0
			})
		})
	})
	c := s.connect(t)
	c.request(1, "/t.T/Large", false)
	c.must(c.fr.WriteData(1, true, message(nil)))
	got := 0
	for {
		f, err := c.fr.ReadFrame()
		c.must(err)
		if f, ok := f.(*http2.DataFrame); ok {
			got += len(f.Data())
			c.must(c.fr.WriteWindowUpdate(0, f.Length))
			c.must(c.fr.WriteWindowUpdate(1, f.Length))
		}
		if f, ok := f.(*http2.MetaHeadersFrame); ok && f.StreamEnded() {
			break
		}
	}
	if got != size+5 || most.Load() > 4<<20 {
		t.Errorf("%d bytes came, the heap grew by %d", got, most.Load())
	}
}

// counter counts what an Observer is told.
type counter struct {
	mu      sync.Mutex
	events  []string
	written atomic.Int64 // bytes
	writes  atomic.Int64
}

func (o *counter) note(s string) {
	o.mu.Lock()
	o.events = append(o.events, s)
	o.mu.Unlock()
}
func (o *counter) Started(m string, streaming bool) {
	o.note(fmt.Sprint("started ", m, " ", streaming))
}
func (o *counter) Handled(m string, c rpc.Code, _ time.Duration) {
	o.note(fmt.Sprint("handled ", m, " ", c))
}
func (o *counter) MessageReceived(m string) { o.note("received " + m) }
func (o *counter) MessageSent(m string)     { o.note("sent " + m) }
func (o *counter) Bytes(_, out int) {
	if out > 0 {
		o.writes.Add(1)
		o.written.Add(int64(out))
	}
}

// TestObserver is told of everything in order.
func TestObserver(t *testing.T) {
	o := &counter{}
	s := start(t, rpc.Config{Observer: o}, nil)
	c := s.connect(t)
	c.alive(1)
	c.request(3, "/t.T/Stream", false)
	c.must(c.fr.WriteRSTStream(3, http2.ErrCodeCancel))
	c.alive(5)
	o.mu.Lock()
	defer o.mu.Unlock()
	echo := []string{"started /t.T/Echo false", "received /t.T/Echo", "sent /t.T/Echo", "handled /t.T/Echo OK"}
	want := append(append(echo, "started /t.T/Stream true", "handled /t.T/Stream Canceled"), echo...)
	if strings.Join(o.events, "\n") != strings.Join(want, "\n") {
		t.Errorf("events:\n%s", strings.Join(o.events, "\n"))
	}
}

// TestHold answers a thousand calls of ten connections: that makes ten writes.
func TestHold(t *testing.T) {
	const conns, calls = 10, 100
	o := &counter{}
	p := &parked{}
	s := start(t, rpc.Config{Observer: o}, p.register)
	var cs []*rawClient
	for range conns {
		c := s.connect(t)
		cs = append(cs, c)
		for i := range uint32(calls) {
			c.request(2*i+1, "/t.T/Park", false)
			c.must(c.fr.WriteData(2*i+1, true, message(nil)))
		}
	}
	eventually(t, "all calls arrive", func() bool { return p.count() == conns*calls })
	seen := int64(0)
	for _, c := range cs { // the readers are idle once they have answered a ping sent after the calls
		c.must(c.fr.WritePing(false, [8]byte{9}))
		for {
			f, err := c.fr.ReadFrame()
			c.must(err)
			seen += 9 + int64(f.Header().Length)
			if f, ok := f.(*http2.PingFrame); ok && f.IsAck() {
				break
			}
		}
	}
	eventually(t, "what was written is counted", func() bool { return o.written.Load() == seen })
	before := o.writes.Load()
	s.Hold()
	for i := range calls {
		for j := range conns {
			p.calls[j*calls+i].Reply(rpc.RawMessage("done"))
		}
	}
	if n := o.writes.Load() - before; n != 0 {
		t.Errorf("%d writes while answers were held", n)
	}
	s.Release()
	for _, c := range cs {
		c.await(2*(calls-1) + 1)
	}
	// An answer may be read before its write is counted.
	eventually(t, "all writes are counted", func() bool { return o.writes.Load()-before >= conns })
	if n := o.writes.Load() - before; n != conns {
		t.Errorf("%d answers on %d connections took %d writes", conns*calls, conns, n)
	}
}

// TestAllocations is the budget of a unary call on the server, the handler's own included.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Log("not measured under the race detector, which allocates on its own")
		return
	}
	s := start(t, rpc.Config{}, nil)
	c := newBlaster(t, s.addr, "/t.T/Echo", 256)
	c.round(64)
	if n := testing.AllocsPerRun(100, func() { c.round(64) }) / 64; n > 2.5 {
		t.Errorf("%.1f allocations a call, want at most 2.5: the call, and the handler's message", n)
	}
}

// TestConcurrent has many clients do everything at once.
func TestConcurrent(t *testing.T) {
	s := start(t, rpc.Config{}, nil)
	ctx := within(t)
	var wg sync.WaitGroup
	for range 4 {
		cc := s.dial(t)
		for g := range 32 {
			wg.Go(func() {
				for i := range 20 {
					msg := pattern(i * g * 100)
					if g%4 == 0 {
						st, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/t.T/Stream")
						if err != nil {
							t.Error(err)
							return
						}
						var got []byte
						if err := st.SendMsg(&msg); err != nil {
							t.Error(err)
						}
						if err := st.RecvMsg(&got); err != nil || len(got) != len(msg) {
							t.Error(err, len(got))
						}
						if err := st.CloseSend(); err != nil {
							t.Error(err)
						}
						if err := st.RecvMsg(&got); err != io.EOF {
							t.Error(err)
						}
						continue
					}
					short, cancel := context.WithTimeout(ctx, time.Duration(30+g*i)*time.Second)
					if got, err := call(short, cc, "/t.T/Echo", msg); err != nil || len(got) != len(msg) {
						t.Error(err, len(got))
					}
					cancel()
				}
			})
		}
	}
	wg.Wait()
}

// TestShutdown lets open calls end, refuses new ones, and then closes.
func TestShutdown(t *testing.T) {
	p := &parked{}
	s := start(t, rpc.Config{}, p.register)
	cc := s.dial(t)
	answer := make(chan error, 1)
	go func() {
		_, err := call(within(t), cc, "/t.T/Park", nil)
		answer <- err
	}()
	eventually(t, "the call arrives", func() bool { return p.count() == 1 })
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(within(t)) }()
	eventually(t, "no new connections", func() bool {
		nc, err := net.Dial("tcp", s.addr)
		if err == nil {
			nc.Close()
		}
		return err != nil
	})
	p.calls[0].Reply(rpc.RawMessage("x"))
	if err := <-answer; err != nil {
		t.Errorf("the open call: %v", err)
	}
	if err := <-down; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if _, err := call(within(t), cc, "/t.T/Echo", nil); status.Code(err) != codes.Unavailable {
		t.Errorf("a call after shutdown: %v", err)
	}
}

// TestShutdownCut cuts what does not end in time.
func TestShutdownCut(t *testing.T) {
	p := &parked{}
	s := start(t, rpc.Config{}, p.register)
	c := s.connect(t)
	c.request(1, "/t.T/Park", false)
	c.must(c.fr.WriteData(1, true, message(nil)))
	eventually(t, "the call arrives", func() bool { return p.count() == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); err == nil {
		t.Error("shutdown ended well with a call open")
	}
	<-p.calls[0].Context().Done()
	c.expectGoAway(http2.ErrCodeNo)
}

// TestAge drains a connection that is too old, and serves the client on a new one.
func TestAge(t *testing.T) {
	patiently(t, time.Second, func(t testing.TB, limit time.Duration) {
		s := start(t, rpc.Config{ConnectionAgeMax: limit, ConnectionAgeGrace: 50 * time.Millisecond}, (&parked{}).register)
		c := s.connect(t)
		c.request(1, "/t.T/Park", false)
		c.expectGoAway(http2.ErrCodeNo)
		c = s.connect(t)
		c.alive(1)
		c.expectGoAway(http2.ErrCodeNo)
	})
}

// TestKeepalive pings a silent client, and closes when that does not answer.
func TestKeepalive(t *testing.T) {
	patiently(t, 30*time.Millisecond, func(t testing.TB, limit time.Duration) {
		start(t, rpc.Config{KeepaliveInterval: limit, KeepaliveTimeout: 2 * limit}, nil).connect(t).expectGoAway(http2.ErrCodeNo)
	})
	c := start(t, rpc.Config{KeepaliveInterval: 30 * time.Millisecond, KeepaliveTimeout: time.Minute}, nil).connect(t)
	for pings := 0; pings < 5; {
		f, err := c.fr.ReadFrame()
		c.must(err)
		if p, ok := f.(*http2.PingFrame); ok {
			c.must(c.fr.WritePing(true, p.Data))
			pings++
		}
	}
}

// TestTooManyPings is grpc's enforcement of KeepaliveMinTime.
func TestTooManyPings(t *testing.T) {
	s := start(t, rpc.Config{}, (&parked{}).register)
	c := s.connect(t)
	c.request(1, "/t.T/Park", false)
	for range 5 {
		c.must(c.fr.WritePing(false, [8]byte{}))
	}
	if debug := c.expectGoAway(http2.ErrCodeEnhanceYourCalm); debug != "too_many_pings" {
		t.Errorf("GOAWAY says %q", debug)
	}
}
