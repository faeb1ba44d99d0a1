package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"quorate.dev/quorate/certs"
	"quorate.dev/quorate/config"
	"quorate.dev/quorate/discovery"
	"quorate.dev/quorate/proxy"
	"quorate.dev/quorate/server"
)

// proxyDrain is how long a proxy that stops waits for the calls under way.
const proxyDrain = 10 * time.Second

// proxyFlags are the command line of a proxy, as far as it is not proxy.Config.
type proxyFlags struct {
	cfg       proxy.Config
	discovery struct {
		domain, name string
		insecure     bool
	}
	suites    []string
	low, high string
	debug     bool
}

// proxyCommand is "quorate proxy". code becomes the exit code.
func proxyCommand(code *int) *cobra.Command {
	c := proxyStart(code)
	c.Use, c.Short = "proxy [start] [flags]", "Start a proxy that many clients share to the store"
	c.AddCommand(proxyStart(code))
	return c
}

// grpcProxyCommand is what etcd calls the same.
func grpcProxyCommand(code *int) *cobra.Command {
	c := &cobra.Command{Use: "grpc-proxy <subcommand>", Short: "grpc-proxy related command (the same as proxy)"}
	c.AddCommand(proxyStart(code))
	return c
}

func proxyStart(code *int) *cobra.Command {
	p := &proxyFlags{cfg: proxy.Default()}
	c := &cobra.Command{
		Use: "start [flags]", Short: "start the grpc proxy", Args: cobra.NoArgs,
		Long: `Start a proxy: clients connect to it as to a member of the store. It needs few connections to the store, one watch for all
watchers of the same range, and one call for identical reads at the same time. Every request reaches the store with the
credentials of its client; no answer is kept.`,
		Example: "  quorate proxy --endpoints 10.0.0.1:2379,10.0.0.2:2379 --listen-addr 0.0.0.0:23790 --advertise-client-url proxy1:23790",
		RunE: func(*cobra.Command, []string) error {
			*code = p.run()
			return nil
		},
	}
	c.Flags().SortFlags = false
	p.bind(c.Flags())
	p.bindTLS(c.Flags())
	return c
}

// bind defines etcd's flags of a proxy.
func (p *proxyFlags) bind(f *pflag.FlagSet) {
	c := &p.cfg
	f.StringVar(&c.Listen.Address, "listen-addr", c.Listen.Address, "listen address")
	f.StringVar(&p.discovery.domain, "discovery-srv", "", "domain name to query for SRV records describing cluster endpoints")
	f.StringVar(&p.discovery.name, "discovery-srv-name", "", "service name to query when using DNS discovery")
	f.StringVar(&c.Listen.MetricsURL, "metrics-addr", "", "URL to serve /metrics, /health, /proxy/metrics and /proxy/health on as well")
	f.BoolVar(&p.discovery.insecure, "insecure-discovery", false, "accept insecure SRV records")
	f.StringSliceVar(&c.Store.Endpoints, "endpoints", c.Store.Endpoints, "comma separated endpoints of the store")
	f.DurationVar(&c.Store.AutoSync, "endpoints-auto-sync-interval", 0, "how often the endpoints are made those of the members (0: never)")
	f.DurationVar(&c.Store.KeepaliveTime, "dial-keepalive-time", 0, "how often a connection to the store is tried (0: every second, and 15 s of silence close it)")
	f.DurationVar(&c.Store.KeepaliveTimeout, "dial-keepalive-timeout", c.Store.KeepaliveTimeout, "how long after that a silent connection to the store is closed")
	f.BoolVar(&c.Store.WithoutStream, "permit-without-stream", false, "try connections to the store also when no call is under way (always done)")
	f.StringVar(&c.Advertise.URL, "advertise-client-url", c.Advertise.URL, "address shown to clients instead of the members' (must be reachable by clients)")
	f.StringVar(&c.Advertise.Prefix, "resolver-prefix", "", "prefix of the keys under which proxies are registered (the same for all proxies)")
	f.IntVar(&c.Advertise.TTL, "resolver-ttl", 0, "seconds after which the registration of a proxy that is gone ends")
	f.StringVar(&c.Namespace, "namespace", "", "string to prefix to all keys for namespacing requests")
	f.BoolVar(&c.Pprof, "enable-pprof", false, `serve profiles at the listen address + "/debug/pprof/"`)
	f.StringVar(&c.DataDir, "data-dir", c.DataDir, "directory of generated certificates")
	f.IntVar(&c.Store.MaxSend, "max-send-bytes", c.Store.MaxSend, "message send limit in bytes")
	f.IntVar(&c.Store.MaxRecv, "max-recv-bytes", c.Store.MaxRecv, "message receive limit in bytes")
	f.DurationVar(&c.Keepalive.MinTime, "grpc-keepalive-min-time", c.Keepalive.MinTime, "shortest time between pings of a client")
	f.DurationVar(&c.Keepalive.Interval, "grpc-keepalive-interval", c.Keepalive.Interval, "silence after which a client is pinged")
	f.DurationVar(&c.Keepalive.Timeout, "grpc-keepalive-timeout", c.Keepalive.Timeout, "wait for the answer before the connection is closed")
	f.BoolVar(&c.Ordering, "experimental-serializable-ordering", false, "serializable reads have monotonically increasing store revisions across endpoints")
	f.StringVar(&c.LeasingPrefix, "experimental-leasing-prefix", "", "not supported: reads from memory would bypass permissions")
	f.BoolVar(&c.LogCalls, "experimental-enable-grpc-logging", false, "log every call")
	f.BoolVar(&p.debug, "debug", false, "log at debug level")
	f.Uint32Var(&c.Listen.Streams, "max-concurrent-streams", c.Listen.Streams, "concurrent streams of one client connection at most")
}

// bindTLS defines those that are about certificates.
func (p *proxyFlags) bindTLS(f *pflag.FlagSet) {
	c := &p.cfg
	f.StringVar(&c.Store.TLS.ClientCert, "cert", "", "certificate shown to the store; its common name must be empty")
	f.StringVar(&c.Store.TLS.ClientKey, "key", "", "key of that certificate")
	f.StringVar(&c.Store.TLS.CA, "cacert", "", "certificates that sign the store's")
	f.BoolVar(&c.Store.SkipVerify, "insecure-skip-tls-verify", false, "skip authentication of the store's certificates (CAUTION: for testing only)")
	f.StringVar(&c.Listen.TLS.Cert, "cert-file", "", "certificate shown to clients")
	f.StringVar(&c.Listen.TLS.Key, "key-file", "", "key of that certificate")
	f.StringVar(&c.Listen.TLS.CA, "trusted-ca-file", "", "certificates that sign those which clients must show")
	f.StringSliceVar(&p.suites, "listen-cipher-suites", nil, "comma separated TLS cipher suites towards clients (empty: Go's choice)")
	f.BoolVar(&c.Listen.AutoTLS, "auto-tls", false, "TLS towards clients with a generated certificate")
	f.StringVar(&c.Listen.TLS.CRL, "client-crl-file", "", "revoked client certificates")
	f.UintVar(&c.Listen.AutoTLSYear, "self-signed-cert-validity", c.Listen.AutoTLSYear, "years a generated certificate is valid")
	f.StringVar(&p.low, "tls-min-version", "TLS1.2", "least TLS version towards clients: TLS1.2, TLS1.3")
	f.StringVar(&p.high, "tls-max-version", "", "latest TLS version towards clients: TLS1.2, TLS1.3 (empty: Go's choice)")
}

// run is the whole life of a proxy process. It returns the exit code.
func (p *proxyFlags) run() int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := p.resolve(); err != nil {
		return fail(err)
	}
	settings := config.New()
	if p.debug {
		settings.Log.Level = "debug"
	}
	logger, closer, err := server.Logger(settings)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = closer.Close() }()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	running, err := proxy.Start(ctx, p.cfg, proxy.Options{Log: logger})
	if err != nil {
		if ctx.Err() != nil {
			return 0
		}
		return fail(err)
	}
	if err := server.NotifyReady(); err != nil {
		logger.Error("failed to notify systemd for readiness", zap.Error(err))
	}
	code := 0
	select {
	case <-ctx.Done():
		logger.Info("received a signal; shutting down")
	case err := <-running.Failed():
		logger.Error("the proxy accepts no more clients", zap.Error(err))
		code = 1
	}
	stop() // a second signal ends the process at once
	drain, cancel := context.WithTimeout(context.Background(), proxyDrain)
	defer cancel()
	if err := running.Stop(drain); err != nil {
		logger.Warn("calls under way were cut", zap.Error(err))
	}
	return code
}

// resolve makes of flags what they mean.
func (p *proxyFlags) resolve() (err error) {
	if p.cfg.Listen.TLS.Protocol, err = certs.ParseProtocol(p.suites, p.low, p.high); err != nil {
		return fmt.Errorf("--listen-cipher-suites, --tls-min-version, --tls-max-version: %w", err)
	}
	if p.discovery.domain == "" {
		return nil
	}
	return p.discover(context.Background(), net.DefaultResolver)
}

// discover makes the endpoints those that DNS names, as far as they can be trusted.
func (p *proxyFlags) discover(ctx context.Context, dns discovery.Resolver) error {
	found, err := discovery.Clients(ctx, dns, p.discovery.domain, p.discovery.name)
	if err != nil {
		return fmt.Errorf("--discovery-srv: %w", err)
	}
	if !p.discovery.insecure {
		set := p.cfg.Store.TLS
		set.ServerName = p.discovery.domain
		keeper, err := certs.New(set, certs.Options{})
		if err != nil {
			return fmt.Errorf("--cert, --key, --cacert: %w", err)
		}
		good, failures := discovery.Secure(ctx, found, keeper.Client())
		if len(good) == 0 {
			return fmt.Errorf("--discovery-srv: none of the endpoints that DNS names can be trusted (--insecure-discovery takes them as they are): %w", failures)
		}
		for _, e := range found {
			if !slices.Contains(good, e) {
				fmt.Fprintf(os.Stderr, "ignoring discovered endpoint %q, which cannot be trusted: %v\n", e.URL.String(), failures)
			}
		}
		found = good
	}
	p.cfg.Store.Endpoints = nil
	for _, e := range found {
		p.cfg.Store.Endpoints = append(p.cfg.Store.Endpoints, e.URL.String())
	}
	return nil
}

// asProxy runs etcd's command line "grpc-proxy ...".
func asProxy(args []string) int {
	code := 0
	c := grpcProxyCommand(&code)
	c.SetArgs(args)
	c.SilenceErrors, c.SilenceUsage = true, true
	if err := c.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
