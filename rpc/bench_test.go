package rpc_test

import (
	"bytes"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"quorate.dev/quorate/rpc"
)

// BenchmarkUnary measures a 256-byte echo by grpc-go's client, whose own cost dominates.
func BenchmarkUnary(b *testing.B) {
	cc := start(b, rpc.Config{}, nil).dial(b)
	msg := pattern(256)
	ctx := within(b)
	b.ReportAllocs()
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := call(ctx, cc, "/t.T/Echo", msg); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkUnaryServer measures the server alone: the client writes prepared frames and throws the answers away, 64 calls
// a round on each of 8 connections. What it reports as cpu-ns/op is the CPU of the whole process, kernel included.
// The allocations are the server's.
func BenchmarkUnaryServer(b *testing.B) {
	b.Run("reader", func(b *testing.B) { benchmarkServer(b, nil, "/t.T/Echo") })
	b.Run("completion", func(b *testing.B) {
		batch := make(chan *rpc.Call, 4096)
		done := make(chan struct{})
		defer func() { close(batch); <-done }()
		benchmarkServer(b, func(s *rpc.Server) {
			s.Unary("/t.T/Later", func(c *rpc.Call, _ []byte) { batch <- c })
			go func() {
				defer close(done)
				completer(s, batch)
			}()
		}, "/t.T/Later")
	})
}

// completer answers like an apply loop: all that waits, in one batch.
func completer(s *rpc.Server, calls <-chan *rpc.Call) {
	answer := rpc.RawMessage(pattern(64))
	for c := range calls {
		s.Hold()
		for {
			c.Reply(answer)
			select {
			case c = <-calls:
				if c != nil {
					continue
				}
			default:
			}
			break
		}
		s.Release()
	}
}

func benchmarkServer(b *testing.B, register func(*rpc.Server), method string) {
	const conns, depth = 8, 64
	s := start(b, rpc.Config{}, register)
	cs := make([]*blaster, conns)
	for i := range cs {
		cs[i] = newBlaster(b, s.addr, method, 256)
		cs[i].round(depth)
	}
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	var wg sync.WaitGroup
	for _, c := range cs {
		wg.Go(func() {
			for n := b.N / conns; n > 0; n -= depth {
				c.round(min(n, depth))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// blaster is a client that costs next to nothing: it sends copies of one request and counts ended streams.
type blaster struct {
	b     testing.TB
	nc    net.Conn
	block []byte // the request's header block, all fields indexed
	data  []byte // the request's DATA payload
	next  uint32
	out   []byte
	in    []byte
	have  int
}

func newBlaster(b testing.TB, addr, method string, size int) *blaster {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { nc.Close() })
	c := &blaster{b: b, nc: nc, next: 1, in: make([]byte, 1<<20)}
	c.data = append([]byte{0, 0, 0, byte(size >> 8), byte(size)}, pattern(size)...)
	var buf bytes.Buffer
	fr := http2.NewFramer(&buf, nil)
	buf.WriteString(http2.ClientPreface)
	c.must(fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}))
	c.must(fr.WriteWindowUpdate(0, 1<<30))
	_, err = nc.Write(buf.Bytes())
	c.must(err)
	// The first request fills the server's table, so that the second encoding is all indexes.
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for range 2 {
		block.Reset()
		for _, f := range requestFields(method) {
			c.must(enc.WriteField(f))
		}
		if c.block == nil {
			c.block = bytes.Clone(block.Bytes())
			c.round(1)
		}
	}
	c.block = bytes.Clone(block.Bytes())
	return c
}

// requestFields are the headers grpc-go sends.
func requestFields(method string) []hpack.HeaderField {
	return []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: method},
		{Name: ":authority", Value: "127.0.0.1:2379"}, {Name: "content-type", Value: "application/grpc"},
		{Name: "user-agent", Value: "grpc-go/1.83.2"}, {Name: "te", Value: "trailers"}, {Name: "grpc-timeout", Value: "4999m"},
	}
}

func (c *blaster) must(err error) {
	if err != nil {
		c.b.Fatal(err)
	}
}

// round sends n requests in one write and reads until n streams have ended.
func (c *blaster) round(n int) {
	c.out = c.out[:0]
	for range n {
		c.out = frame(c.out, http2.FrameHeaders, http2.FlagHeadersEndHeaders, c.next, c.block)
		c.out = frame(c.out, http2.FrameData, http2.FlagDataEndStream, c.next, c.data)
		c.next += 2
	}
	if _, err := c.nc.Write(c.out); err != nil {
		c.b.Error(err)
		return
	}
	for n > 0 {
		m, err := c.nc.Read(c.in[c.have:])
		if err != nil {
			c.b.Error(err)
			return
		}
		c.have += m
		at := 0
		for c.have-at >= 9 {
			f := c.in[at:c.have]
			size := int(f[0])<<16 | int(f[1])<<8 | int(f[2])
			if len(f) < 9+size {
				break
			}
			at += 9 + size
			switch t := http2.FrameType(f[3]); {
			case t == http2.FrameHeaders && http2.Flags(f[4]).Has(http2.FlagHeadersEndStream):
				n--
			case t == http2.FrameGoAway:
				c.b.Errorf("GOAWAY: %q", f[9:9+size])
				return
			}
		}
		copy(c.in, c.in[at:c.have])
		c.have -= at
	}
}

// frame appends an HTTP/2 frame.
func frame(dst []byte, t http2.FrameType, flags http2.Flags, id uint32, payload []byte) []byte {
	n := len(payload)
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags), byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
	return append(dst, payload...)
}
