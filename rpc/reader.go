package rpc

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// readFrames is the reader's loop. It returns why the connection ends.
func (c *conn) readFrames() error {
	for first := true; ; first = false {
		if !first {
			if handled, err := c.quickFrame(); err != nil {
				return err
			} else if handled {
				continue
			}
		}
		fh, err := c.fr.ReadFrameHeader()
		if err != nil {
			return c.explain(err)
		}
		if first && (fh.Type != http2.FrameSettings || fh.Flags.Has(http2.FlagSettingsAck)) {
			return connErrorf(http2.ErrCodeProtocol, "the first frame is %v, not SETTINGS", fh.Type)
		}
		f, err := c.fr.ReadFrameForHeader(fh)
		if err == nil {
			err = c.dispatch(f)
		} else {
			err = c.tolerate(fh, err)
		}
		if err != nil {
			return err
		}
	}
}

// tolerate turns a Framer's stream error into a reset, where the rest of the connection is not concerned.
func (c *conn) tolerate(fh http2.FrameHeader, err error) error {
	var se http2.StreamError
	if !errors.As(err, &se) {
		return c.explain(err)
	}
	if fh.Type == http2.FrameHeaders {
		return connErrorf(se.Code, "malformed HEADERS") // its block is lost, and with it the HPACK state
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if se.StreamID > c.maxID && fh.Type != http2.FramePriority {
		return connErrorf(http2.ErrCodeProtocol, "%v on stream %d, which is idle", fh.Type, se.StreamID)
	}
	return c.streamError(se.StreamID, se.Code, "malformed "+fh.Type.String())
}

// streamError resets one stream for a violation. mu held.
func (c *conn) streamError(id uint32, code http2.ErrCode, text string) error {
	if !c.guard.noise(1) {
		return errNoise
	}
	if x := c.streams[id]; x != nil {
		x.reset(code, statusf(Internal, "stream error: %v: %s", code, text))
		return nil
	}
	c.w.appendReset(id, code)
	c.remember(id, true)
	return nil
}

// explain turns a reading error into what the peer should be told; errors of the socket stay as they are.
func (c *conn) explain(err error) error {
	var ce http2.ConnectionError
	switch {
	case errors.As(err, &ce):
		text := "malformed frame"
		if d := c.fr.ErrorDetail(); d != nil {
			text = d.Error()
		}
		return connErrorf(http2.ErrCode(ce), "%s", text)
	case errors.Is(err, http2.ErrFrameTooLarge):
		return connErrorf(http2.ErrCodeFrameSize, "a frame is larger than %d bytes", frameBytes)
	}
	return err
}

// dispatch handles one frame.
func (c *conn) dispatch(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.DataFrame:
		return c.onData(f.StreamID, f.Data(), int(f.Length), f.StreamEnded())
	case *http2.HeadersFrame:
		return c.onHeaders(f.StreamID, f.HeaderBlockFragment(), f.StreamEnded(), f.HeadersEnded(), f.HasPriority() && f.Priority.StreamDep == f.StreamID)
	case *http2.ContinuationFrame:
		return c.onBlock(f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.WindowUpdateFrame:
		return c.onWindowUpdate(f.StreamID, f.Increment)
	case *http2.RSTStreamFrame:
		return c.onReset(f)
	case *http2.SettingsFrame:
		return c.onSettings(f)
	case *http2.PingFrame:
		return c.onPing(f)
	case *http2.PriorityFrame:
		return c.onPriority(f)
	case *http2.GoAwayFrame:
		return nil // the client opens no more streams; those that are open go on
	case *http2.PushPromiseFrame:
		return connErrorf(http2.ErrCodeProtocol, "a client cannot push")
	}
	return c.onNoise()
}

// onNoise takes a frame of a kind this side does not know, which is ignored.
func (c *conn) onNoise() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.guard.noise(1) {
		return errNoise
	}
	return nil
}

// onPriority takes a PRIORITY frame. Priorities are not used (RFC 9113 section 5.3.2 deprecates them).
func (c *conn) onPriority(f *http2.PriorityFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.guard.noise(1) {
		return errNoise
	}
	if f.StreamDep == f.StreamID {
		return c.streamError(f.StreamID, http2.ErrCodeProtocol, "a stream depends on itself")
	}
	return nil
}

// onHeaders takes a HEADERS frame: the beginning of a header block, or all of it when whole is set. ends says that the
// request has no more than that, selfDep that the stream depends on itself.
func (c *conn) onHeaders(id uint32, piece []byte, ends, whole, selfDep bool) error {
	h := &c.head
	if whole {
		if k := h.blocks.recall(piece); k != nil {
			h.streamID, h.ends, h.selfDep, h.timeout = id, ends, selfDep, k.timeout
			return c.onRequest(k.req)
		}
		piece = bytes.Clone(piece) // hpack's decoder keeps a hold on what it was given, which would be the input's buffer
	} else {
		h.blocks.tables++
		c.life.blockSince.Store(c.in.last.Load())
	}
	h.begin(id, ends, selfDep)
	return c.onBlock(piece, whole)
}

// onBlock decodes a piece of a header block, and acts on the block when it is complete. Pieces are decoded as they come:
// nothing of a long block is kept but what the limits allow.
func (c *conn) onBlock(piece []byte, ends bool) error {
	h := &c.head
	h.block += len(piece)
	if h.frames++; h.frames > headerFrames || h.block > headerBlockBytes {
		return errContinue
	}
	if _, err := h.dec.Write(piece); err != nil {
		return blockError(err)
	}
	if !ends {
		return nil
	}
	h.open = false
	req, err := h.end(c.srv.routes)
	if err != nil {
		return blockError(err)
	}
	if h.frames == 1 {
		h.blocks.learn(piece, req, h.timeout)
	} else {
		c.life.blockSince.Store(0)
	}
	return c.onRequest(req)
}

func blockError(err error) error {
	if errors.Is(err, hpack.ErrStringLength) {
		return connErrorf(http2.ErrCodeEnhanceYourCalm, "a header field is longer than %d bytes", headerListBytes)
	}
	return connErrorf(http2.ErrCodeCompression, "%v", err)
}

// onRequest acts on a complete header block; req is nil when its list was too long.
func (c *conn) onRequest(req *request) error {
	h := &c.head
	id := h.streamID
	c.mu.Lock()
	if x := c.find(id); x != nil {
		ready, err := c.onTrailers(x, req)
		c.mu.Unlock()
		if ready {
			x.role.ready()
		}
		return err
	}
	if id <= c.maxID || id%2 == 0 {
		defer c.mu.Unlock()
		return c.lateHeaders(id, req)
	}
	if c.life.final {
		c.mu.Unlock()
		return nil // after the last GOAWAY: the client knows that nobody acts on it
	}
	c.maxID = id
	x, err := c.admit(id, req)
	c.mu.Unlock()
	if err != nil || x == nil {
		return err
	}
	c.begin(x)
	return nil
}

// onTrailers takes a second header block of a stream: the end of its request. mu held.
func (c *conn) onTrailers(x *exchange, req *request) (bool, error) {
	switch {
	case x.in.ended:
		return false, c.streamError(x.id, http2.ErrCodeStreamClosed, "HEADERS after the end of the request")
	case !c.head.ends:
		return false, c.streamError(x.id, http2.ErrCodeProtocol, "trailers that do not end the stream")
	case req == nil:
		return false, c.streamError(x.id, http2.ErrCodeEnhanceYourCalm, "trailers larger than granted")
	case req.badTrailers():
		return false, c.streamError(x.id, http2.ErrCodeProtocol, "malformed trailers")
	}
	return c.takeData(x, nil, true), nil
}

// lateHeaders judges HEADERS that open no stream. mu held.
func (c *conn) lateHeaders(id uint32, req *request) error {
	known, ours := c.recent(id)
	switch {
	case ours && req != nil && req.badTrailers():
		return c.streamError(id, http2.ErrCodeProtocol, "malformed trailers")
	case ours && c.guard.noise(1):
		return nil // sent before the client learned that the stream is over
	case known:
		return connErrorf(http2.ErrCodeStreamClosed, "HEADERS on stream %d, which is closed", id)
	}
	return connErrorf(http2.ErrCodeProtocol, "HEADERS on stream %d, which no client may open now", id)
}

// admit decides whether a request becomes an exchange; when not, it is refused here. mu held.
func (c *conn) admit(id uint32, req *request) (*exchange, error) {
	if req == nil {
		return nil, c.refuse(id, http.StatusRequestHeaderFieldsTooLarge,
			statusf(ResourceExhausted, "the request's headers are larger than %d bytes", headerListBytes))
	}
	if c.head.selfDep {
		return nil, c.streamError(id, http2.ErrCodeProtocol, "a stream depends on itself")
	}
	if why := req.checkRequest(); why != "" {
		return nil, c.streamError(id, http2.ErrCodeProtocol, why)
	}
	if len(c.streams)+c.abandoned >= int(min(c.srv.cfg.StreamsMax, 1<<30)) || c.w.waiting > repliesConn || c.held > heldBytes-exchangeBytes {
		return nil, c.streamError(id, http2.ErrCodeRefusedStream, "too many streams, or their answers are not read")
	}
	x, status, st := c.build(id, req)
	if st != nil {
		return nil, c.refuse(id, status, st)
	}
	if x == nil {
		return nil, c.streamError(id, http2.ErrCodeRefusedStream, "too many requests that are not gRPC")
	}
	c.open(x)
	return x, nil
}

// refuse answers a request that never becomes an exchange. mu held.
func (c *conn) refuse(id uint32, status int, st *Status) error {
	cost := 1
	if status == http.StatusRequestHeaderFieldsTooLarge {
		cost = noiseHeavy
	}
	if !c.guard.noise(cost) {
		return errNoise
	}
	c.w.appendRefusal(id, status, st)
	if !c.head.ends {
		c.w.appendReset(id, http2.ErrCodeNo)
	}
	c.remember(id, !c.head.ends)
	return nil
}

// build makes the exchange that fits req, or says how to refuse it: with an HTTP status and a gRPC one. Both nil: too
// many web requests. mu held.
func (c *conn) build(id uint32, req *request) (x *exchange, httpStatus int, st *Status) {
	if !req.isGRPC() {
		if req.route != nil || strings.HasPrefix(req.contentType, grpcContentType) {
			return nil, http.StatusUnsupportedMediaType, statusf(InvalidArgument, "invalid gRPC request content-type %q", req.contentType)
		}
		if c.webs >= webRequestsMax {
			return nil, 0, nil
		}
		c.webs++
		return c.newWeb(id, req), 0, nil
	}
	var timeout time.Duration
	if v := c.head.timeout; v != "" {
		var err error
		if timeout, err = parseTimeout(v); err != nil {
			return nil, http.StatusBadRequest, statusf(Internal, "malformed grpc-timeout: %v", err)
		}
	}
	switch {
	case req.failed != nil:
		return nil, http.StatusBadRequest, req.failed
	case req.authority == "":
		return nil, http.StatusBadRequest, statusf(Internal, "no host or :authority header present")
	case req.method != http.MethodPost:
		return nil, http.StatusMethodNotAllowed, statusf(Internal, "Received a HEADERS frame with :method %q which should be POST", req.method)
	case c.head.timeout != "" && timeout <= 0:
		return nil, http.StatusOK, statusDeadline
	case req.route == nil:
		return nil, http.StatusOK, c.srv.unknown(req.path)
	case req.encoding != "" && req.encoding != "identity" && req.encoding != "gzip":
		return nil, http.StatusOK, statusf(Unimplemented, "grpc: Decompressor is not installed for grpc-encoding %q", req.encoding)
	}
	x = c.newExchange(id, req)
	if timeout > 0 {
		x.deadline = c.in.now.Add(timeout)
	}
	return x, 0, nil
}

// newExchange makes the Call or Stream for a gRPC request.
func (c *conn) newExchange(id uint32, req *request) *exchange {
	var x *exchange
	if req.route.unary != nil {
		k := new(Call)
		x, k.role = &k.exchange, k
	} else {
		s := &Stream{readable: make(chan struct{}, 1), writable: make(chan struct{}, 1)}
		x, s.role, s.running = &s.exchange, s, true
	}
	x.c, x.id, x.req = c, id, req
	return x
}

// begin starts an exchange that is in the table.
func (c *conn) begin(x *exchange) {
	if o := c.srv.cfg.Observer; o != nil && x.req.route != nil {
		x.start = c.in.now
		o.Started(x.req.path, x.req.route.stream != nil)
	}
	if c.head.ends {
		c.mu.Lock()
		ready := !x.over && c.takeData(x, nil, true)
		c.mu.Unlock()
		if ready {
			x.role.ready()
		}
	}
	switch r := x.role.(type) {
	case *Stream:
		c.srv.work.Add(1)
		go r.run()
	case *web:
		c.srv.work.Add(1)
		go r.run()
	}
}

// unknown is the answer to a method nobody registered, in grpc-go's words.
func (s *Server) unknown(path string) *Status {
	full, rooted := strings.CutPrefix(path, "/")
	at := strings.LastIndexByte(full, '/')
	if !rooted || at < 0 {
		return statusf(Unimplemented, "malformed method name: %q", path)
	}
	service, name := full[:at], full[at+1:]
	if s.services[service] {
		return &Status{Code: Unimplemented, Message: fmt.Sprintf("unknown method %v for service %v", name, service)}
	}
	return &Status{Code: Unimplemented, Message: fmt.Sprintf("unknown service %v", service)}
}
