package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"quorate.dev/quorate/discovery"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/server"
	"quorate.dev/quorate/tcpproxy"
)

// gatewayFlags are etcd's.
type gatewayFlags struct {
	listen    string
	endpoints []string
	retry     time.Duration
	domain    string
	service   string
	insecure  bool
	ca        string
	given     bool // --endpoints was
}

// gatewayCommand is "quorate gateway", with etcd's verb start below it. code becomes the exit code.
func gatewayCommand(code *int) *cobra.Command {
	const about = `Pass TCP connections on to the members, so that clients need only one address: one per machine, usually. Connections are spread over
the members; one that cannot be connected to is set aside and tried again after --retry-delay. TLS is not ended here: certificates of the
members must be good for the gateway's name too. Clients of the v3 API that know all members need no gateway.`
	f := &gatewayFlags{}
	run := func(c *cobra.Command, _ []string) {
		f.given = c.Flags().Changed("endpoints")
		if err := f.run(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", c.CommandPath(), err)
			*code = 1
		}
	}
	top := &cobra.Command{Use: "gateway", Short: "Pass TCP connections on to the members", Long: about, Args: cobra.NoArgs, Run: run,
		Example: "  quorate gateway --endpoints=10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379"}
	start := &cobra.Command{Use: "start", Short: "start the gateway", Long: about, Args: cobra.NoArgs, Run: run}
	for _, c := range []*cobra.Command{top, start} {
		s := c.Flags()
		s.StringVar(&f.listen, "listen-addr", "127.0.0.1:23790", "listen address")
		s.StringVar(&f.domain, "discovery-srv", "", "DNS domain used to bootstrap initial cluster")
		s.StringVar(&f.service, "discovery-srv-name", "", "service name to query when using DNS discovery")
		s.BoolVar(&f.insecure, "insecure-discovery", false, "accept insecure SRV records")
		s.StringVar(&f.ca, "trusted-ca-file", "", "path to the client server TLS CA file for verifying the discovered endpoints when discovery-srv is provided.")
		s.StringSliceVar(&f.endpoints, "endpoints", []string{"127.0.0.1:2379"}, "comma separated etcd cluster endpoints")
		s.DurationVar(&f.retry, "retry-delay", time.Minute, "duration of delay before retrying failed endpoints")
	}
	top.AddCommand(start)
	return top
}

// etcdGateway is "etcd gateway".
func etcdGateway(args []string) (code int) {
	root := &cobra.Command{Use: "etcd", SilenceUsage: true}
	top := gatewayCommand(&code)
	top.Run = nil // etcd's shows its help without the verb start
	root.AddCommand(top)
	root.SetArgs(args)
	if root.Execute() != nil {
		return 1
	}
	return code
}

// run passes connections on until a signal comes.
func (f *gatewayFlags) run() error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	log := server.ProgramLogger()
	targets, err := f.targets(ctx, net.DefaultResolver, log)
	if err != nil {
		return err
	}
	p, err := tcpproxy.New(tcpproxy.Options{Targets: targets, RetryDelay: f.retry, Clock: clock.Real(), Log: log})
	if err != nil {
		return err
	}
	if err := notItself(ctx, net.DefaultResolver, f.listen, targets); err != nil {
		return err
	}
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return fmt.Errorf("--listen-addr: %w", err)
	}
	if err := server.NotifyReady(); err != nil {
		log.Warn("the service manager was not told that this process is ready", zap.Error(err))
	}
	err = p.Serve(ctx, l)
	if err == nil {
		log.Info("stopped by a signal")
	}
	return err
}

// targets are the members that flags or DNS name.
func (f *gatewayFlags) targets(ctx context.Context, dns discovery.Resolver, log *zap.Logger) (out []tcpproxy.Target, err error) {
	if f.domain == "" {
		for _, text := range f.endpoints {
			addr, err := endpointAddr(text)
			if err != nil {
				return nil, err
			}
			out = append(out, tcpproxy.Target{Addr: addr})
		}
		return out, nil
	}
	if f.given {
		return nil, errors.New("--discovery-srv and --endpoints both name the members: give one of them")
	}
	found, err := discovery.Clients(ctx, dns, f.domain, f.service)
	if err != nil {
		return nil, fmt.Errorf("--discovery-srv: %w", err)
	}
	log.Info("discovered cluster from SRV", zap.String("srv-server", f.domain), zap.Any("endpoints", found))
	if !f.insecure {
		conf, err := f.trust()
		if err != nil {
			return nil, err
		}
		good, failures := discovery.Secure(ctx, found, conf)
		if len(good) == 0 {
			return nil, fmt.Errorf("--discovery-srv: none of the endpoints that DNS names can be trusted (--insecure-discovery takes them as they are): %w", failures)
		}
		if failures != nil {
			log.Warn("left out discovered endpoints that cannot be trusted", zap.Error(failures))
		}
		found = good
	}
	for _, e := range found {
		out = append(out, tcpproxy.Target{Addr: e.URL.Host, Priority: e.Priority, Weight: e.Weight})
	}
	return out, nil
}

// trust is what discovered members must show: a certificate for the domain, as etcd wants it.
func (f *gatewayFlags) trust() (*tls.Config, error) {
	conf := &tls.Config{ServerName: f.domain}
	if f.ca == "" {
		return conf, nil
	}
	text, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, fmt.Errorf("--trusted-ca-file: %w", err)
	}
	conf.RootCAs = x509.NewCertPool()
	if !conf.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--trusted-ca-file: there is no certificate in %s", f.ca)
	}
	return conf, nil
}

// endpointAddr takes host:port or a URL of it.
func endpointAddr(text string) (string, error) {
	addr := text
	if u, err := url.Parse(text); err == nil && u.Host != "" {
		addr = u.Host
	}
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", fmt.Errorf("error parsing endpoint %q: it must be host:port: %w", text, err)
	}
	return addr, nil
}

// notItself refuses members that are the gateway's own address: a connection would go round until nothing is left.
func notItself(ctx context.Context, dns discovery.Resolver, listen string, targets []tcpproxy.Target) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("failed to validate listen address: %s: it must be host:port: %w", listen, err)
	}
	if host == "" {
		host = "::" // what net.Listen takes it for; only a member named so is refused then
	}
	own, err := dns.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return fmt.Errorf("failed to resolve listen host: %s: %w", host, err)
	}
	for _, t := range targets {
		name, targetPort, err := net.SplitHostPort(t.Addr)
		if err != nil || targetPort != port {
			continue
		}
		addrs, err := dns.LookupNetIP(ctx, "ip", name)
		if err != nil {
			continue // it may be there later
		}
		for _, a := range addrs {
			for _, o := range own {
				if a.Unmap() == o.Unmap() || o.IsUnspecified() && a.IsLoopback() {
					return fmt.Errorf("SRV or endpoint (%s->%s) should not resolve to the gateway listen addr (%s)", t.Addr, net.JoinHostPort(a.Unmap().String(), port), listen)
				}
			}
		}
	}
	return nil
}
