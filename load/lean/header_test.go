package lean

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// heard is a request's header list as the server decoded it.
type heard []hpack.HeaderField

func (h heard) get(name string) (values []string) {
	for _, f := range h {
		if f.Name == name {
			values = append(values, f.Value)
		}
	}
	return values
}

// echo answers every request and reports its headers.
func echo(to chan<- heard) func(p *peer) {
	return func(p *peer) {
		for {
			switch f := p.next().(type) {
			case nil:
				return
			case *http2.MetaHeadersFrame:
				to <- slices.Clone(f.Fields)
			case *http2.DataFrame:
				if f.StreamEnded() {
					p.reply(f.StreamID, []byte("answer"))
				}
			}
		}
	}
}

// callWith makes one call and waits.
func callWith(t testing.TB, c *Conn, h *Header, timeout time.Duration) ([]byte, error) {
	t.Helper()
	a := newAnswer()
	if _, err := c.CallWith(h, timeout, raw("request"), a); err != nil {
		return nil, err
	}
	if err := c.Flush(); err != nil {
		t.Logf("flush: %v", err)
	}
	return a.wait(t)
}

func header(t testing.TB, fields ...Field) *Header {
	t.Helper()
	h, err := NewHeader("/service/Method", fields...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestHeader: every call says what its Header says and nothing of another's, whatever is remembered of encodings, however many
// Headers there are, and however large they are.
func TestHeader(t *testing.T) {
	requests := make(chan heard, 1)
	c := play(t, Config{Token: "the connection's"}, echo(requests))
	large := strings.Repeat("l", 50<<10) // goes on in CONTINUATION frames
	var headers []*Header
	var tokens []string
	for i := range headersKept + 20 {
		token := strings.Repeat(string(rune('a'+i%26)), i%30+1)
		if i == 7 {
			token = large
		}
		tokens = append(tokens, token)
		headers = append(headers, header(t, Field{"token", token}, Field{"x-bin", "\x00\xff"}))
	}
	for round := range 3 {
		for i, h := range headers {
			var timeout time.Duration
			if i%3 == 0 {
				timeout = time.Duration(i+1) * time.Minute
			}
			if body, err := callWith(t, c, h, timeout); err != nil || string(body) != "answer" {
				t.Fatalf("round %d, call %d: %q %v", round, i, body, err)
			}
			got := <-requests
			if !slices.Equal(got.get("token"), []string{tokens[i]}) || got.get(":path")[0] != "/service/Method" || got.get("x-bin")[0] != "AP8" {
				t.Fatalf("round %d, call %d: %.300v", round, i, got)
			}
			if given := got.get("grpc-timeout"); (len(given) == 1) != (timeout > 0) {
				t.Fatalf("call %d with timeout %v says %q", i, timeout, given)
			}
		}
		if _, err := call(t, c, Put, nil); err != nil {
			t.Fatal(err)
		}
		if got := <-requests; !slices.Equal(got.get("token"), []string{"the connection's"}) {
			t.Fatalf("a call without a Header: %v", got)
		}
	}
}

// TestHeaderRefused: what HTTP/2 could not carry, or would misunderstand, is refused beforehand.
func TestHeaderRefused(t *testing.T) {
	for _, f := range []Field{
		{"", "v"}, {"Upper", "v"}, {"with space", "v"}, {":path", "v"}, {"te", "v"}, {"content-type", "v"}, {"grpc-timeout", "1S"},
		{"connection", "v"}, {"a", "line\nbreak"}, {"a", "\x00"}, {"a", " padded"}, {"a", strings.Repeat("v", headerBytesMax)},
	} {
		if _, err := NewHeader("/a/b", f); err == nil {
			t.Errorf("%.40q is accepted", f)
		}
	}
	for _, path := range []string{"", "/", "a/b", "/a\n"} {
		if _, err := NewHeader(path); err == nil {
			t.Errorf("path %q is accepted", path)
		}
	}
	if h, err := Watch.Header(Field{"hasleader", "true"}); err != nil || h.Path() != "/etcdserverpb.Watch/Watch" {
		t.Errorf("%v %v", h, err)
	}
}

// TestTimeoutText: at most eight digits, never less than was meant.
func TestTimeoutText(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1: "1n", 99_999_999: "99999999n", 100_000_000: "100000u", 100_000_001: "100001u", 100 * time.Second: "100000m", 30 * time.Hour: "108000S",
		time.Duration(1<<63 - 1): "2562048H", 365 * 24 * time.Hour: "31536000S", 10 * 365 * 24 * time.Hour: "5256000M",
	} {
		if got := string(appendTimeout(nil, d)); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// TestCancelCall: a call that was taken back is reset and never completed; one that was completed cannot be taken back, nor can
// another that uses its memory.
func TestCancelCall(t *testing.T) {
	resets := make(chan uint32, 1)
	c := play(t, Config{}, func(p *peer) {
		first := true
		for {
			switch f := p.next().(type) {
			case nil:
				return
			case *http2.DataFrame:
				if !first {
					p.reply(f.StreamID, []byte("answer"))
				}
				first = false
			case *http2.RSTStreamFrame:
				resets <- f.StreamID
			}
		}
	})
	h := header(t)
	canceled := newAnswer()
	ticket, err := c.CallWith(h, 0, raw("request"), canceled)
	if err != nil || c.Flush() != nil {
		t.Fatal(err)
	}
	if !ticket.Cancel() {
		t.Error("a call under way cannot be taken back")
	}
	_ = c.Flush()
	if id := <-resets; id != 1 {
		t.Errorf("stream %d was reset", id)
	}
	for range 10 {
		a := newAnswer()
		ticket, err := c.CallWith(h, 0, raw("request"), a)
		if err != nil || c.Flush() != nil {
			t.Fatal(err)
		}
		if body, err := a.wait(t); err != nil || string(body) != "answer" {
			t.Errorf("%q %v", body, err)
		}
		if ticket.Cancel() {
			t.Error("a completed call was taken back")
		}
	}
	if (Ticket{}).Cancel() {
		t.Error("no call was taken back")
	}
	c.Close()
	select {
	case <-canceled.ended:
		t.Error("a call that was taken back was completed")
	default:
	}
}

// TestUnprocessed: calls that the server said it did not look at are told apart from those it may have.
func TestUnprocessed(t *testing.T) {
	c := play(t, Config{}, func(p *peer) {
		seen := 0
		for {
			next := p.next()
			if next == nil {
				return
			}
			f, ok := next.(*http2.DataFrame)
			if !ok {
				continue
			}
			switch seen++; seen {
			case 1:
				p.check(p.fr.WriteRSTStream(f.StreamID, http2.ErrCodeRefusedStream))
			case 2:
				p.check(p.fr.WriteRSTStream(f.StreamID, http2.ErrCodeInternal))
			case 4:
				p.check(p.fr.WriteGoAway(f.StreamID-2, http2.ErrCodeNo, nil))
				if tcp, ok := p.nc.(*net.TCPConn); ok {
					p.check(tcp.CloseWrite()) // without an answer to the third
				}
			}
		}
	})
	h := header(t)
	_, err := callWith(t, c, h, 0)
	if !Unprocessed(err) {
		t.Errorf("refused: %v", err)
	}
	wantStatus(t, err, CodeUnavailable, c.Endpoint()+" reset the stream: REFUSED_STREAM")
	if _, err := callWith(t, c, h, 0); err == nil || Unprocessed(err) {
		t.Errorf("reset: %v", err)
	}
	third, fourth := newAnswer(), newAnswer()
	for _, a := range []*answer{third, fourth} {
		if _, err := c.CallWith(h, 0, raw("request"), a); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.Flush()
	if _, err := third.wait(t); err == nil || Unprocessed(err) {
		t.Errorf("lost: %v", err)
	}
	if _, err := fourth.wait(t); !Unprocessed(err) || !errors.Is(err, ErrGoAway) {
		t.Errorf("sent away: %v", err)
	}
}

// gatherer takes a stream's messages, and headers.
type gatherer struct {
	sizes    chan int
	ends     chan error
	headers  []Field
	trailers []Field
}

func (c *gatherer) Message(body []byte) { c.sizes <- len(body) }
func (c *gatherer) End(err error)       { c.ends <- err }
func (c *gatherer) Headers(metadata []Field, trailers bool) {
	if trailers {
		c.trailers = append(c.trailers, metadata...)
	} else {
		c.headers = append(c.headers, metadata...)
	}
}

// TestPaced: a server cannot send more than the window ahead of Credit, in messages of any size, those larger than the window
// among them; and all of it arrives once there is credit.
func TestPaced(t *testing.T) {
	const window = 64 << 10
	sizes := []int{10, 5 * window, 0, window, 3*window + 1, 100, window / 4}
	for range 200 {
		sizes = append(sizes, window/8)
	}
	sent := make(chan int, 1) // payload bytes that the server could send without any Credit
	c := play(t, Config{Window: window}, func(p *peer) {
		var all []byte
		for _, n := range sizes {
			all = appendMessage(all, make([]byte, n))
		}
		left, conn, total := window, ConnWindow, 0
		opened := false
		for len(all) > 0 || !opened {
			n := min(left, len(all), 16<<10)
			if opened && n > 0 {
				p.check(p.fr.WriteData(1, false, all[:n]))
				all, left, conn, total = all[n:], left-n, conn-n, total+n
				continue
			}
			if opened && len(sent) == 0 {
				select {
				case sent <- total:
				default:
				}
			}
			f, err := p.fr.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.MetaHeadersFrame:
				p.headers(1, false, ":status", "200", "content-type", "application/grpc", "x-head", "1", "y-bin", "AP8")
				opened = true
			case *http2.WindowUpdateFrame:
				if f.StreamID == 1 {
					left += int(f.Increment)
				}
			}
		}
		p.headers(1, true, "grpc-status", "0", "x-tail", "2")
		p.drain()
	})
	got := &gatherer{sizes: make(chan int, len(sizes)), ends: make(chan error, 1)}
	s, err := c.OpenWith(header(t), 0, Paced, got)
	if err != nil || s.Send(raw("request"), true) != nil || c.Flush() != nil {
		t.Fatal(err)
	}
	for i, want := range sizes {
		var n int
		select {
		case n = <-got.sizes:
		case <-time.After(patience):
			t.Fatalf("message %d does not come", i)
		}
		if n != want {
			t.Fatalf("message %d has %d bytes, want %d", i, n, want)
		}
		s.Credit(n)
		_ = c.Flush()
	}
	select {
	case err := <-got.ends:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the stream does not end")
	}
	if want := []Field{{"x-head", "1"}, {"y-bin", "\x00\xff"}}; !slices.Equal(got.headers, want) || !slices.Equal(got.trailers, []Field{{"x-tail", "2"}}) {
		t.Errorf("headers %q, trailers %q", got.headers, got.trailers)
	}
}

// TestPacedHeldBack: without Credit the server can send no more than the window and what is assembled.
func TestPacedHeldBack(t *testing.T) {
	const window, size = 64 << 10, 8 << 10
	sent := make(chan int, 1)
	more := make(chan struct{})
	c := play(t, Config{Window: window}, func(p *peer) {
		if _, _, _, ok := p.request(); !ok {
			return
		}
		p.open(1)
		total := 0
		for total+size+messageHeader <= window {
			p.check(p.fr.WriteData(1, false, appendMessage(nil, make([]byte, size))))
			total += size + messageHeader
		}
		sent <- total
		<-more
		for {
			f, err := p.fr.ReadFrame()
			if err != nil {
				return
			}
			if w, ok := f.(*http2.WindowUpdateFrame); ok && w.StreamID == 1 {
				sent <- int(w.Increment)
			}
		}
	})
	got := &gatherer{sizes: make(chan int, 100), ends: make(chan error, 1)}
	s, err := c.OpenWith(header(t), 0, Paced, got)
	if err != nil || s.Send(raw("request"), true) != nil || c.Flush() != nil {
		t.Fatal(err)
	}
	total := <-sent
	n := total / (size + messageHeader)
	for range n {
		<-got.sizes
	}
	close(more)
	// Nothing but prefixes was given back so far, which is too little to be told; a third of the messages is told at once.
	for range n/3 + 1 {
		s.Credit(size)
	}
	_ = c.Flush()
	if back, most := <-sent, (n/3+1)*size+n*messageHeader; back < window/4 || back > most {
		t.Errorf("%d bytes were given back, at most %d were dealt with", back, most)
	}
}
