package lean

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestEndings plays every way in which a server can end a call.
func TestEndings(t *testing.T) {
	const path = "/etcdserverpb.KV/Put"
	for _, c := range []struct {
		name string
		play func(p *peer, id uint32)
		body string
		code int
		text string // "" expects success; %s is the endpoint
	}{
		{"answer", func(p *peer, id uint32) { p.reply(id, []byte("yes")) }, "yes", 0, ""},
		{"empty message", func(p *peer, id uint32) { p.reply(id, nil) }, "", 0, ""},
		{"answer in pieces", func(p *peer, id uint32) {
			p.open(id)
			m := appendMessage(nil, []byte("in pieces"))
			for i := range m {
				p.check(p.fr.WriteData(id, false, m[i:i+1]))
			}
			p.ok(id)
		}, "in pieces", 0, ""},
		{"padding", func(p *peer, id uint32) {
			p.open(id)
			p.check(p.fr.WriteDataPadded(id, false, appendMessage(nil, []byte("padded")), make([]byte, 200)))
			p.ok(id)
		}, "padded", 0, ""},
		{"continuation", func(p *peer, id uint32) {
			block := p.block(":status", "200", "x-long", strings.Repeat("z", 3000))
			p.check(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:1]}))
			p.check(p.fr.WriteContinuation(id, false, block[1:2]))
			p.check(p.fr.WriteContinuation(id, true, block[2:]))
			p.check(p.fr.WriteData(id, false, appendMessage(nil, []byte("long"))))
			p.ok(id)
		}, "long", 0, ""},
		{"status in trailers", func(p *peer, id uint32) {
			p.open(id)
			p.headers(id, true, "grpc-status", "8", "grpc-message", "etcdserver: too many requests")
		}, "", CodeResourceExhausted, "etcdserver: too many requests"},
		{"trailers only, percent", func(p *peer, id uint32) {
			p.headers(id, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "3", "grpc-message", "100%25 %C3%A4 %zz %")
		}, "", 3, "100% ä %zz %"},
		{"HTTP status", func(p *peer, id uint32) { p.headers(id, true, ":status", "404") }, "", CodeUnknown, `unexpected HTTP status "404" from %s`},
		{"no status", func(p *peer, id uint32) { p.open(id); p.headers(id, true, "x", "y") }, "", CodeUnknown, "the server ended the stream without a grpc-status"},
		{"odd status", func(p *peer, id uint32) { p.open(id); p.headers(id, true, "grpc-status", "x") }, "", CodeUnknown, `grpc-status is "x"`},
		{"no trailers", func(p *peer, id uint32) {
			p.open(id)
			p.check(p.fr.WriteData(id, true, appendMessage(nil, []byte("half"))))
		}, "", CodeInternal, "the server ended the stream without trailers"},
		{"no message", func(p *peer, id uint32) { p.open(id); p.ok(id) }, "", CodeInternal, "a response without a message"},
		{"two messages", func(p *peer, id uint32) {
			p.open(id)
			m := appendMessage(nil, []byte("one"))
			p.check(p.fr.WriteData(id, false, m))
			p.check(p.fr.WriteData(id, false, m))
			p.ok(id)
		}, "", CodeInternal, "a response that is not one message"},
		{"compressed", func(p *peer, id uint32) {
			p.open(id)
			p.check(p.fr.WriteData(id, false, []byte{1, 0, 0, 0, 1, 'x'}))
			p.ok(id)
		}, "", CodeInternal, "a compressed message, which this client did not ask for"},
		{"refused stream", func(p *peer, id uint32) { p.check(p.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream)) }, "", CodeUnavailable, "%s reset the stream: REFUSED_STREAM"},
		{"calm down", func(p *peer, id uint32) { p.check(p.fr.WriteRSTStream(id, http2.ErrCodeEnhanceYourCalm)) }, "", CodeResourceExhausted, "%s reset the stream: ENHANCE_YOUR_CALM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := play(t, Config{}, func(p *peer) {
				// The second round finds headers in the tables, and blocks that were kept.
				for {
					id, got, body, ok := p.request()
					if !ok {
						return
					}
					if got != path || string(body) != "ask" {
						t.Errorf("request %q %q", got, body)
					}
					c.play(p, id)
				}
			})
			for range 3 {
				body, err := call(t, conn, Put, []byte("ask"))
				if c.text != "" {
					wantStatus(t, err, c.code, strings.ReplaceAll(c.text, "%s", conn.Endpoint()))
				} else if err != nil || string(body) != c.body {
					t.Errorf("got %q, %v; want %q", body, err, c.body)
				}
			}
		})
	}
}

// TestConnectionErrors plays what ends a connection; every call under way must end with an error that names the endpoint.
func TestConnectionErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		play func(p *peer, id uint32)
		text string
	}{
		{"closed", func(p *peer, _ uint32) { p.nc.Close() }, "the connection is lost"},
		{"GOAWAY", func(p *peer, _ uint32) {
			p.check(p.fr.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, []byte("too_many_pings")))
			p.drain()
		}, `GOAWAY): ENHANCE_YOUR_CALM: "too_many_pings"`},
		{"no such stream", func(p *peer, _ uint32) { p.check(p.fr.WriteData(99, false, nil)); p.drain() }, "stream 99, which does not exist"},
		{"DATA before HEADERS", func(p *peer, id uint32) { p.check(p.fr.WriteData(id, false, nil)); p.drain() }, "DATA before HEADERS"},
		{"large frame", func(p *peer, id uint32) { p.check(p.fr.WriteRawFrame(0xff, 0, 0, make([]byte, 1<<15))); p.drain() }, "a frame of 32768 bytes"},
		{"push", func(p *peer, id uint32) {
			p.check(p.fr.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, BlockFragment: p.block(":status", "200"), EndHeaders: true}))
			p.drain()
		}, "the server pushes"},
		{"bad headers", func(p *peer, id uint32) {
			p.check(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true}))
			p.drain()
		}, "the server's headers"},
		{"split headers", func(p *peer, id uint32) {
			p.check(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(":status", "200")}))
			p.check(p.fr.WritePing(false, [8]byte{}))
			p.drain()
		}, "inside a header block"},
		{"padding", func(p *peer, id uint32) {
			p.open(id)
			p.check(p.fr.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, id, []byte{9, 1}))
			p.drain()
		}, "more padding than payload"},
		{"window", func(p *peer, _ uint32) { p.check(p.fr.WriteWindowUpdate(0, 1<<31-1)); p.drain() }, "beyond 2^31-1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := play(t, Config{}, func(p *peer) {
				if id, _, _, ok := p.request(); ok {
					c.play(p, id)
				}
			})
			_, err := call(t, conn, Put, []byte("x"))
			var lost *ConnError
			if !errors.As(err, &lost) || lost.Endpoint != conn.Endpoint() || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want the endpoint and %q", err, c.text)
			}
			select {
			case <-conn.Gone():
			case <-time.After(patience):
				t.Fatal("the connection stays")
			}
			if err := conn.Call(Put, raw("x"), newAnswer()); !errors.As(err, &lost) {
				t.Errorf("a call on a lost connection: %v", err)
			}
		})
	}
}

// TestGoAwayLetsAnswersCome: calls that the server will still answer are answered, later ones refused.
func TestGoAwayLetsAnswersCome(t *testing.T) {
	said := make(chan struct{})
	conn := play(t, Config{}, func(p *peer) {
		first, _, _, _ := p.request()
		p.check(p.fr.WriteGoAway(first, http2.ErrCodeNo, nil))
		p.check(p.fr.WritePing(false, [8]byte{1}))
		for {
			if f, ok := p.next().(*http2.PingFrame); ok && f.IsAck() {
				break
			}
		}
		close(said)
		p.reply(first, []byte("late"))
		p.drain()
	})
	a := newAnswer()
	if err := conn.Call(Put, raw("x"), a); err != nil {
		t.Fatal(err)
	}
	_ = conn.Flush() // may already know of the GOAWAY
	<-said
	if err := conn.Call(Put, raw("y"), newAnswer()); !errors.Is(err, ErrGoAway) {
		t.Errorf("a call after GOAWAY: %v", err)
	}
	if body, err := a.wait(t); err != nil || string(body) != "late" {
		t.Errorf("%q %v", body, err)
	}
}

func TestDialErrors(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address := l.Addr().String()
	if _, err := Dial(ctx, Config{Address: address}); err == nil || !strings.Contains(err.Error(), address+": no HTTP/2 settings") {
		t.Errorf("a silent server: %v", err)
	}
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(nc, "HTTP/1.1 400 Bad Request\r\n\r\n")
		}
	}()
	if _, err := Dial(t.Context(), Config{Address: address}); err == nil || !strings.Contains(err.Error(), "is it an HTTP/2 server?") {
		t.Errorf("an HTTP/1 server: %v", err)
	}
	l.Close()
	if _, err := Dial(t.Context(), Config{Address: address}); err == nil || !strings.HasPrefix(err.Error(), address) {
		t.Errorf("nobody there: %v", err)
	}
}

// TestTimeout: a call that takes too long ends, is reset at the server, and the connection goes on.
func TestTimeout(t *testing.T) {
	const limit = 3 * time.Second // the second call must not meet it
	reset := make(chan uint32, 1)
	conn := play(t, Config{Timeout: limit}, func(p *peer) {
		silent, _, _, _ := p.request()
		for {
			if f, ok := p.next().(*http2.RSTStreamFrame); ok {
				reset <- f.StreamID
				break
			}
		}
		id, _, _, _ := p.request()
		p.reply(silent, []byte("too late")) // is ignored
		p.reply(id, []byte("fine"))
		p.drain()
	})
	start := time.Now()
	_, err := call(t, conn, Put, []byte("x"))
	wantStatus(t, err, CodeDeadlineExceeded, statusTimeout.Message)
	if took := time.Since(start); took < limit-5*time.Millisecond {
		t.Errorf("timed out after %v", took)
	}
	if id := <-reset; id != 1 {
		t.Errorf("stream %d was reset", id)
	}
	if body, err := call(t, conn, Put, []byte("y")); err != nil || string(body) != "fine" {
		t.Errorf("%q %v", body, err)
	}
}

// TestSendWindows: what is larger than the server's windows goes out as they open, and interleaves.
func TestSendWindows(t *testing.T) {
	const window = 1000
	big := bytes.Repeat([]byte("abcdefghij"), 4000)
	got := map[uint32]int{}
	conn := play(t, Config{}, func(p *peer) {
		open := 2
		for open > 0 {
			f, ok := p.next().(*http2.DataFrame)
			if !ok {
				continue
			}
			n := len(f.Data())
			if got[f.StreamID] += n; got[f.StreamID] > window && n > window {
				t.Errorf("stream %d sent %d bytes at once", f.StreamID, n)
			}
			p.check(p.fr.WriteWindowUpdate(0, uint32(n)))
			if f.StreamEnded() {
				open--
				p.reply(f.StreamID, []byte("got it"))
				continue
			}
			p.check(p.fr.WriteWindowUpdate(f.StreamID, uint32(n)))
		}
		p.drain()
	}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	a, b := newAnswer(), newAnswer()
	if err := errors.Join(conn.Call(Put, raw(big), a), conn.Call(Put, raw(big), b), conn.Flush()); err != nil {
		t.Fatal(err)
	}
	for _, x := range []*answer{a, b} {
		if body, err := x.wait(t); err != nil || string(body) != "got it" {
			t.Errorf("%q %v", body, err)
		}
	}
	for id, n := range got {
		if n != len(big)+messageHeader {
			t.Errorf("stream %d: %d bytes arrived", id, n)
		}
	}
}

// TestConcurrentStreams: the client keeps the server's limit, and calls beyond it wait their turn.
func TestConcurrentStreams(t *testing.T) {
	const limit, calls = 3, 20
	conn := play(t, Config{}, func(p *peer) {
		var open []uint32
		for served := 0; served < calls; {
			for len(open) < min(limit, calls-served) {
				id, _, _, ok := p.request()
				if !ok {
					return
				}
				open = append(open, id)
			}
			// A fourth would already be in the socket: ask for an answer and see what comes before it.
			p.check(p.fr.WritePing(false, [8]byte{7}))
			if f := p.next(); f == nil || f.Header().Type != http2.FramePing {
				t.Errorf("with %d streams open the client sent %v", len(open), f)
				return
			}
			p.reply(open[0], []byte("next"))
			open, served = open[1:], served+1
		}
		p.drain()
	}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: limit})
	var all []*answer
	for range calls {
		a := newAnswer()
		all = append(all, a)
		if err := conn.Call(Put, raw("x"), a); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if _, err := a.wait(t); err != nil {
			t.Error(err)
		}
	}
}

// TestClose completes what is under way.
func TestClose(t *testing.T) {
	conn := play(t, Config{}, func(p *peer) { p.drain() }, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
	a, b := newAnswer(), newAnswer()
	if err := errors.Join(conn.Call(Put, raw("x"), a), conn.Call(Put, raw("x"), b), conn.Flush()); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	for _, x := range []*answer{a, b} {
		if _, err := x.wait(t); !errors.Is(err, ErrClosed) {
			t.Errorf("%v", err)
		}
	}
}

// TestReceiveWindows: the client gives windows back, so a response larger than they are arrives; one that stalls does not.
func TestReceiveWindows(t *testing.T) {
	const size = StreamWindow + 1<<20
	body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	send := func(p *peer) (sent int) {
		id, _, _, ok := p.request()
		if !ok {
			return 0
		}
		credit := make(chan int, 1<<16)
		go func() {
			defer close(credit)
			for {
				f, err := p.fr.ReadFrame()
				if err != nil {
					return
				}
				if w, ok := f.(*http2.WindowUpdateFrame); ok && w.StreamID == id {
					credit <- int(w.Increment)
				}
			}
		}()
		p.open(id)
		window := StreamWindow
		for m := appendMessage(nil, body); len(m) > 0; {
			for window == 0 {
				n, ok := <-credit
				if !ok {
					return sent
				}
				window += n
			}
			n := min(len(m), defaultFrame, window)
			if p.fr.WriteData(id, false, m[:n]) != nil {
				return sent
			}
			m, window, sent = m[n:], window-n, sent+n
		}
		p.ok(id)
		for range credit {
			continue
		}
		return sent
	}
	conn := play(t, Config{}, func(p *peer) { send(p) })
	if got, err := call(t, conn, Range, []byte("all")); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes of %d, %v", len(got), len(body), err)
	}
}

// TestPing is answered.
func TestPing(t *testing.T) {
	ponged := make(chan [8]byte, 1)
	play(t, Config{}, func(p *peer) {
		p.check(p.fr.WritePing(false, [8]byte{1, 2, 3}))
		if f, ok := p.next().(*http2.PingFrame); ok && f.IsAck() {
			ponged <- f.Data
		}
		p.drain()
	})
	select {
	case data := <-ponged:
		if data != [8]byte{1, 2, 3} {
			t.Errorf("%v", data)
		}
	case <-time.After(patience):
		t.Fatal("no answer to a PING")
	}
}

// TestHeaderTable: methods used in turn, and a server that shrinks the table, leave the two tables in step.
func TestHeaderTable(t *testing.T) {
	conn := play(t, Config{Token: "secret"}, func(p *peer) {
		for i := 0; ; i++ {
			var id uint32
			for id == 0 {
				switch f := p.next().(type) {
				case nil:
					return
				case *http2.MetaHeadersFrame:
					fields := map[string]string{}
					for _, x := range f.Fields {
						fields[x.Name] = x.Value
					}
					if fields["token"] != "secret" || fields["content-type"] != "application/grpc" || fields["te"] != "trailers" || fields[":method"] != "POST" {
						t.Errorf("%v", fields)
					}
					p.reply(f.StreamID, []byte(fields[":path"]))
				case *http2.DataFrame:
					id = f.StreamID
				}
			}
			if i == 10 {
				p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 100}))
			}
		}
	})
	for i := range 40 {
		m := Method(i) % methods
		if body, err := call(t, conn, m, nil); err != nil || string(body) != m.String() {
			t.Fatalf("call %d: %q %v, want %q", i, body, err, m)
		}
	}
}
