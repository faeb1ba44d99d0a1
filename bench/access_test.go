package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// TestCertificates has both ends of a connection verify each other with the files that servers and clients get.
func TestCertificates(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	a, err := certificateAccess(dir)
	if err != nil {
		t.Fatal(err)
	}
	if a.scheme() != "https://" {
		t.Errorf("the servers listen at %s", a.scheme())
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.LoadX509KeyPair(filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")); err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer near.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.tls.RootCAs})
	served := make(chan error, 1)
	go func() {
		err := server.HandshakeContext(ctx)
		far.Close() // a client that is refused must not wait
		served <- err
	}()
	client := tls.Client(near, a.tls)
	if err := client.HandshakeContext(ctx); err != nil {
		t.Fatalf("the client refuses: %v", err)
	}
	// With TLS 1.3 the client is done before the server has judged its certificate.
	client.Read(make([]byte, 1))
	if err := <-served; err != nil {
		t.Fatalf("the server refuses: %v", err)
	}
	peer := server.ConnectionState().PeerCertificates[0]
	if got, want := peer.Subject.CommonName, userName(0); got != want {
		t.Errorf("the client's certificate names %q, want %q", got, want)
	}
	if _, err := peer.Verify(x509.VerifyOptions{Roots: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
		t.Error("the certificate is good without its authority")
	}
}

func TestAuthRequests(t *testing.T) {
	for what, c := range map[string]struct {
		b         []byte
		got, want proto.Message
	}{
		"a login": {strs("alice", "secret"), &etcdserverpb.AuthenticateRequest{}, &etcdserverpb.AuthenticateRequest{Name: "alice", Password: "secret"}},
		"a grant of a range": {grantRequest("r", "a/", "a0"), &etcdserverpb.AuthRoleGrantPermissionRequest{}, &etcdserverpb.AuthRoleGrantPermissionRequest{
			Name: "r", Perm: &authpb.Permission{PermType: authpb.Permission_READWRITE, Key: []byte("a/"), RangeEnd: []byte("a0")}}},
		"a grant of a key": {grantRequest("r", "a", ""), &etcdserverpb.AuthRoleGrantPermissionRequest{}, &etcdserverpb.AuthRoleGrantPermissionRequest{
			Name: "r", Perm: &authpb.Permission{PermType: authpb.Permission_READWRITE, Key: []byte("a")}}},
		"a user with a password": {userRequest(3, true), &etcdserverpb.AuthUserAddRequest{}, &etcdserverpb.AuthUserAddRequest{Name: userName(3), Password: password(3)}},
		"a user without": {userRequest(3, false), &etcdserverpb.AuthUserAddRequest{}, &etcdserverpb.AuthUserAddRequest{Name: userName(3),
			Options: &authpb.UserAddOptions{NoPassword: true}}},
	} {
		if err := proto.Unmarshal(c.b, c.got); err != nil {
			t.Errorf("%s: %v", what, err)
		} else if !proto.Equal(c.got, c.want) {
			t.Errorf("%s: got %v, want %v", what, c.got, c.want)
		}
	}
}
