package rpc_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"quorate.dev/quorate/rpc"
)

// TestEqualBlocksOfOtherMeaning sends the same bytes as a header block before and after the tables have changed: they mean
// another method then.
func TestEqualBlocksOfOtherMeaning(t *testing.T) {
	name := func(c *rpc.Call, _ []byte) { c.Reply(rpc.RawMessage(c.Method() + c.Metadata("x-key"))) }
	s := start(t, rpc.Config{}, func(s *rpc.Server) {
		for i := range 3 {
			s.Unary(fmt.Sprintf("/t.T/M%d", i), name)
		}
	})
	c := s.connect(t)
	id := uint32(1)
	send := func(block []byte, want string) {
		t.Helper()
		c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: block}))
		c.must(c.fr.WriteData(id, true, message(nil)))
		if a := c.await(id); string(a.data) != string(message([]byte(want))) {
			t.Errorf("stream %d: %v %q, want %s", id, a, a.data, want)
		}
		id += 2
	}
	// Static entries are 3 (:method POST) and 6 (:scheme http); the others enter the dynamic table, newest at 62.
	literal := func(dst []byte, name, value string) []byte {
		dst = append(append(dst, 0x40, byte(len(name))), name...)
		return append(append(dst, byte(len(value))), value...)
	}
	var first []byte
	for _, f := range [][2]string{{":authority", "x"}, {":path", "/t.T/M0"}, {"content-type", "application/grpc"}} {
		first = literal(first, f[0], f[1])
	}
	first = append([]byte{0x83, 0x86}, first...)
	known := []byte{0x83, 0x86, 0x80 | 64, 0x80 | 63, 0x80 | 62} // all from the tables
	send(first, "/t.T/M0")
	send(known, "/t.T/M0")
	send(known, "/t.T/M0")
	// The same three fields with another path: all indexes mean the new ones afterwards.
	second := slices.Concat([]byte{0x83, 0x86}, literal(literal(literal(nil, ":authority", "x"), ":path", "/t.T/M1"), "content-type", "application/grpc"))
	send(second, "/t.T/M1")
	send(known, "/t.T/M1")
	send([]byte{0x83, 0x86, 0x80 | 67, 0x80 | 66, 0x80 | 65}, "/t.T/M0")
	send(known, "/t.T/M1")
	// A block in two pieces changes the tables, too.
	third := slices.Concat([]byte{0x83, 0x86}, literal(literal(literal(nil, ":authority", "x"), ":path", "/t.T/M2"), "content-type", "application/grpc"))
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: third[:7]}))
	c.must(c.fr.WriteContinuation(id, true, third[7:]))
	c.must(c.fr.WriteData(id, true, message(nil)))
	if a := c.await(id); string(a.data) != string(message([]byte("/t.T/M2"))) {
		t.Errorf("%q", a.data)
	}
	id += 2
	send(known, "/t.T/M2")
	// A table size update empties the table: the indexes mean nothing any more.
	empty := slices.Concat([]byte{0x20, 0x3f, 0xe1, 0x1f}, first)
	send(empty, "/t.T/M0")
	send(known, "/t.T/M0")
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: []byte{0x83, 0x86, 0x80 | 67}}))
	c.expectGoAway(http2.ErrCodeCompression)
}

// TestRandomBlocks sends many calls whose headers come and go from the tables, and compares what the handler sees.
func TestRandomBlocks(t *testing.T) {
	s := start(t, rpc.Config{}, func(s *rpc.Server) {
		s.Unary("/t.T/Show", func(c *rpc.Call, _ []byte) {
			at, ok := c.Deadline()
			long := ok && time.Until(at) > time.Minute
			c.Reply(rpc.RawMessage(fmt.Sprint(c.MetadataValues("x-a"), c.MetadataValues("x-b"), ok, long)))
		})
	})
	c := s.connect(t)
	id := uint32(1)
	for i := range 2000 {
		fields := plainRequest("/t.T/Show")
		var a, b []string
		if i%3 > 0 {
			a = append(a, fmt.Sprint(i/50%4))
			fields = append(fields, hpack.HeaderField{Name: "x-a", Value: a[0]})
		}
		if i%2 > 0 {
			b = append(b, fmt.Sprint(i/300))
			fields = append(fields, hpack.HeaderField{Name: "x-b", Value: b[0], Sensitive: i%7 == 0})
		}
		timeout := i / 4 % 3 // none, short, long
		if timeout > 0 {
			fields = append(fields, hpack.HeaderField{Name: "grpc-timeout", Value: []string{"", "30S", "30M"}[timeout]})
		}
		c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: c.block(fields...)}))
		c.must(c.fr.WriteData(id, true, message(nil)))
		want := fmt.Sprint(a, b, timeout > 0, timeout > 1)
		if got := c.await(id); string(got.data) != string(message([]byte(want))) {
			t.Fatalf("call %d: %q, want %q", i, got.data, want)
		}
		id += 2
		if i%100 == 99 {
			c.must(c.fr.WriteWindowUpdate(0, 60_000))
		}
	}
}

// TestPingWithCallsInFlight sends pings while a call waits: answers to pings may wait for company, but not for long.
func TestPingWithCallsInFlight(t *testing.T) {
	calls := make(chan *rpc.Call, 1)
	s := start(t, rpc.Config{}, func(s *rpc.Server) {
		s.Unary("/t.T/Park", func(c *rpc.Call, _ []byte) { calls <- c })
	})
	c := s.connect(t)
	c.request(1, "/t.T/Park", false)
	c.must(c.fr.WriteData(1, true, message(nil)))
	parked := <-calls
	for i := range 3 {
		data := [8]byte{byte(i)}
		c.must(c.fr.WritePing(false, data))
		for {
			f, err := c.fr.ReadFrame()
			c.must(err)
			if p, ok := f.(*http2.PingFrame); ok && p.IsAck() {
				if p.Data != data {
					t.Errorf("ping %d was answered with %v", i, p.Data)
				}
				break
			}
		}
		// Headers between the pings keep the client from being taken for one that pings too much.
		c.alive(uint32(3 + 2*i))
	}
	parked.Reply(rpc.RawMessage("late"))
	if a := c.await(1); string(a.data) != string(message([]byte("late"))) {
		t.Errorf("%v", a)
	}
}
