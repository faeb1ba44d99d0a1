package grpcapi_test

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/command"
)

// wireClient speaks just enough HTTP/2 to make one call after the other without allocating.
type wireClient struct {
	t      testing.TB
	conn   net.Conn
	stream uint32
	head   []byte // HPACK of the request's headers: literals that enter the table
	again  []byte // the same from the table, for the calls after the first
	body   []byte // the length-prefixed message
	out    []byte
	in     []byte
	grpc   []byte // what the last call's DATA frames held
}

func dialWire(t testing.TB, addr, path string, m proto.Message, more ...string) *wireClient {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &wireClient{t: t, conn: conn, stream: 1, in: make([]byte, 1<<17)}
	headers := []string{":method", "POST", ":scheme", "http", ":path", path, ":authority", "x",
		"content-type", "application/grpc", "te", "trailers", "hasleader", "true"}
	headers = append(headers, more...)
	for i, h := range headers {
		if i%2 == 0 {
			c.head = append(c.head, 0x40) // literal with indexing, new name
			c.again = append(c.again, 0x80|byte(62+(len(headers)-i)/2-1))
		}
		c.head = append(append(c.head, byte(len(h))), h...)
	}
	msg, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	c.body = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(msg))), msg...)
	hello := append([]byte(http2.ClientPreface), 0, 0, 0, byte(http2.FrameSettings), 0, 0, 0, 0, 0)
	// A connection window that lasts for the test.
	hello = append(hello, 0, 0, 4, byte(http2.FrameWindowUpdate), 0, 0, 0, 0, 0, 0x40, 0, 0, 0)
	if _, err := conn.Write(hello); err != nil {
		t.Fatal(err)
	}
	return c
}

func frame(dst []byte, kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) []byte {
	dst = append(dst, byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)), byte(kind), byte(flags))
	return append(binary.BigEndian.AppendUint32(dst, stream), payload...)
}

// call makes one call and waits for its end.
func (c *wireClient) call() {
	c.out = frame(c.out[:0], http2.FrameHeaders, http2.FlagHeadersEndHeaders, c.stream, c.head)
	c.out = frame(c.out, http2.FrameData, http2.FlagDataEndStream, c.stream, c.body)
	c.head = c.again
	if _, err := c.conn.Write(c.out); err != nil {
		c.t.Fatal(err)
	}
	c.grpc = c.grpc[:0]
	for {
		if _, err := io.ReadFull(c.conn, c.in[:9]); err != nil {
			c.t.Fatal(err)
		}
		size := int(c.in[0])<<16 | int(c.in[1])<<8 | int(c.in[2])
		kind, flags, stream := http2.FrameType(c.in[3]), http2.Flags(c.in[4]), binary.BigEndian.Uint32(c.in[5:])
		if _, err := io.ReadFull(c.conn, c.in[:size]); err != nil {
			c.t.Fatal(err)
		}
		switch {
		case kind == http2.FrameGoAway || kind == http2.FrameRSTStream:
			c.t.Fatalf("%v: %q", kind, c.in[:size])
		case stream != c.stream:
		case kind == http2.FrameData:
			c.grpc = append(c.grpc, c.in[:size]...)
		case flags.Has(http2.FlagHeadersEndStream):
			c.stream += 2
			return
		}
	}
}

// instant is a node that answers every proposal at once, so that only the way through rpc and this package is measured.
type instant struct {
	*store
	result command.Result
}

func (n *instant) ProposeAs(_ command.Kind, _ []byte, _ string, _ uint64, w command.Waiter) {
	w.Complete(&n.result)
}

// TestAllocations holds the way of a call through rpc and this package to a budget, reader to writer, client not counted.
func TestAllocations(t *testing.T) {
	st := newStore(t)
	s := serve(t, st, settings())
	s.put(t, "key", strings.Repeat("v", 256))
	addr := serveNode(t, st, &instant{store: st, result: command.Result{Revision: 7}}, settings())
	key := []byte("key")
	for _, c := range []struct {
		name, path string
		req        proto.Message
		budget     float64
	}{
		{"Put", "/etcdserverpb.KV/Put", &pb.PutRequest{Key: key, Value: make([]byte, 256), PrevKv: true}, 2},
		{"Range", "/etcdserverpb.KV/Range", &pb.RangeRequest{Key: key}, 2},
		{"Range, serializable", "/etcdserverpb.KV/Range", &pb.RangeRequest{Key: key, Serializable: true}, 2},
	} {
		w := dialWire(t, addr, c.path, c.req)
		for range 100 {
			w.call()
		}
		if len(w.grpc) < 10 {
			t.Fatalf("%s: answer %x", c.name, w.grpc)
		}
		got := testing.AllocsPerRun(500, w.call)
		t.Logf("%s: %v allocations", c.name, got)
		if got > c.budget && !poolsForget {
			t.Errorf("%s: %v allocations, budget %v", c.name, got, c.budget)
		}
	}
}

// TestAllocationsOfUsers holds the same calls to a budget while authentication is enabled and a user makes them who is not root.
func TestAllocationsOfUsers(t *testing.T) {
	s := secured(t)
	s.as(t, "root").put(t, "key", strings.Repeat("v", 256))
	token := s.token(t, "both")
	addr := serveNode(t, s.store, &instant{store: s.store, result: command.Result{Revision: 7}}, settings())
	key := []byte("key")
	for _, c := range []struct {
		name, path string
		req        proto.Message
		budget     float64
	}{
		{"Put", "/etcdserverpb.KV/Put", &pb.PutRequest{Key: key, Value: make([]byte, 256), PrevKv: true}, 2},
		{"Range", "/etcdserverpb.KV/Range", &pb.RangeRequest{Key: key}, 2},
	} {
		w := dialWire(t, addr, c.path, c.req, "token", token)
		for range 100 {
			w.call()
		}
		if len(w.grpc) < 10 {
			t.Fatalf("%s: answer %x", c.name, w.grpc)
		}
		got := testing.AllocsPerRun(500, w.call)
		t.Logf("%s: %v allocations", c.name, got)
		if got > c.budget && !poolsForget {
			t.Errorf("%s: %v allocations, budget %v", c.name, got, c.budget)
		}
	}
}
