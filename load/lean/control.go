package lean

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func (c *Conn) settings(f frame) error {
	if f.id != 0 {
		return errors.New("SETTINGS on a stream")
	}
	if f.flags.Has(http2.FlagSettingsAck) {
		return nil
	}
	if len(f.payload)%6 != 0 {
		return errors.New("SETTINGS of a wrong length")
	}
	for p := f.payload; len(p) > 0; p = p[6:] {
		s := http2.Setting{ID: http2.SettingID(binary.BigEndian.Uint16(p)), Val: binary.BigEndian.Uint32(p[2:])}
		if err := s.Valid(); err != nil {
			return fmt.Errorf("the server's %v: %w", s, err)
		}
		switch s.ID {
		case http2.SettingInitialWindowSize:
			for _, x := range c.streams {
				x.window += int64(s.Val) - c.send.initial
			}
			c.send.initial = int64(s.Val)
		case http2.SettingMaxFrameSize:
			c.send.frame = int(s.Val)
		case http2.SettingMaxConcurrentStreams:
			c.send.streamsMax = s.Val
		case http2.SettingHeaderTableSize:
			c.send.headers.resize(s.Val)
		}
	}
	c.send.out = appendFrame(c.send.out, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	c.pumpBlocked()
	if !c.recv.seen {
		c.recv.seen = true
		close(c.ready)
	}
	return nil
}

func (c *Conn) ping(f frame) error {
	if len(f.payload) != 8 || f.id != 0 {
		return errors.New("a malformed PING")
	}
	if !f.flags.Has(http2.FlagPingAck) {
		c.send.out = append(appendFrame(c.send.out, 8, http2.FramePing, http2.FlagPingAck, 0), f.payload...)
	}
	return nil
}

func (c *Conn) windowUpdate(f frame) error {
	if len(f.payload) != 4 {
		return errors.New("a malformed WINDOW_UPDATE")
	}
	n := int64(binary.BigEndian.Uint32(f.payload) & (1<<31 - 1))
	window := &c.send.window
	if f.id != 0 {
		s, err := c.stream(f)
		if err != nil || s == nil {
			return err
		}
		window = &s.window
	}
	if *window += n; *window > 1<<31-1 {
		return fmt.Errorf("the server's window of stream %d is beyond 2^31-1", f.id)
	}
	if len(c.send.blocked) > 0 {
		c.pumpBlocked()
	}
	return nil
}

// goAway refuses new calls and ends those that the server will not answer.
func (c *Conn) goAway(f frame) error {
	if len(f.payload) < 8 || f.id != 0 {
		return errors.New("a malformed GOAWAY")
	}
	last := binary.BigEndian.Uint32(f.payload) & (1<<31 - 1)
	code := http2.ErrCode(binary.BigEndian.Uint32(f.payload[4:]))
	err := fmt.Errorf("%w: %v", ErrGoAway, code)
	if text := string(f.payload[8:]); text != "" {
		err = fmt.Errorf("%w: %q", err, text)
	}
	c.recv.goAway = err
	c.mu.Unlock()
	c.refuse(err)
	c.mu.Lock()
	for _, s := range c.waiting {
		c.finish(s, nil, unprocessedError{c.err})
	}
	c.waiting = nil
	for id, s := range c.streams {
		if id > last {
			s.flags |= flagSentEnd
			c.finish(s, nil, unprocessedError{c.err})
		}
	}
	if len(c.streams) == 0 {
		return err
	}
	return nil
}

// reset ends a call as gRPC maps HTTP/2's codes.
func (c *Conn) reset(f frame) error {
	s, err := c.stream(f)
	if err != nil || len(f.payload) != 4 {
		return errors.Join(err, badLength(f, 4))
	}
	if s == nil {
		return nil
	}
	code := http2.ErrCode(binary.BigEndian.Uint32(f.payload))
	status := &Status{CodeInternal, fmt.Sprintf("%s reset the stream: %v", c.cfg.Address, code)}
	switch code {
	case http2.ErrCodeRefusedStream:
		status.Code = CodeUnavailable
	case http2.ErrCodeEnhanceYourCalm:
		status.Code = CodeResourceExhausted
	case http2.ErrCodeCancel:
		status.Code = 1
	}
	s.flags |= flagSentEnd
	if code == http2.ErrCodeRefusedStream {
		c.finish(s, nil, unprocessedError{status})
	} else {
		c.finish(s, nil, status)
	}
	if c.recv.goAway != nil && len(c.streams) == 0 {
		return c.recv.goAway
	}
	return nil
}

func badLength(f frame, want int) error {
	if len(f.payload) != want {
		return fmt.Errorf("a %v frame of %d bytes", f.kind, len(f.payload))
	}
	return nil
}

func (c *Conn) headers(f frame) error {
	if _, err := c.stream(f); err != nil {
		return err
	}
	p, err := unpad(f)
	if err != nil {
		return err
	}
	if f.flags.Has(http2.FlagHeadersPriority) {
		if len(p) < 5 {
			return errors.New("HEADERS without their priority")
		}
		p = p[5:]
	}
	end := f.flags.Has(http2.FlagHeadersEndStream)
	if f.flags.Has(http2.FlagHeadersEndHeaders) {
		return c.fields(f.id, p, end)
	}
	c.recv.block = append(c.recv.block[:0], p...)
	c.recv.blockID, c.recv.blockEnd = f.id, end
	return nil
}

func (c *Conn) continuation(f frame) error {
	r := &c.recv
	if r.blockID == 0 || r.blockID != f.id {
		return errors.New("CONTINUATION of nothing")
	}
	if r.block = append(r.block, f.payload...); len(r.block) > headerBlockBytes {
		return errors.New("the server's headers are too large")
	}
	if !f.flags.Has(http2.FlagContinuationEndHeaders) {
		return nil
	}
	r.blockID = 0
	return c.fields(f.id, r.block, r.blockEnd)
}

// fields takes the headers or trailers of a stream.
func (c *Conn) fields(id uint32, block []byte, end bool) error {
	h, err := c.recv.headers.decode(block)
	if err != nil {
		return fmt.Errorf("the server's headers: %w", err)
	}
	s := c.streams[id]
	if s == nil {
		return nil
	}
	first := s.flags&flagHeaders == 0
	switch {
	case first && strings.HasPrefix(h.http, "1") && !end:
		return nil // an interim answer
	case first && h.http != "200":
		c.abort(s, &Status{CodeUnknown, "unexpected HTTP status " + strconv.Quote(h.http) + " from " + c.cfg.Address})
	case !end && !first:
		c.abort(s, &Status{CodeInternal, "headers in the middle of a response"})
	case !end:
		s.flags |= flagHeaders
		c.metadata(s, h, false)
	default:
		if c.metadata(s, h, true); s.flags&flagEnded == 0 {
			c.trailers(s, h)
		}
	}
	if c.recv.goAway != nil && len(c.streams) == 0 {
		return c.recv.goAway
	}
	return nil
}

// metadata tells who wants to know of it.
func (c *Conn) metadata(s *stream, h *fields, trailers bool) {
	if len(h.more) == 0 {
		return
	}
	var to HeaderReceiver
	if s.handler != nil {
		to, _ = s.handler.(HeaderReceiver)
	} else {
		to, _ = s.done.(HeaderReceiver)
	}
	if to != nil {
		more := h.more
		c.mu.Unlock()
		to.Headers(more, trailers)
		c.mu.Lock()
	}
}

// trailers ends a call with the status that they carry.
func (c *Conn) trailers(s *stream, h *fields) {
	if h.status != "0" {
		c.finish(s, nil, h.failure())
		return
	}
	if s.handler != nil {
		c.finish(s, nil, nil)
		return
	}
	body, bad := s.response()
	if bad != nil {
		c.finish(s, nil, bad)
		return
	}
	c.finish(s, body, nil)
}

// fields are the headers and trailers of an answer.
type fields struct {
	http, status, message string
	more                  []Field // the others
}

func (h *fields) failure() *Status {
	if h.status == "" {
		return &Status{CodeUnknown, "the server ended the stream without a grpc-status"}
	}
	code, err := strconv.ParseUint(h.status, 10, 31)
	if err != nil {
		return &Status{CodeUnknown, "grpc-status is " + strconv.Quote(h.status)}
	}
	return &Status{int(code), percentDecode(h.message)}
}

// percentDecode undoes gRPC's encoding of messages; what is no valid escape stays as it is.
func percentDecode(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				out = append(out, byte(v))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

// headerDecoder decodes header blocks. A block of indexes only means the same as long as no block changes the table, so the
// last few are kept: a server's answers are mostly the same two.
type headerDecoder struct {
	dec  *hpack.Decoder
	now  fields
	kept [blocksKept]struct {
		block []byte
		means fields
	}
	next int
}

func (d *headerDecoder) init() {
	d.dec = hpack.NewDecoder(headerTableBytes, func(f hpack.HeaderField) {
		switch f.Name {
		case ":status":
			d.now.http = f.Value
		case "grpc-status":
			d.now.status = f.Value
		case "grpc-message":
			d.now.message = f.Value
		case "content-type", "grpc-encoding", "grpc-accept-encoding", "date", "server":
		default:
			d.now.more = append(d.now.more, plain(f))
		}
	})
	d.dec.SetMaxStringLength(headerBlockBytes)
}

// plain undoes the encoding of binary values; what is no valid one stays as it is.
func plain(f hpack.HeaderField) Field {
	if strings.HasSuffix(f.Name, "-bin") {
		if b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(f.Value, "=")); err == nil {
			return Field{f.Name, string(b)}
		}
	}
	return Field{f.Name, f.Value}
}

// decode is valid until the next call.
func (d *headerDecoder) decode(block []byte) (*fields, error) {
	same := indexed(block)
	if same {
		for i := range d.kept {
			if k := &d.kept[i]; string(k.block) == string(block) {
				return &k.means, nil
			}
		}
	} else {
		for i := range d.kept {
			d.kept[i].block = d.kept[i].block[:0]
		}
	}
	d.now = fields{}
	if _, err := d.dec.Write(block); err != nil {
		return nil, err
	}
	if err := d.dec.Close(); err != nil {
		return nil, err
	}
	if same {
		k := &d.kept[d.next]
		k.block, k.means = append(k.block[:0], block...), d.now
		d.next = (d.next + 1) % blocksKept
	}
	return &d.now, nil
}
