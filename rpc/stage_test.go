//go:build !race

package rpc

import (
	"bytes"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// The stages of a call apart: what a header block, an answer and a shared message cost without sockets. Their budgets are
// allocations, which do not depend on the machine; the benchmarks give the times.

// stage is one of them, ready to run again and again.
type stage struct {
	name   string
	budget float64 // allocations
	run    func()
}

// blocks gives what a client that sends the same headers writes: the first block fills the tables, the others refer to
// them. changing puts a grpc-timeout into every block that the tables do not have.
func blocks(t testing.TB, changing bool) (first []byte, next func() []byte) {
	var buf bytes.Buffer
	enc := hpack.NewEncoder(&buf)
	n := 0
	next = func() []byte {
		buf.Reset()
		for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/etcdserverpb.KV/Put"}, {":authority", "127.0.0.1:2379"},
			{"content-type", grpcContentType}, {"user-agent", "grpc-go/1.83.2"}, {"te", "trailers"}} {
			if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
				t.Fatal(err)
			}
		}
		if changing {
			n++
			if err := enc.WriteField(hpack.HeaderField{Name: "grpc-timeout", Value: "49" + string(rune('0'+n%10)) + string(rune('0'+n/10%10)) + "m"}); err != nil {
				t.Fatal(err)
			}
		}
		return buf.Bytes()
	}
	return bytes.Clone(next()), next
}

func stages(t testing.TB) []stage {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	s.Unary("/etcdserverpb.KV/Put", func(*Call, []byte) {})
	decode := func(changing bool) func() {
		h := new(headReader)
		h.init()
		read := func(block []byte) {
			if k := h.blocks.recall(block); k != nil {
				return
			}
			h.begin(1, false, false)
			if _, err := h.dec.Write(block); err != nil {
				t.Fatal(err)
			}
			req, err := h.end(s.routes)
			if err != nil || req.route == nil {
				t.Fatal(req, err)
			}
			h.blocks.learn(block, req, h.timeout)
		}
		first, next := blocks(t, changing)
		read(first)
		same := bytes.Clone(next())
		read(same)
		if !changing {
			return func() { read(same) }
		}
		return func() { read(next()) }
	}
	c := &conn{srv: s, streams: map[uint32]*exchange{}}
	c.w.c, c.w.window = c, 1<<40
	x := &exchange{c: c, id: 1, req: &request{contentType: grpcContentType}}
	x.role = &Stream{}
	x.out.window = 1 << 40
	written := func() {
		c.collect()
		for _, b := range c.try.bufs {
			recycle(b)
		}
		c.wrote(nil)
		x.out.window, c.w.window = 1<<40, 1<<40
	}
	answer, head, body := RawMessage(make([]byte, 32)), make([]byte, 40), make([]byte, 10_000)
	return []stage{
		{"header block, known", 0, decode(false)},
		{"header block, a new timeout", 2, decode(true)},
		{"answer", 1, func() {
			x.out.begun = false
			c.w.send(x, answer, len(answer))
			c.w.appendTrailers(x)
			written()
		}},
		{"shared message", 0, func() { c.w.sendShared(x, head, body); written() }},
		{"shared message behind a window", 1, func() {
			x.out.window = 0
			c.w.sendShared(x, head, body)
			x.out.window = 1 << 40
			c.w.schedule(x)
			c.w.pump()
			written()
		}},
		{"large message", 3, func() {
			c.w.send(x, RawMessage(body[:]), len(body))
			c.w.enqueue(x, appendMessage(newMessage(100_000), RawMessage(body), len(body)), ownerRecycle)
			c.w.pump()
			written()
		}},
	}
}

// TestStageBudgets holds every stage to its allocations.
func TestStageBudgets(t *testing.T) {
	for _, s := range stages(t) {
		for range 10 {
			s.run()
		}
		if got := testing.AllocsPerRun(500, s.run); got > s.budget {
			t.Errorf("%s: %v allocations, budget %v", s.name, got, s.budget)
		} else {
			t.Logf("%s: %v allocations", s.name, got)
		}
	}
}

// BenchmarkStages gives their times.
func BenchmarkStages(b *testing.B) {
	for _, s := range stages(b) {
		b.Run(s.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.run()
			}
		})
	}
}
