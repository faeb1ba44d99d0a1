package rpc_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"quorate.dev/quorate/rpc"
)

// site is the http.Handler of these tests.
func site() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Proto", r.Proto)
		w.Header().Set("X-Query", r.URL.RawQuery)
		w.Header().Set("X-TLS", fmt.Sprint(r.TLS != nil))
		w.Header().Set("Connection", "close")
		if _, err := io.Copy(w, r.Body); err != nil {
			panic(err)
		}
	})
	mux.HandleFunc("/status", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("/flush", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "first")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	return mux
}

// clients are net/http's, one for each protocol.
func clients(h2 *http2.Transport) map[string]*http.Client {
	h1 := &http.Transport{}
	return map[string]*http.Client{"HTTP/1.1": {Transport: h1}, "HTTP/2.0": {Transport: h2}}
}

func plainH2() *http2.Transport {
	return &http2.Transport{AllowHTTP: true, DialTLSContext: func(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
}

// TestHTTP serves what is not gRPC on the same port, over both protocols.
func TestHTTP(t *testing.T) {
	s := start(t, rpc.Config{HTTP: site()}, nil)
	for proto, c := range clients(plainH2()) {
		t.Run(strings.ReplaceAll(proto, "/", " "), func(t *testing.T) {
			defer c.CloseIdleConnections()
			for _, n := range []int{0, 10, 100_000, 20 << 20} {
				body := pattern(n)
				resp, err := c.Post("http://"+s.addr+"/echo?a=b", "text/plain", bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || !bytes.Equal(got, body) || resp.Header.Get("X-Proto") != proto || resp.Header.Get("X-Query") != "a=b" {
					t.Fatalf("%d bytes: %v, %d back, %v", n, err, len(got), resp.Header)
				}
			}
			resp, err := c.Get("http://" + s.addr + "/status")
			if err != nil || resp.StatusCode != http.StatusNoContent {
				t.Errorf("status: %v %v", resp, err)
			}
			resp, err = c.Get("http://" + s.addr + "/none")
			if err != nil || resp.StatusCode != http.StatusNotFound {
				t.Errorf("not found: %v %v", resp, err)
			}
			resp, err = c.Head("http://" + s.addr + "/none")
			if err != nil || resp.StatusCode != http.StatusNotFound {
				t.Errorf("HEAD: %v %v", resp, err)
			}
			if resp, err := c.Get("http://" + s.addr + "/panic"); err == nil {
				t.Errorf("a handler that aborts answered %v", resp.Status)
			}
			streamed(t, c, s.addr)
		})
	}
}

// streamed reads an answer that is flushed in the middle and never ends.
func streamed(t *testing.T, c *http.Client, addr string) {
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/flush", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "first" {
		t.Errorf("flushed: %q %v", buf, err)
	}
}

// TestContentLength holds a request to its content-length.
func TestContentLength(t *testing.T) {
	s := start(t, rpc.Config{HTTP: site()}, nil)
	c := s.connect(t)
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: c.block(
		hpack.HeaderField{Name: ":method", Value: "POST"}, hpack.HeaderField{Name: ":scheme", Value: "http"},
		hpack.HeaderField{Name: ":path", Value: "/echo"}, hpack.HeaderField{Name: "content-length", Value: "3"})}))
	c.must(c.fr.WriteData(1, true, []byte("abcd")))
	c.expectReset(1, http2.ErrCodeProtocol)
	c.alive(3)
}

// TestTLS lets ALPN decide, and shows handlers the handshake.
func TestTLS(t *testing.T) {
	cert := selfSigned(t)
	s, err := rpc.New(rpc.Config{HTTP: site()})
	if err != nil {
		t.Fatal(err)
	}
	s.Unary("/t.T/TLS", func(c *rpc.Call, msg []byte) {
		c.Reply(rpc.RawMessage(fmt.Sprint(c.TLS() != nil && c.TLS().HandshakeComplete, " ", len(msg))))
	})
	s.Stream("/t.T/Stream", echoStream)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	addr := l.Addr().String()
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	conf := &tls.Config{RootCAs: roots}

	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(conf.Clone())),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := call(within(t), cc, "/t.T/TLS", pattern(3_000_000)); err != nil || string(got) != "true 3000000" {
		t.Errorf("gRPC: %v %q", err, got)
	}
	st, err := cc.NewStream(within(t), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/t.T/Stream")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		msg := pattern(200_000)
		var got []byte
		if err := st.SendMsg(&msg); err != nil {
			t.Fatal(err)
		}
		if err := st.RecvMsg(&got); err != nil || !bytes.Equal(got, msg) {
			t.Fatalf("stream: %v, %d bytes", err, len(got))
		}
	}
	for proto, rt := range map[string]http.RoundTripper{
		"HTTP/1.1": &http.Transport{TLSClientConfig: conf.Clone()}, "HTTP/2.0": &http2.Transport{TLSClientConfig: conf.Clone()},
	} {
		resp, err := (&http.Client{Transport: rt}).Get("https://" + addr + "/echo")
		if err != nil || resp.Proto != proto || resp.Header.Get("X-TLS") != "true" {
			t.Errorf("%s: %v %v", proto, resp, err)
		}
	}
	cc.Close()
	if err := s.Shutdown(within(t)); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// TestConfig refuses what makes no sense, by name.
func TestConfig(t *testing.T) {
	for _, c := range []struct {
		cfg  rpc.Config
		want string
	}{
		{rpc.Config{MessageBytesMax: -1}, "MessageBytesMax is -1"},
		{rpc.Config{WriteTimeout: -time.Second}, "WriteTimeout is -1s"},
		{rpc.Config{ConnectionAgeMax: -1}, "ConnectionAgeMax is -1ns"},
	} {
		if _, err := rpc.New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
}

// TestIdleConnections keeps many connections open: an idle one holds little.
func TestIdleConnections(t *testing.T) {
	const n = 500
	s := start(t, rpc.Config{}, nil)
	var cs []*rawClient
	before := heap()
	for range n {
		c := s.connect(t)
		c.alive(1)
		cs = append(cs, c)
	}
	both := (heap() - before) / n
	// The client's framer alone keeps its read buffer; what remains under this bound is the server's share.
	if both > 24<<10 {
		t.Errorf("%d bytes an idle connection, both sides", both)
	}
	t.Logf("%d bytes an idle connection, both sides", both)
	for _, c := range cs {
		c.alive(3)
	}
}
