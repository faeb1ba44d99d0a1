package rpc_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"quorate.dev/quorate/rpc"
)

// pipeListener yields in-memory connections.
type pipeListener struct {
	ch   chan net.Conn
	done chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ch:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	return nil
}
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// fuzzServer has a method of every kind, and is served over pipes.
func fuzzServer(f *testing.F) *pipeListener {
	s, err := rpc.New(rpc.Config{MessageBytesMax: 1 << 16, StreamsMax: 100, HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(w, r.Body); err != nil {
			return
		}
	})})
	if err != nil {
		f.Fatal(err)
	}
	s.Unary("/t.T/Echo", echo)
	s.Stream("/t.T/Stream", echoStream)
	l := &pipeListener{make(chan net.Conn), make(chan struct{})}
	go func() {
		if err := s.Serve(l); err != nil {
			panic(err)
		}
	}()
	f.Cleanup(func() { s.Close() })
	return l
}

// watched tells when the server has let go of a connection.
type watched struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (w *watched) Close() error {
	w.once.Do(func() { close(w.closed) })
	return w.Conn.Close()
}

// feed gives input to a connection of l, drops what comes back, hangs up, and waits until the server has done so too.
func feed(t *testing.T, l *pipeListener, input []byte) {
	client, server := net.Pipe()
	w := &watched{Conn: server, closed: make(chan struct{})}
	l.ch <- w
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, client) // ends with the connection, in whatever way
	}()
	if err := client.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	// The server may hang up in the middle of it, which is an answer too.
	_, err := client.Write(append([]byte(http2.ClientPreface), input...))
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Fatal("the server does not read on")
	}
	_ = client.SetDeadline(time.Time{}) // or its timer would live on; it fails when the server has hung up
	client.Close()
	<-drained
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	select {
	case <-w.closed:
	case <-late.C:
		t.Fatal("the server does not let go of the connection")
	}
}

// conversation are the frames of an honest client: the seeds are made from it.
func conversation(mutate func(fr *http2.Framer)) []byte {
	var buf, block bytes.Buffer
	fr := http2.NewFramer(&buf, nil)
	fr.AllowIllegalWrites = true
	enc := hpack.NewEncoder(&block)
	ok := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	ok(fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}))
	ok(fr.WriteWindowUpdate(0, 1<<20))
	for i, m := range []string{"/t.T/Echo", "/t.T/Stream", "/none"} {
		id := uint32(2*i + 1)
		block.Reset()
		for _, f := range requestFields(m) {
			if f.Name == "content-type" && m == "/none" {
				f.Value = "text/plain"
			}
			ok(enc.WriteField(f))
		}
		ok(fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: block.Bytes()}))
		ok(fr.WriteData(id, false, message([]byte("hello"))))
		if mutate != nil {
			mutate(fr)
		}
		ok(fr.WriteData(id, true, nil))
		ok(fr.WritePing(false, [8]byte{1}))
	}
	return buf.Bytes()
}

// FuzzFrames feeds anything after the preface to a live connection: it must not panic, hang or leak.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{})
	f.Add(conversation(nil))
	for _, m := range []func(fr *http2.Framer){
		func(fr *http2.Framer) { _ = fr.WriteRSTStream(1, http2.ErrCodeCancel) },
		func(fr *http2.Framer) { _ = fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0}) },
		func(fr *http2.Framer) { _ = fr.WriteWindowUpdate(3, 1<<31-1) },
		func(fr *http2.Framer) { _ = fr.WriteDataPadded(3, false, []byte{1, 0, 0}, make([]byte, 9)) },
		func(fr *http2.Framer) { _ = fr.WriteContinuation(1, true, []byte{0x82}) },
		func(fr *http2.Framer) { _ = fr.WriteGoAway(0, http2.ErrCodeNo, nil) },
		func(fr *http2.Framer) { _ = fr.WritePriority(1, http2.PriorityParam{StreamDep: 1}) },
	} {
		f.Add(conversation(m))
	}
	l := fuzzServer(f)
	before, n := int64(0), 0
	f.Fuzz(func(t *testing.T, input []byte) {
		feed(t, l, input)
		if n++; n == 1000 {
			before = heap() // the fuzzing engine itself needs 100 MiB sooner or later
		} else if n%2000 == 0 {
			if grown := heap() - before; grown > 160<<20 {
				t.Fatalf("the heap grew by %d bytes", grown)
			}
		}
	})
}

// FuzzHeaders feeds anything as a request's header block, twice on one connection, so that what the first left in the
// HPACK table and in the cache of requests meets the second.
func FuzzHeaders(f *testing.F) {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, fields := range [][]hpack.HeaderField{requestFields("/t.T/Echo"), requestFields("/x"), {{Name: "x-bin", Value: "AA"}}} {
		for _, fd := range fields {
			if err := enc.WriteField(fd); err != nil {
				f.Fatal(err)
			}
		}
		f.Add(bytes.Clone(block.Bytes()), uint16(block.Len()/2))
	}
	f.Add([]byte{0x20, 0x3f, 0xe1, 0x1f, 0x82, 0x86, 0x84}, uint16(1))
	f.Add([]byte{0x40, 0x7f, 0xff, 0xff, 0xff, 0xff, 0x0f}, uint16(3))
	l := fuzzServer(f)
	f.Fuzz(func(t *testing.T, b []byte, at uint16) {
		cut := min(int(at), len(b))
		var buf bytes.Buffer
		fr := http2.NewFramer(&buf, nil)
		fr.AllowIllegalWrites = true
		if err := fr.WriteSettings(); err != nil {
			t.Fatal(err)
		}
		for id := uint32(1); id < 5; id += 2 {
			if fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: true, BlockFragment: b[:cut]}) != nil ||
				fr.WriteContinuation(id, true, b[cut:]) != nil {
				return
			}
		}
		feed(t, l, buf.Bytes())
	})
}
