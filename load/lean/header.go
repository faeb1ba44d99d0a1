package lean

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Field is one piece of metadata. Names are lower case; the value of a name that ends in -bin is any bytes, others are
// visible text.
type Field struct{ Name, Value string }

// Header is what a call says besides its message: the method and the caller's own metadata. It is made once and used for any
// number of calls on any connections, from any goroutine: a connection remembers how it encodes the Headers used lately, so
// that who makes equal calls should keep the Header.
type Header struct {
	path   string
	fields []hpack.HeaderField
}

// NewHeader is for a method given by its path, for example "/etcdserverpb.KV/Put". An error says which field cannot be sent.
func NewHeader(path string, metadata ...Field) (*Header, error) {
	if len(path) < 2 || path[0] != '/' || !httpguts.ValidHeaderFieldValue(path) {
		return nil, fmt.Errorf("lean: %q is no method: it must be /service/method", path)
	}
	h := &Header{path: path, fields: make([]hpack.HeaderField, 0, len(metadata))}
	size := len(path)
	for _, f := range metadata {
		if reserved(f.Name) {
			return nil, fmt.Errorf("lean: metadata %q: the name is not in lower case or belongs to HTTP/2 or gRPC", f.Name)
		}
		v := f.Value
		if strings.HasSuffix(f.Name, "-bin") {
			v = base64.RawStdEncoding.EncodeToString([]byte(v))
		} else if !httpguts.ValidHeaderFieldValue(v) || strings.TrimSpace(v) != v {
			return nil, fmt.Errorf("lean: the value of metadata %q is %q: it must be text without control characters", f.Name, v)
		}
		size += len(f.Name) + len(v) + fieldOverhead
		h.fields = append(h.fields, hpack.HeaderField{Name: f.Name, Value: v})
	}
	if size > headerBytesMax {
		return nil, fmt.Errorf("lean: the metadata of %s is %d bytes large; at most %d may be sent", path, size, headerBytesMax)
	}
	return h, nil
}

// Header is the method with metadata of the caller's.
func (m Method) Header(metadata ...Field) (*Header, error) { return NewHeader(m.String(), metadata...) }

// Path is the method's path.
func (h *Header) Path() string { return h.path }

// reserved reports whether a caller may not set name: HTTP/2, gRPC or this package does.
func reserved(name string) bool {
	switch name {
	case "", "content-type", "content-length", "te", "user-agent", "host", "connection", "proxy-connection", "keep-alive",
		"transfer-encoding", "upgrade":
		return true
	}
	for i := range len(name) {
		if c := name[i]; c >= 'A' && c <= 'Z' || !httpguts.IsTokenRune(rune(c)) {
			return true
		}
	}
	return strings.HasPrefix(name, "grpc-")
}

// Ticket names one unary call. The zero Ticket names none.
type Ticket struct {
	c    *Conn
	s    *stream
	call uint64
}

// CallWith sends a unary call as Call does, with h instead of a method and the connection's token. timeout is told to the
// server, which ends the call when it passes; 0 tells nothing. The connection's own Timeout counts beside it.
func (c *Conn) CallWith(h *Header, timeout time.Duration, req Message, done Completion) (Ticket, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := c.open(opening{header: h, timeout: timeout})
	if err != nil {
		return Ticket{}, err
	}
	s.done = done
	t := Ticket{c, s, s.call}
	c.message(s, req, true)
	return t, nil
}

// Cancel takes the call back: the server hears of it with the next Flush, and true means that the call is never completed.
// False means that it was completed, or is being completed now.
func (t Ticket) Cancel() bool {
	if t.c == nil {
		return false
	}
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	if t.s.call != t.call || t.s.flags&flagEnded != 0 {
		return false
	}
	t.c.forget(t.s) // and not recycled: the reader may be looking at it
	return true
}

// forget takes a call that its caller gave up out of the connection. c.mu held.
func (c *Conn) forget(s *stream) {
	if s.id != 0 {
		c.send.out = appendUint32Frame(c.send.out, http2.FrameRSTStream, s.id, uint32(http2.ErrCodeCancel))
		c.leave(s)
		return
	}
	for i, w := range c.waiting {
		if w == s {
			c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
			break
		}
	}
	s.flags |= flagEnded
}

// headersOut appends the HEADERS of s, in as many frames as the server's limit makes of them. c.mu held.
func (c *Conn) headersOut(s *stream) {
	e := &c.send.headers
	var block []byte
	if s.header == nil {
		block = e.block(s.method)
	} else {
		block = e.blockOf(s.header)
	}
	if s.timeout > 0 {
		// A literal that enters no table: what is remembered of the rest stays true.
		e.timed = append(e.timed[:0], block...)
		e.timed = append(append(e.timed, 0, byte(len(timeoutName))), timeoutName...)
		at := len(e.timed)
		e.timed = appendTimeout(append(e.timed, 0), s.timeout)
		e.timed[at] = byte(len(e.timed) - at - 1)
		block = e.timed
	}
	n := min(len(block), c.send.frame)
	var flags http2.Flags
	if n == len(block) {
		flags = http2.FlagHeadersEndHeaders
	}
	c.send.out = append(appendFrame(c.send.out, n, http2.FrameHeaders, flags, s.id), block[:n]...)
	for block = block[n:]; len(block) > 0; block = block[n:] {
		if n = min(len(block), c.send.frame); n == len(block) {
			flags = http2.FlagContinuationEndHeaders
		}
		c.send.out = append(appendFrame(c.send.out, n, http2.FrameContinuation, flags, s.id), block[:n]...)
	}
}

const timeoutName = "grpc-timeout"

// appendTimeout appends d as gRPC writes it, at most eight digits and a unit, rounded up: the server must not give up before
// the caller does.
func appendTimeout(dst []byte, d time.Duration) []byte {
	const most = 99_999_999
	for _, u := range [...]struct {
		d    time.Duration
		name byte
	}{{time.Nanosecond, 'n'}, {time.Microsecond, 'u'}, {time.Millisecond, 'm'}, {time.Second, 'S'}, {time.Minute, 'M'}} {
		if n := (d-1)/u.d + 1; n <= most {
			return append(strconv.AppendInt(dst, int64(n), 10), u.name)
		}
	}
	return append(strconv.AppendInt(dst, int64((d-1)/time.Hour+1), 10), 'H')
}

// headerEncoder makes the header blocks of requests. Once the server's table holds every field, a method's block is all
// indexes and is kept; a block that adds to the table moves the indexes and so makes every kept block invalid.
type headerEncoder struct {
	fields []hpack.HeaderField // all but :path
	common int                 // those of fields that go with a Header too
	enc    *hpack.Encoder
	buf    blockBuffer
	kept   [methods][]byte
	known  map[*Header][]byte // the same for Headers, at most headersKept
	timed  []byte             // the last block with a timeout
}

// blockBuffer collects what an Encoder writes.
type blockBuffer []byte

// Write appends p and never fails.
func (b *blockBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

func (h *headerEncoder) init(cfg *Config) {
	scheme := "http"
	if cfg.TLS != nil {
		scheme = "https"
	}
	h.fields = []hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: scheme},
		{Name: ":authority", Value: cfg.Address}, {Name: "content-type", Value: "application/grpc"},
		{Name: "user-agent", Value: cmp.Or(cfg.Agent, "quorate-bench")}, {Name: "te", Value: "trailers"}}
	h.common = len(h.fields)
	if cfg.Token != "" {
		h.fields = append(h.fields, hpack.HeaderField{Name: "token", Value: cfg.Token})
	}
	h.known = map[*Header][]byte{}
	h.enc = hpack.NewEncoder(&h.buf)
	h.enc.SetMaxDynamicTableSizeLimit(headerTableBytes)
}

// resize follows the server's SETTINGS_HEADER_TABLE_SIZE.
func (h *headerEncoder) resize(bytes uint32) {
	h.enc.SetMaxDynamicTableSizeLimit(min(bytes, headerTableBytes))
	h.forget()
}

// forget drops every kept block.
func (h *headerEncoder) forget() {
	clear(h.kept[:])
	clear(h.known)
}

// block is valid until the next call.
func (h *headerEncoder) block(m Method) []byte {
	if b := h.kept[m]; b != nil {
		return b
	}
	if h.encode(paths[m], h.fields, nil) {
		h.kept[m] = append([]byte(nil), h.buf...)
	}
	return h.buf
}

// blockOf is valid until the next call.
func (h *headerEncoder) blockOf(x *Header) []byte {
	if b := h.known[x]; b != nil {
		return b
	}
	if h.encode(x.path, h.fields[:h.common], x.fields) {
		if len(h.known) >= headersKept {
			clear(h.known)
		}
		h.known[x] = append([]byte(nil), h.buf...)
	}
	return h.buf
}

// encode makes a block in buf and reports whether it may be kept. Writing into a blockBuffer cannot fail.
func (h *headerEncoder) encode(path string, fields, more []hpack.HeaderField) bool {
	h.buf = h.buf[:0]
	for i, f := range fields {
		if i == 2 {
			_ = h.enc.WriteField(hpack.HeaderField{Name: ":path", Value: path})
		}
		_ = h.enc.WriteField(f)
	}
	for _, f := range more {
		_ = h.enc.WriteField(f)
	}
	if indexed(h.buf) {
		return true
	}
	h.forget()
	return false
}

// indexed reports whether a header block consists of one-byte indexes only: it means the same as long as the table does
// not change, and does not change it (RFC 7541, 6.1).
func indexed(block []byte) bool {
	for _, b := range block {
		if b < 0x80 || b == 0x80 || b == 0xff {
			return false
		}
	}
	return len(block) > 0
}
