package lean

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// echoServer answers every call with body, from prepared frames and without allocating, so that what a test measures is the
// client.
type echoServer struct {
	nc       net.Conn
	head     [2][]byte // header block of the first answer, and of later ones: all indexes
	tail     [2][]byte
	data     []byte
	in, out  []byte
	have     int
	answered int
}

func startEcho(t testing.TB, body []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go newEcho(nc, body).serve()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

func newEcho(nc net.Conn, body []byte) *echoServer {
	e := &echoServer{nc: nc, data: appendMessage(nil, body), in: make([]byte, 1<<20), out: make([]byte, 0, 1<<20)}
	var buf bytes.Buffer
	enc := hpack.NewEncoder(&buf)
	block := func(fields ...string) []byte {
		buf.Reset()
		for i := 0; i < len(fields); i += 2 {
			_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		return bytes.Clone(buf.Bytes())
	}
	for i := range 2 {
		e.head[i] = block(":status", "200", "content-type", "application/grpc")
		e.tail[i] = block("grpc-status", "0", "grpc-message", "")
	}
	return e
}

func (e *echoServer) serve() {
	defer e.nc.Close()
	if _, err := io.ReadFull(e.nc, e.in[:len(http2.ClientPreface)]); err != nil {
		return
	}
	e.out = appendFrame(e.out, 0, http2.FrameSettings, 0, 0)
	e.out = appendUint32Frame(e.out, http2.FrameWindowUpdate, 0, 1<<30)
	for {
		if _, err := e.nc.Write(e.out); err != nil {
			return
		}
		e.out = e.out[:0]
		n, err := e.nc.Read(e.in[e.have:])
		if err != nil {
			return
		}
		e.have += n
		at := 0
		for e.have-at >= frameHeader {
			f := e.in[at:e.have]
			size := int(f[0])<<16 | int(f[1])<<8 | int(f[2])
			if len(f) < frameHeader+size {
				break
			}
			at += frameHeader + size
			if http2.FrameType(f[3]) == http2.FrameData && f[4]&byte(http2.FlagDataEndStream) != 0 {
				e.answer(uint32(f[5])<<24 | uint32(f[6])<<16 | uint32(f[7])<<8 | uint32(f[8]))
			}
		}
		e.have = copy(e.in, e.in[at:e.have])
	}
}

func (e *echoServer) answer(id uint32) {
	k := min(e.answered, 1)
	e.answered++
	if e.answered%1000 == 0 {
		e.out = appendUint32Frame(e.out, http2.FrameWindowUpdate, 0, 1<<20)
	}
	e.out = append(appendFrame(e.out, len(e.head[k]), http2.FrameHeaders, http2.FlagHeadersEndHeaders, id), e.head[k]...)
	e.out = append(appendFrame(e.out, len(e.data), http2.FrameData, 0, id), e.data...)
	e.out = append(appendFrame(e.out, len(e.tail[k]), http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, id), e.tail[k]...)
}

// loop keeps one call under way until left runs out.
type loop struct {
	c    *Conn
	msg  Message
	left *atomic.Int64
	end  chan error
}

func (l *loop) Done(_ []byte, err error) {
	if err == nil && l.left.Add(-1) >= 0 {
		err = l.c.Call(Put, l.msg, l)
		if err == nil {
			return
		}
	}
	l.end <- err
}

// spin makes n calls, depth under way, and reports the first error.
func spin(c *Conn, loops []*loop, left *atomic.Int64, n int) error {
	left.Store(int64(n - len(loops)))
	for _, l := range loops {
		if err := c.Call(Put, l.msg, l); err != nil {
			return err
		}
	}
	err := c.Flush()
	for _, l := range loops {
		err = errors.Join(err, <-l.end)
	}
	return err
}

func loops(c *Conn, depth int, left *atomic.Int64) []*loop {
	all := make([]*loop, depth)
	end := make(chan error, depth)
	for i := range all {
		all[i] = &loop{c: c, msg: raw(make([]byte, 256)), left: left, end: end}
	}
	return all
}

// TestCallAllocatesNothing holds the hot path to its budget.
func TestCallAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	c := dial(t, Config{Address: startEcho(t, make([]byte, 40))})
	var left atomic.Int64
	all := loops(c, 64, &left)
	if err := spin(c, all, &left, 10_000); err != nil {
		t.Fatal(err)
	}
	const calls = 10_000
	per := testing.AllocsPerRun(5, func() {
		if err := spin(c, all, &left, calls); err != nil {
			t.Fatal(err)
		}
	})
	if per/calls > 0.01 {
		t.Errorf("%.3f allocations a call", per/calls)
	}
}

// BenchmarkCall measures the client with 16 calls under way on a connection. cpu-ns/op is the whole process: the echoing
// server's share is a lower bound for any server.
func BenchmarkCall(b *testing.B) {
	c := dial(b, Config{Address: startEcho(b, make([]byte, 40))})
	var left atomic.Int64
	all := loops(c, 16, &left)
	if err := spin(c, all, &left, 1000); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	before := processTime(b)
	b.ResetTimer()
	if err := spin(c, all, &left, max(b.N, len(all))); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(processTime(b)-before)/float64(b.N), "cpu-ns/op")
}

func processTime(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
