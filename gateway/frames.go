package gateway

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"

	"quorate.dev/quorate/internal/clock"
)

// socket is a WebSocket after its handshake (RFC 6455, the server's side, without extensions).
type socket struct {
	nc    net.Conn
	r     *bufio.Reader
	bound int64 // of a message, bytes

	writing sync.Mutex
	over    bool // this side has said good-bye
}

// The kinds of frames.
const (
	opMore  = 0x0 // more of a message
	opText  = 0x1
	opBytes = 0x2
	opClose = 0x8 // this and all above control the connection
	opPing  = 0x9
	opPong  = 0xA
)

const (
	bitFinal    = 0x80
	bitsUnused  = 0x70
	bitMasked   = 0x80
	controlSize = 125 // the most that a control frame carries, bytes
)

// farewellTime is how long a client that ends, or is ended, may take to read that, before it is cut.
const farewellTime = time.Second

// frame is the head of a frame, and its mask.
type frame struct {
	op    byte
	final bool
	size  int64
	mask  [4]byte
}

// header reads the head of the next frame. All frames of a client are masked.
func (s *socket) header() (f frame, err error) {
	var b [2]byte
	if _, err := io.ReadFull(s.r, b[:]); err != nil {
		return f, err
	}
	f.op, f.final, f.size = b[0]&0x0F, b[0]&bitFinal != 0, int64(b[1]&^bitMasked)
	known := f.op <= opBytes || f.op >= opClose && f.op <= opPong
	if !known || b[0]&bitsUnused != 0 || b[1]&bitMasked == 0 || f.op >= opClose && (f.size > controlSize || !f.final) {
		return f, faultProtocol
	}
	var long [8]byte
	switch f.size {
	case 126:
		_, err = io.ReadFull(s.r, long[6:])
	case 127:
		_, err = io.ReadFull(s.r, long[:])
	}
	if err != nil {
		return f, err
	}
	if f.size > controlSize {
		size := binary.BigEndian.Uint64(long[:])
		if size > uint64(s.bound) {
			return f, faultTooLarge
		}
		f.size = int64(size)
	}
	_, err = io.ReadFull(s.r, f.mask[:])
	return f, err
}

// payload reads what a frame carries, after dst.
func (s *socket) payload(dst []byte, f frame) ([]byte, error) {
	at := len(dst)
	for left := f.size; left > 0; { // piece by piece: that a client announces much costs nothing
		n := min(left, 64<<10)
		from := len(dst)
		dst = append(dst, make([]byte, n)...)
		if _, err := io.ReadFull(s.r, dst[from:]); err != nil {
			return dst, err
		}
		left -= n
	}
	for i := range dst[at:] {
		dst[at+i] ^= f.mask[i&3]
	}
	return dst, nil
}

// receive passes every message on as a line, and answers pings, until the connection ends.
func (s *socket) receive(to io.Writer) error {
	for {
		msg, err := s.message()
		if err != nil {
			s.fail(err)
			return io.EOF
		}
		if _, err := to.Write(append(msg, '\n')); err != nil {
			return err
		}
	}
}

// message reads the next message; io.EOF says that the client said good-bye.
func (s *socket) message() ([]byte, error) {
	var msg []byte
	for begun := false; ; {
		f, err := s.header()
		if err != nil {
			return nil, err
		}
		if f.op >= opClose {
			if err := s.control(f); err != nil {
				return nil, err
			}
			continue
		}
		switch {
		case begun != (f.op == opMore):
			return nil, faultProtocol
		case int64(len(msg))+f.size > s.bound:
			return nil, faultTooLarge
		}
		begun = true
		if msg, err = s.payload(msg, f); err != nil || f.final {
			return msg, err
		}
	}
}

// control takes a frame that is not part of a message.
func (s *socket) control(f frame) error {
	data, err := s.payload(nil, f)
	switch {
	case err != nil:
		return err
	case f.op == opPing:
		return s.write(opPong, data)
	case f.op == opClose:
		return faultNone
	}
	return nil
}

// write sends one frame. It waits for a client that does not read.
func (s *socket) write(op byte, p []byte) error {
	head := []byte{bitFinal | op, byte(len(p))}
	switch {
	case len(p) > 1<<16-1:
		head[1] = 127
		head = binary.BigEndian.AppendUint64(head, uint64(len(p)))
	case len(p) > controlSize:
		head[1] = 126
		head = binary.BigEndian.AppendUint16(head, uint16(len(p)))
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.over {
		return net.ErrClosed
	}
	s.over = op == opClose
	bufs := net.Buffers{head, p}
	_, err := bufs.WriteTo(s.nc)
	return err
}

// abandon lets everything that waits for the client fail shortly.
func (s *socket) abandon() {
	_ = s.nc.SetDeadline(clock.Real().Now().Add(farewellTime)) // it fails when the connection is closed already
}

// close ends the connection.
func (s *socket) close() { _ = s.nc.Close() }
