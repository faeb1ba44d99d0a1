package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/gateway"
	"quorate.dev/quorate/grpcapi"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/rpc"
)

// patience bounds waiting for something that must happen.
const patience = time.Minute

// bound is the largest request of the gateways under test, bytes.
const bound = 1 << 10

// stand is a gateway before a gRPC server whose methods a test defines.
type stand struct {
	*gateway.Gateway
	url   string
	addr  string
	conns atomic.Int64 // between the gateway and the server
}

// newStand serves with unary and stream methods by their names.
func newStand(t *testing.T, unary map[string]rpc.UnaryHandler, streams map[string]rpc.StreamHandler) *stand {
	t.Helper()
	s, err := rpc.New(rpc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for name, h := range unary {
		s.Unary("/etcdserverpb."+name, h)
	}
	for name, h := range streams {
		s.Stream("/etcdserverpb."+name, h)
	}
	g, err := gateway.New(gateway.Config{Files: grpcapi.Files(), BodyBytes: bound})
	if err != nil {
		t.Fatal(err)
	}
	st := &stand{Gateway: g}
	web := httptest.NewServer(g)
	st.url, st.addr = web.URL, web.Listener.Addr().String()
	served := make(chan error)
	go func() { served <- s.Serve(counted{g.Listener(), &st.conns}) }()
	t.Cleanup(func() {
		web.CloseClientConnections()
		g.Close()
		_ = s.Close()
		<-served
		web.Close()
	})
	return st
}

// counted counts the open connections of a listener.
type counted struct {
	net.Listener
	open *atomic.Int64
}

func (l counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.open.Add(1)
	return &countedConn{Conn: c, Passing: c.(rpc.Passing), open: l.open}, nil
}

type countedConn struct {
	net.Conn
	rpc.Passing
	once sync.Once
	open *atomic.Int64
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// message is a message of the API as rpc sends it.
func message(t *testing.T, m proto.Message) rpc.RawMessage {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return rpc.RawMessage(b)
}

// post sends a request and returns its status and body.
func (s *stand) post(t *testing.T, path, body string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// echo answers a range with its own key.
func echo(t *testing.T) rpc.UnaryHandler {
	return func(c *rpc.Call, msg []byte) {
		var req etcdserverpb.RangeRequest
		if err := proto.Unmarshal(msg, &req); err != nil {
			t.Error(err)
		}
		c.Reply(message(t, &etcdserverpb.RangeResponse{Count: int64(len(req.Key)), More: true}))
	}
}

// TestPeer: the server is told whose a request is, also when the client says that it is somebody else.
func TestPeer(t *testing.T) {
	peers := make(chan net.Addr, 1)
	secured := make(chan bool, 1)
	s := newStand(t, map[string]rpc.UnaryHandler{"KV/Range": func(c *rpc.Call, msg []byte) {
		peers <- c.Peer()
		secured <- c.TLS() != nil
		echo(t)(c, msg)
	}}, nil)
	for _, headers := range [][]string{nil, {"Grpc-Metadata-Quorate-Gateway-Client", "10.1.2.3:4"}, {"X-Forwarded-For", "10.1.2.3"}} {
		if code, body := s.post(t, "/v3/kv/range", `{"key":"YWI="}`, headers...); code != http.StatusOK || body != `{"more":true,"count":"2"}` {
			t.Errorf("%v: %d %s", headers, code, body)
		}
		a, ok := (<-peers).(*net.TCPAddr)
		if !ok || !a.IP.IsLoopback() || a.Port == 0 || a.Port == 4 {
			t.Errorf("with headers %v the server takes %v for the client", headers, a)
		}
		if <-secured {
			t.Error("a request comes with TLS, whose certificate could count")
		}
	}
}

// TestBodies: the size of a request is bounded, that of a stream is not.
func TestBodies(t *testing.T) {
	s := newStand(t, map[string]rpc.UnaryHandler{"KV/Range": echo(t)}, map[string]rpc.StreamHandler{
		"Lease/LeaseKeepAlive": func(st *rpc.Stream) *rpc.Status {
			for n := int64(1); ; n++ {
				if _, err := st.Recv(); err != nil {
					return nil
				}
				if err := st.Send(message(t, &etcdserverpb.LeaseKeepAliveResponse{ID: n})); err != nil {
					return nil
				}
			}
		}})
	large := `{"key":"` + strings.Repeat("YWFh", bound/4) + `"}`
	for _, c := range []struct {
		path, body string
		code       int
		want       string
	}{
		{"/v3/kv/range", `{"key":"` + strings.Repeat("YWFh", bound/8) + `"}`, 200, `{"more":true,"count":"384"}`},
		{"/v3/kv/range", large, 429, `{"code":8,"message":"the JSON text of a request is too large: 1024 bytes; send less at a time, or raise --max-request-bytes of the server"}`},
		{"/v3/kv/range", `{"key":"YQ=="}` + strings.Repeat(" ", 100*bound), 200, `{"more":true,"count":"1"}`},
		{"/v3/kv/range", strings.Repeat(" ", 2*bound) + `{"key":"YQ=="}`, 429, ""},
		{"/v3/lease/keepalive", strings.Repeat(`{"ID":"1"}`+"\n", 3*bound), 200, ""},
		{"/v3/lease/keepalive", large, 429, ""},
		{"/v3/lease/keepalive", `{"ID":"1"} nonsense`, 0, `"message":"Failed to decode request: invalid character`},
		{"/v3/lease/keepalive", `nonsense`, 400, `{"code":3,"message":"Failed to decode request: invalid character`},
	} {
		code, body := s.post(t, c.path, c.body)
		if c.code != 0 && code != c.code || !strings.Contains(body, c.want) {
			t.Errorf("%s with %d bytes: %d %.300s", c.path, len(c.body), code, body)
		}
		if n := strings.Count(c.body, "\n"); n > 0 && strings.Count(body, `{"result":`) != n {
			t.Errorf("%d answers to %d messages", strings.Count(body, `{"result":`), n)
		}
	}
}

// flood sends without end to a watch whose key is "flood", and otherwise answers one message.
func flood(t *testing.T) rpc.StreamHandler {
	large := message(t, &etcdserverpb.WatchResponse{CancelReason: strings.Repeat("x", 100<<10)})
	return func(st *rpc.Stream) *rpc.Status {
		msg, err := st.Recv()
		if err != nil {
			return nil
		}
		if !strings.Contains(string(msg), "flood") {
			_ = st.Send(message(t, &etcdserverpb.WatchResponse{Created: true}))
			return nil
		}
		for {
			if err := st.Send(large); err != nil {
				return nil
			}
		}
	}
}

// TestSlowReaders: clients that read nothing of their streams hold nobody up, and once they have gone their connections go too.
func TestSlowReaders(t *testing.T) {
	var stuck atomic.Int64
	s := newStand(t, map[string]rpc.UnaryHandler{"KV/Range": echo(t)}, map[string]rpc.StreamHandler{"Watch/Watch": func(st *rpc.Stream) *rpc.Status {
		stuck.Add(1)
		defer stuck.Add(-1)
		return flood(t)(st)
	}})
	const slow = 5 * limits.GatewayCallsPerConn
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	narrow := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		}
		return c, err
	}}}
	for range slow {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v3/watch", strings.NewReader(`{"create_request":{"key":"`+"Zmxvb2Q="+`"}}`))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := narrow.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
	}
	for range 2 * limits.GatewayCallsPerConn {
		if code, body := s.post(t, "/v3/watch", `{"create_request":{}}`); code != http.StatusOK || body != `{"result":{"created":true}}`+"\n" {
			t.Fatalf("a watch beside slow ones: %d %s", code, body)
		}
		if code, body := s.post(t, "/v3/kv/range", `{"key":"YQ=="}`); code != http.StatusOK {
			t.Fatalf("a range beside slow watches: %d %s", code, body)
		}
	}
	if n := s.conns.Load(); n < slow/limits.GatewayCallsPerConn {
		t.Errorf("%d streams share %d connections", slow, n)
	}
	leave()
	await(t, "slow streams and their connections to go", func() bool { return stuck.Load() == 0 && s.conns.Load() <= limits.GatewayConnsKept })
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); !done(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("waited in vain for " + what)
		}
	}
}

// TestClose: it ends what is under way, and what comes later is refused.
func TestClose(t *testing.T) {
	s := newStand(t, map[string]rpc.UnaryHandler{"KV/Range": echo(t)}, map[string]rpc.StreamHandler{"Watch/Watch": func(st *rpc.Stream) *rpc.Status {
		_ = st.Send(message(t, &etcdserverpb.WatchResponse{Created: true}))
		<-st.Context().Done()
		return nil
	}})
	resp, err := http.Post(s.url+"/v3/watch", "", strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, "created") {
		t.Fatal(line, err)
	}
	c := dialSocket(t, s, "/v3/watch", "")
	c.send(t, frame{op: opText, data: `{}`})
	if f := c.next(t); f.op != opText || !strings.Contains(f.data, "created") {
		t.Fatalf("%+v", f)
	}
	s.Close()
	if rest, err := io.ReadAll(lines); err != nil || !strings.HasPrefix(string(rest), `{"error":{"code":1,`) {
		t.Errorf("the stream ended with %s %v", rest, err)
	}
	if f := c.next(t); f.op == opText {
		f = c.next(t)
		if f.op != opClose {
			t.Errorf("the socket ended with %+v", f)
		}
	}
	if code, body := s.post(t, "/v3/kv/range", "{}"); code != http.StatusServiceUnavailable {
		t.Errorf("a request after Close: %d %s", code, body)
	}
}

// TestTogether: many clients at once are all answered with what is theirs.
func TestTogether(t *testing.T) {
	s := newStand(t, map[string]rpc.UnaryHandler{"KV/Range": echo(t)}, nil)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for n := range 5 {
				size := 3 * (i + n + 1)
				if code, body := s.post(t, "/v3/kv/range", `{"key":"`+strings.Repeat("YWFh", i+n+1)+`"}`); code != http.StatusOK || body != fmt.Sprintf(`{"more":true,"count":"%d"}`, size) {
					t.Errorf("%d %s", code, body)
				}
			}
		})
	}
	wg.Wait()
}
