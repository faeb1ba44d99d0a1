package rpc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"quorate.dev/quorate/rpc"
)

// TestCertificateCN: handlers see the name in a client's certificate when it was verified and the server is told to show
// names, and nothing otherwise.
func TestCertificateCN(t *testing.T) {
	server, alice := selfSigned(t), named(t, "alice")
	both := x509.NewCertPool()
	both.AddCert(server.Leaf)
	both.AddCert(alice.Leaf)
	for name, c := range map[string]struct {
		names bool
		auth  tls.ClientAuthType
		shown []tls.Certificate
		want  string
	}{
		"verified":     {true, tls.RequireAndVerifyClientCert, []tls.Certificate{alice}, "alice"},
		"not verified": {true, tls.RequestClientCert, []tls.Certificate{alice}, ""},
		"none":         {true, tls.VerifyClientCertIfGiven, nil, ""},
		"not wanted":   {false, tls.RequireAndVerifyClientCert, []tls.Certificate{alice}, ""},
	} {
		s, err := rpc.New(rpc.Config{CertificateNames: c.names})
		if err != nil {
			t.Fatal(err)
		}
		s.Unary("/t.T/Name", func(c *rpc.Call, _ []byte) { c.Reply(rpc.RawMessage(c.CertificateCN())) })
		s.Stream("/t.T/Names", func(st *rpc.Stream) *rpc.Status {
			if err := st.Send(rpc.RawMessage(st.CertificateCN())); err != nil {
				return asStatus(err)
			}
			return nil
		})
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: c.auth, ClientCAs: both, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		go s.Serve(l)
		t.Cleanup(func() { s.Close() })
		if got := askNames(t, l.Addr(), &tls.Config{RootCAs: both, Certificates: c.shown}); got != [2]string{c.want, c.want} {
			t.Errorf("%s: call and stream see %q, want %q", name, got, c.want)
		}
	}
	plain := start(t, rpc.Config{CertificateNames: true}, func(s *rpc.Server) {
		s.Unary("/t.T/Name", func(c *rpc.Call, _ []byte) { c.Reply(rpc.RawMessage("<" + c.CertificateCN() + ">")) })
	})
	if got, err := call(within(t), plain.dial(t), "/t.T/Name", nil); err != nil || string(got) != "<>" {
		t.Errorf("without TLS: %q, %v", got, err)
	}
}

// askNames asks a call and a stream for the client's name.
func askNames(t *testing.T, addr net.Addr, conf *tls.Config) (names [2]string) {
	t.Helper()
	cc, err := grpc.NewClient(addr.String(), grpc.WithTransportCredentials(credentials.NewTLS(conf)), grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{})))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	got, err := call(within(t), cc, "/t.T/Name", nil)
	if err != nil {
		t.Fatal(err)
	}
	st, err := cc.NewStream(within(t), &grpc.StreamDesc{ServerStreams: true}, "/t.T/Names")
	if err != nil {
		t.Fatal(err)
	}
	var streamed []byte
	if err := st.RecvMsg(&streamed); err != nil {
		t.Fatal(err)
	}
	return [2]string{string(got), string(streamed)}
}

// named makes a self-signed certificate for a client.
func named(t *testing.T, cn string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: cn}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
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

// held is a connection that holds writes back, as those of package certs do.
type held struct {
	net.Conn
	mu      sync.Mutex
	holding bool
	buf     []byte
	writes  *atomic.Int64 // of more than a record that were held back
}

func (h *held) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.holding {
		h.buf = append(h.buf, p...)
		return len(p), nil
	}
	return h.Conn.Write(p)
}

func (h *held) Hold() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holding = true
}

func (h *held) Release() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holding = false
	if len(h.buf) > 16<<10 {
		h.writes.Add(1)
	}
	_, err := h.Conn.Write(h.buf)
	h.buf = nil
	return err
}

type holdingListener struct {
	net.Listener
	conf   *tls.Config
	writes atomic.Int64
}

func (l *holdingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tls.Server(&held{Conn: c, writes: &l.writes}, l.conf), nil
}

// TestGatheredWrites: large answers over TLS are held back below it until they are there whole, and arrive.
func TestGatheredWrites(t *testing.T) {
	cert := selfSigned(t)
	s, err := rpc.New(rpc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s.Unary("/t.T/Echo", echo)
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &holdingListener{Listener: raw, conf: &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}}}
	go s.Serve(l)
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	cc, err := grpc.NewClient(raw.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots})),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	for _, n := range []int{1, 20_000, 3_000_000} {
		if got, err := call(within(t), cc, "/t.T/Echo", pattern(n)); err != nil || string(got) != string(pattern(n)) {
			t.Fatalf("%d bytes: %v, %d bytes back", n, err, len(got))
		}
	}
	if l.writes.Load() == 0 {
		t.Error("every record left alone")
	}
}
