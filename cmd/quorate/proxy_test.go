package main

import (
	"context"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"quorate.dev/quorate/embed"
	"quorate.dev/quorate/internal/freeport"
)

// etcdProxyFlags are those of etcd 3.7's "grpc-proxy start", with their defaults.
var etcdProxyFlags = map[string]string{
	"listen-addr": "127.0.0.1:23790", "discovery-srv": "", "discovery-srv-name": "", "metrics-addr": "", "insecure-discovery": "false",
	"endpoints": "[127.0.0.1:2379]", "endpoints-auto-sync-interval": "0s", "dial-keepalive-time": "0s", "dial-keepalive-timeout": "20s",
	"permit-without-stream": "false", "advertise-client-url": "127.0.0.1:23790", "resolver-prefix": "", "resolver-ttl": "0", "namespace": "",
	"enable-pprof": "false", "data-dir": "default.proxy", "max-send-bytes": "1572864", "max-recv-bytes": "2147483647",
	"grpc-keepalive-min-time": "5s", "grpc-keepalive-interval": "2h0m0s", "grpc-keepalive-timeout": "20s", "cert": "", "key": "", "cacert": "",
	"insecure-skip-tls-verify": "false", "cert-file": "", "key-file": "", "trusted-ca-file": "", "listen-cipher-suites": "[]", "auto-tls": "false",
	"client-crl-file": "", "self-signed-cert-validity": "1", "tls-min-version": "TLS1.2", "tls-max-version": "",
	"experimental-serializable-ordering": "false", "experimental-leasing-prefix": "", "experimental-enable-grpc-logging": "false",
	"debug": "false", "max-concurrent-streams": "4294967295",
}

// TestProxyFlags: etcd's flags with etcd's defaults, and no others, under every name of the verb.
func TestProxyFlags(t *testing.T) {
	code := 0
	verb, etcds := proxyCommand(&code), grpcProxyCommand(&code)
	for name, flags := range map[string]*pflag.FlagSet{
		"proxy": verb.Flags(), "proxy start": verb.Commands()[0].Flags(), "grpc-proxy start": etcds.Commands()[0].Flags(),
	} {
		for flag, want := range etcdProxyFlags {
			if got := flags.Lookup(flag); got == nil || got.DefValue != want {
				t.Errorf("%s --%s: %+v, want the default %q", name, flag, got, want)
			}
		}
	}
	verb.Flags().VisitAll(func(f *pflag.Flag) {
		if _, ok := etcdProxyFlags[f.Name]; !ok && f.Name != "help" {
			t.Errorf("--%s is not etcd's", f.Name)
		}
	})
}

// TestProxyRefusals: what a command line may not say, with etcd's exit code and words.
func TestProxyRefusals(t *testing.T) {
	for line, want := range map[string]string{
		"--resolver-prefix p": "invalid resolver-ttl 0\n",
		"--resolver-ttl 5":    "invalid resolver-prefix \"\"\n",
		"--tls-min-version TLS1.3 --tls-max-version TLS1.2":     "min version (TLS1.3) is greater than max version (TLS1.2)\n",
		"--tls-min-version TLS1.3 --listen-cipher-suites TLS_X": "unexpected TLS cipher suite \"TLS_X\"\n",
		"--experimental-leasing-prefix l/":                      "--experimental-leasing-prefix: a proxy that answers reads from memory",
		"--listen-addr 127.0.0.1:nope":                          "--listen-addr: listen tcp",
	} {
		code, _, errs := command(t, append([]string{"grpc-proxy", "start"}, strings.Fields(line)...)...)
		if code != 1 || !strings.Contains(errs, want) {
			t.Errorf("%s\n got %d %q\nwant 1 %q", line, code, errs, want)
		}
	}
}

// TestProxyDiscovery: the endpoints that DNS names, those without TLS only when they are asked for.
func TestProxyDiscovery(t *testing.T) {
	dns := zone{"_etcd-client-x._tcp.example.com", []*net.SRV{{Target: "a.", Port: 1}, {Target: "b.", Port: 4}}}
	for _, c := range []struct {
		service  string
		insecure bool
		want     string // or of the error
	}{
		{"x", true, "http://a:1 http://b:4"}, {"x", false, "http://a:1 is insecure"}, {"y", true, "no SRV records of _etcd-client-ssl-y._tcp.example.com"},
	} {
		var p proxyFlags
		p.discovery.domain, p.discovery.name, p.discovery.insecure = "example.com", c.service, c.insecure
		got := ""
		if err := p.discover(t.Context(), dns); err != nil {
			got = err.Error()
		} else {
			got = strings.Join(p.cfg.Store.Endpoints, " ")
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// TestProxyRun: a proxy serves until a signal and ends well. The flags come from the command line alone, not from etcd's
// environment variables.
func TestProxyRun(t *testing.T) {
	t.Setenv("ETCD_LISTEN_ADDR", "127.0.0.1:1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := embed.Start(ctx, embed.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	address := freeport.Address(t)
	ended := make(chan int, 1)
	go func() {
		ended <- asEtcd([]string{"grpc-proxy", "start", "--endpoints", s.ClientURLs()[0], "--listen-addr", address})
	}()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{address}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case code := <-ended:
		if code != 0 {
			t.Errorf("exit code %d", code)
		}
	case <-ctx.Done():
		t.Fatal("it does not end")
	}
}
