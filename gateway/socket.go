package gateway

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
)

// A WebSocket carries a stream's requests to the server and its answers back, one JSON text a message (source for what the
// client may say in the handshake: wsproxy of github.com/tmc/grpc-websocket-proxy, which etcd uses). It is a POST of its own:
// of the client's headers only Origin, Referer and the token count.

// tokenCookie is where a browser, which cannot set the header, may keep a token. The other place is the subprotocol.
const (
	tokenCookie   = "token"
	bearer        = "Bearer"
	socketGUID    = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // of RFC 6455
	socketVersion = "13"
)

// asksForSocket reports whether a request wants to become a WebSocket.
func asksForSocket(r *http.Request) bool {
	return hasToken(r.Header, "Connection", "upgrade") && hasToken(r.Header, "Upgrade", "websocket")
}

// hasToken reports whether a list in headers has a word, in upper or lower case.
func hasToken(h http.Header, name, word string) bool {
	for _, line := range h.Values(name) {
		for part := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(part), word) {
				return true
			}
		}
	}
	return false
}

// serveSocket makes a request a WebSocket and serves it until either side ends it.
func (g *Gateway) serveSocket(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(g.ctx, cancel)()
	s, ok := upgrade(w, r, g.bound)
	if !ok {
		return
	}
	defer s.close()
	defer context.AfterFunc(ctx, s.abandon)()

	from, to := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL.String(), from)
	if err != nil {
		s.fail(err)
		return
	}
	req.RemoteAddr = r.RemoteAddr
	pass(r, req)
	go func() {
		defer cancel() // nobody is there any more
		to.CloseWithError(s.receive(to))
	}()
	answer := &socketAnswer{socket: s, header: http.Header{}}
	g.mux.ServeHTTP(answer, req)
	_ = from.Close()
	answer.end()
}

// pass copies what of the client's headers counts.
func pass(r, req *http.Request) {
	for _, name := range []string{"Origin", "Referer"} {
		if v := r.Header.Get(name); v != "" {
			req.Header.Set(name, v)
		}
	}
	if offered := r.Header.Get("Sec-WebSocket-Protocol"); offered != "" {
		token := ""
		if _, rest, ok := strings.Cut(offered, bearer+","); ok {
			token = bearer + " " + strings.Trim(rest, " ")
		}
		req.Header.Set("Authorization", token)
	}
	if c, err := r.Cookie(tokenCookie); err == nil {
		req.Header.Set("Authorization", bearer+" "+c.Value)
	}
}

// upgrade answers the handshake. It reports false when it has refused it.
func upgrade(w http.ResponseWriter, r *http.Request, bound int64) (*socket, bool) {
	key := r.Header.Get("Sec-WebSocket-Key")
	raw, err := base64.StdEncoding.DecodeString(key)
	status := 0
	switch {
	case r.Method != http.MethodGet:
		status = http.StatusMethodNotAllowed
	case !hasToken(r.Header, "Sec-WebSocket-Version", socketVersion), err != nil, len(raw) != 16:
		status = http.StatusBadRequest
	}
	if status != 0 {
		w.Header().Set("Sec-Websocket-Version", socketVersion)
		http.Error(w, http.StatusText(status), status)
		return nil, false
	}
	nc, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil { // HTTP/2 has no such thing
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return nil, false
	}
	sum := sha1.Sum([]byte(key + socketGUID))
	var head bytes.Buffer
	head.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ")
	head.WriteString(base64.StdEncoding.EncodeToString(sum[:]))
	if strings.HasPrefix(r.Header.Get("Sec-WebSocket-Protocol"), bearer) {
		head.WriteString("\r\nSec-WebSocket-Protocol: " + bearer)
	}
	head.WriteString("\r\n\r\n")
	if _, err := nc.Write(head.Bytes()); err != nil {
		_ = nc.Close()
		return nil, false
	}
	return &socket{nc: nc, r: buffered.Reader, bound: bound}, true
}

// socketAnswer is the http.ResponseWriter of a request over a WebSocket: each line becomes a message. Status and headers have no
// place there.
type socketAnswer struct {
	socket *socket
	header http.Header
	line   []byte
}

func (a *socketAnswer) Header() http.Header { return a.header }
func (a *socketAnswer) WriteHeader(int)     {}
func (a *socketAnswer) Flush()              {} // every line leaves as it is complete

func (a *socketAnswer) Write(p []byte) (int, error) {
	rest := p
	for {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		a.line = append(a.line, line...)
		if !whole {
			return len(p), nil
		}
		rest = after
		if err := a.send(); err != nil {
			return 0, err
		}
	}
}

func (a *socketAnswer) send() error {
	line := a.line
	a.line = a.line[:0]
	if len(line) == 0 {
		return nil
	}
	return a.socket.write(opText, line)
}

// end sends what is left, and says good-bye.
func (a *socketAnswer) end() {
	if a.send() == nil {
		a.socket.fail(nil)
	}
}

// fault is a way in which a WebSocket ends, by its code.
type fault uint16

// The codes of RFC 6455 that are used here.
const (
	faultNone     fault = 1000
	faultProtocol fault = 1002
	faultTooLarge fault = 1009
	faultInternal fault = 1011
)

func (f fault) Error() string {
	return map[fault]string{faultNone: "", faultProtocol: "not a WebSocket frame as RFC 6455 has it", faultTooLarge: "message too large", faultInternal: "internal error"}[f]
}

// fail says good-bye, with the reason if there is one.
func (s *socket) fail(err error) {
	f := faultNone
	if err != nil && !errors.As(err, &f) {
		f = faultInternal
	}
	_ = s.write(opClose, append([]byte{byte(f >> 8), byte(f)}, f.Error()...)) // the connection is closed next
}
