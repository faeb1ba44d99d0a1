package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
)

// web is a request over HTTP/2 that is not gRPC. The http.Handler runs in a goroutine of its own, with web as
// ResponseWriter and request body. conn.mu protects what the reader shares with that goroutine.
type web struct {
	exchange
	body     []byte        // received and not yet read
	readable chan struct{} // holds a token when Read should look again
	writable chan struct{} // holds a token when Write should look again

	// The handler's side.
	headers http.Header
	status  int    // 0 until WriteHeader
	buf     []byte // written and not yet sent: small answers get a content-length
	flushed bool   // response headers are on their way
}

// newWeb makes the exchange of a request that is not gRPC.
func (c *conn) newWeb(id uint32, req *request) *exchange {
	w := &web{readable: make(chan struct{}, 1), writable: make(chan struct{}, 1), headers: http.Header{}}
	w.c, w.id, w.req, w.role, w.running = c, id, req, w, true
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return &w.exchange
}

// take implements role.
func (w *web) take(p []byte, end bool) bool {
	if len(p) > 0 && w.c.hold(&w.exchange, len(p)) {
		w.body = append(w.body, p...)
	}
	signal(w.readable)
	return false
}

// ready implements role.
func (w *web) ready() {}

// unread implements role.
func (w *web) unread() bool { return len(w.body) > 0 }

// ended implements role.
func (w *web) ended() {
	w.body = nil
	signal(w.readable)
	signal(w.writable)
}

// run is the goroutine of the handler.
func (w *web) run() {
	defer w.c.srv.work.Done()
	defer w.finishHandler()
	r, err := w.request()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.c.srv.cfg.HTTP.ServeHTTP(w, r)
}

// finishHandler ends the answer. A panic of the handler resets the stream, as net/http does.
func (w *web) finishHandler() {
	failure := recover()
	if failure != nil && failure != http.ErrAbortHandler {
		w.c.srv.logf("rpc: the HTTP handler panicked", "path", w.req.path, "panic", fmt.Sprint(failure), "stack", string(debug.Stack()))
	}
	if failure == nil {
		w.send(true)
	}
	w.c.mu.Lock()
	w.done()
	w.c.webs-- // not before the handler is through: a reset does not free its goroutine
	if failure != nil {
		w.reset(http2.ErrCodeInternal, statusCanceled)
	}
	w.finish(nil)
	w.c.mu.Unlock()
	w.c.flush(false)
}

// request builds the http.Request.
func (w *web) request() (*http.Request, error) {
	q := w.req
	u := &url.URL{Host: q.authority}
	requestURI := q.authority
	if q.method != http.MethodConnect {
		var err error
		if u, err = url.ParseRequestURI(q.path); err != nil {
			return nil, fmt.Errorf("invalid path: %w", err)
		}
		requestURI = q.path
	}
	h := make(http.Header, len(q.meta))
	for _, f := range q.raw {
		if !strings.HasPrefix(f.Name, ":") && f.Name != "host" {
			h.Add(f.Name, f.Value)
		}
	}
	if cookies := h["Cookie"]; len(cookies) > 1 {
		h.Set("Cookie", strings.Join(cookies, "; "))
	}
	r := &http.Request{
		Method: q.method, URL: u, Proto: "HTTP/2.0", ProtoMajor: 2, Header: h, Body: webBody{w}, ContentLength: q.length,
		Host: q.authority, RemoteAddr: w.c.nc.RemoteAddr().String(), RequestURI: requestURI, TLS: w.c.tls,
	}
	w.c.mu.Lock()
	if w.in.ended && w.in.received == 0 {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	w.c.mu.Unlock()
	// As net/http tells its handlers.
	return r.WithContext(context.WithValue(w.Context(), http.LocalAddrContextKey, w.c.nc.LocalAddr())), nil
}

// webBody is the body of a request.
type webBody struct{ w *web }

// Read implements io.Reader.
func (b webBody) Read(p []byte) (int, error) {
	w := b.w
	for {
		n, credited, err := w.readSome(p)
		if credited {
			w.c.flush(false)
		}
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		<-w.readable
	}
}

func (w *web) readSome(p []byte) (n int, credited bool, err error) {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	if len(w.body) > 0 {
		n = copy(p, w.body)
		if w.body = w.body[n:]; len(w.body) == 0 {
			w.body = nil
		}
		w.c.release(&w.exchange, n)
		return n, w.c.credit(&w.exchange), nil
	}
	switch {
	case w.in.ended:
		return 0, false, io.EOF
	case w.over:
		return 0, false, errWebOver
	}
	return 0, false, nil
}

// Close implements io.Closer; what is unread is dropped when the handler returns.
func (b webBody) Close() error { return nil }

var errWebOver = errors.New("rpc: the client has gone away")

// Header implements http.ResponseWriter.
func (w *web) Header() http.Header { return w.headers }

// WriteHeader implements http.ResponseWriter.
func (w *web) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
}

// Write implements http.ResponseWriter. It waits while the client does not read.
func (w *web) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if !bodyAllowed(w.status) {
		return 0, http.ErrBodyNotAllowed
	}
	w.buf = append(w.buf, p...)
	if len(w.buf) >= webBufferBytes {
		if err := w.send(false); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Flush implements http.Flusher.
func (w *web) Flush() {
	w.WriteHeader(http.StatusOK)
	_ = w.send(false) // the next Write reports that the client has gone
}

func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// send gives what is buffered to the connection, when the stream's outbox has room; last says that the handler is done.
func (w *web) send(last bool) error {
	w.WriteHeader(http.StatusOK)
	for {
		w.c.mu.Lock()
		if w.over || w.out.closing {
			w.c.mu.Unlock()
			return errWebOver
		}
		if w.out.box.size <= outboxBytes/2 || last {
			break
		}
		w.c.mu.Unlock()
		<-w.writable
	}
	if !w.flushed {
		w.flushed = true
		w.c.w.appendWebHeaders(w, last)
	}
	if len(w.buf) > 0 && w.req.method != http.MethodHead {
		w.c.w.enqueue(&w.exchange, w.buf, ownerOther)
	}
	w.buf = nil
	w.c.mu.Unlock()
	if !last {
		w.c.flush(false)
	}
	return nil
}

// writeEnd ends the stream; its headers have been written. mu held.
func (w *web) writeEnd() {
	w.c.w.out = appendFrame(w.c.w.buffer(), 0, http2.FrameData, http2.FlagDataEndStream, w.id)
}

// appendWebHeaders writes the response headers of a web request; whole says that all of the body is in w.buf.
func (w *writer) appendWebHeaders(r *web, whole bool) {
	r.out.begun = true
	status := r.status
	at := len(w.buffer())
	w.out = appendFrame(w.out, 0, http2.FrameHeaders, http2.FlagHeadersEndHeaders, r.id)
	w.out = appendHTTPStatus(w.head.begin(w.out), status)
	if whole && bodyAllowed(status) && r.headers.Get("Content-Length") == "" && r.req.method != http.MethodHead {
		w.out = appendLiteral(w.out, "content-length", strconv.Itoa(len(r.buf)))
	}
	if len(r.buf) > 0 && r.headers.Get("Content-Type") == "" {
		w.out = appendLiteral(w.out, "content-type", http.DetectContentType(r.buf))
	}
	for name, values := range r.headers {
		name = strings.ToLower(name)
		if !validFieldName(name) || hopByHop(name) {
			continue
		}
		for _, v := range values {
			if httpguts.ValidHeaderFieldValue(v) {
				w.out = appendLiteral(w.out, name, v)
			}
		}
	}
	w.out = endBlock(w.out, at, r.id)
	w.provoked = true
}

func hopByHop(name string) bool {
	switch name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade", "trailer":
		return true
	}
	return strings.HasPrefix(name, "trailer:")
}

// appendHTTPStatus appends a :status field.
func appendHTTPStatus(dst []byte, status int) []byte {
	if status == http.StatusOK {
		return append(dst, staticStatus200)
	}
	dst = appendInt(dst, 0, 4, staticStatus)
	return appendString(dst, strconv.Itoa(status))
}

// appendRefusal writes the whole answer to a request that never becomes an exchange.
func (w *writer) appendRefusal(id uint32, status int, st *Status) {
	at := len(w.buffer())
	w.out = appendFrame(w.out, 0, http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, id)
	if status == http.StatusOK {
		w.out = w.head.appendGRPC(w.out, grpcContentType)
	} else {
		w.out = appendHTTPStatus(w.head.begin(w.out), status)
		w.out = appendLiteral(w.out, "content-type", grpcContentType)
	}
	w.out = w.head.appendStatus(w.out, st)
	w.out = endBlock(w.out, at, id)
	w.provoked = true
}

// webLog carries net/http's complaints to the server's log.
func (s *Server) webLog() *log.Logger { return log.New(logWriter{s}, "", 0) }

type logWriter struct{ s *Server }

func (l logWriter) Write(p []byte) (int, error) {
	l.s.logf("rpc: " + strings.TrimSpace(string(p)))
	return len(p), nil
}
