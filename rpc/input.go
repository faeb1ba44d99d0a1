package rpc

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// inputBytes is one read from a socket.
const inputBytes = 32 << 10

type inputBuffer [inputBytes]byte

var inputBuffers = sync.Pool{New: func() any { return new(inputBuffer) }}

// input reads a connection through a pooled buffer. A connection on a plain socket holds no buffer while it waits for
// the peer, so ten thousand idle ones cost nothing here.
//
// Invariant: before input asks the socket for more it calls idle, so that what was answered so far leaves first.
type input struct {
	nc    net.Conn
	raw   syscall.RawConn // nil when reads cannot be tried without waiting (TLS, in-memory connections)
	begin func()          // called after each read from nc that brought something
	idle  func() error    // called before each read from nc; an error ends reading

	reading atomic.Bool // the reader is at work on what it read and will call idle when it is through

	count func(in, out int) // Observer.Bytes, nil for none

	buf  *inputBuffer
	r, w int

	tryRead func(fd uintptr) bool // kept, so that a read allocates nothing
	n       int
	err     error
	now     time.Time    // when bytes last arrived; the reader's
	last    atomic.Int64 // the same for others, nanoseconds since 1970
}

func (in *input) init(nc net.Conn, raw syscall.RawConn, idle func() error) {
	in.nc, in.raw, in.idle = nc, raw, idle
	in.tryRead = func(fd uintptr) bool {
		in.n, in.err = readFD(fd, in.borrow()[:])
		if in.err != syscall.EAGAIN {
			return true
		}
		in.giveBack()
		return false
	}
	in.now = time.Now()
	in.last.Store(in.now.UnixNano())
}

func (in *input) borrow() *inputBuffer {
	if in.buf == nil {
		in.buf = inputBuffers.Get().(*inputBuffer)
	}
	return in.buf
}

func (in *input) giveBack() {
	if in.buf != nil {
		inputBuffers.Put(in.buf)
		in.buf = nil
	}
}

// Read implements io.Reader for the Framer.
func (in *input) Read(p []byte) (int, error) {
	if in.r == in.w {
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, in.buf[in.r:in.w])
	in.r += n
	return n, nil
}

// unread is what has been read from the socket and not been taken; it is valid until the next Read.
func (in *input) unread() []byte {
	if in.buf == nil {
		return nil
	}
	return in.buf[in.r:in.w]
}

// skip takes n bytes of unread.
func (in *input) skip(n int) { in.r += n }

// fill reads once from the socket, waiting for at least one byte.
func (in *input) fill() error {
	in.r, in.w = 0, 0
	in.reading.Store(false)
	if err := in.idle(); err != nil {
		return err
	}
	var n int
	var err error
	if in.raw == nil {
		n, err = in.nc.Read(in.borrow()[:])
	} else {
		in.giveBack()
		if err = in.raw.Read(in.tryRead); err == nil {
			n, err = in.n, in.err
		}
		if err == nil && n <= 0 {
			err = io.EOF
		}
	}
	if err != nil && n <= 0 {
		return err
	}
	in.w = n
	in.reading.Store(true)
	if in.count != nil {
		in.count(n, 0)
	}
	in.now = time.Now()
	in.last.Store(in.now.UnixNano())
	in.begin()
	return nil
}
