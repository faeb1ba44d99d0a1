package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"quorate.dev/quorate/cli/ops"
	"quorate.dev/quorate/load"
)

// bench is the command line of one workload.
type bench struct {
	o    load.Options
	out  benchOutput
	tls  benchTLS
	user string

	seconds, warmup float64
}

// benchOutput says what to show.
type benchOutput struct {
	format, svg string
	plot        bool
}

// benchTLS names files, as etcdctl's flags do.
type benchTLS struct {
	cacert, cert, key string
	skipVerify        bool
}

// benchCommand is "quorate bench" with one verb per workload. code becomes the exit code.
func benchCommand(code *int) *cobra.Command {
	root := &cobra.Command{
		Use:   "bench <workload> [flags]",
		Short: "Put load on any etcd endpoint and measure it",
		Long: `Put load on any endpoint that speaks etcd's v3 API, and measure it.

A closed loop keeps --clients requests under way: each client sends its next request when the last one is answered. It
finds the highest rate. An open loop (--rate) starts requests on a fixed schedule, whether or not the server keeps up, and
counts latency from the instant at which a request was meant to start: it shows what users feel at a given load.

The first error ends the run with exit code 1. With --allow-errors errors are counted, refusals of an overloaded server
apart from others, and lost connections are dialled again.`,
		Example: `  quorate bench put --connections 100 --clients 1000 --value-size 256
  quorate bench fill --keys 500000 --value-size 1024 --clients 1000 --connections 100
  quorate bench list --keys 500000
  quorate bench txn --node-leases --rate 10000 --seconds 30 --plot
  quorate bench watch --watchers 500 --total 2000 -w json
  quorate bench k8s --nodes 1000`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			return fmt.Errorf("bench: there is no workload %q", args[0])
		},
	}
	for _, k := range load.Kinds() {
		root.AddCommand(workloadCommand(k, code))
	}
	root.AddCommand(k8sCommand(code))
	return root
}

func workloadCommand(k load.Kind, code *int) *cobra.Command {
	b := new(bench)
	c := &cobra.Command{Use: k.Name + " [flags]", Short: k.Summary, Args: cobra.NoArgs,
		Long:    k.Summary + ".\n\n" + k.Detail,
		Example: "  " + strings.ReplaceAll(k.Example, "\n", "\n  "),
		RunE: func(c *cobra.Command, _ []string) error {
			if b.out.format != "table" && b.out.format != "json" {
				return fmt.Errorf("bench: --write-out is %q; it must be table or json", b.out.format)
			}
			b.forget(c.Flags())
			*code = b.run(k.Name)
			return nil
		}}
	c.Flags().SortFlags = false
	b.flags(c.Flags())
	workFlags(c.Flags(), &b.o, k.Name)
	return c
}

// flags are those of every workload.
func (b *bench) flags(f *pflag.FlagSet) {
	t, s, d := &b.o.Target, &b.o.Shape, &b.o.Data
	f.StringSliceVar(&t.Endpoints, "endpoints", []string{"127.0.0.1:2379"}, "endpoints, comma separated; connections are spread over them")
	f.IntVar(&t.Connections, "connections", 1, "connections")
	f.IntVar(&s.Clients, "clients", 1, "requests under way in a closed loop")
	f.Float64Var(&s.Rate, "rate", 0, "requests a second of an open loop; 0 is a closed loop")
	f.IntVar(&s.InFlight, "in-flight", load.InFlightDefault, "requests under way in an open loop at most; what has to wait is counted as late")
	f.Float64Var(&b.seconds, "seconds", 0, "length of the measured part (default 10, or no end when --total is given)")
	f.Int64Var(&s.Total, "total", 0, "operations to measure; 0 has no limit")
	f.Float64Var(&b.warmup, "warmup", 0, "seconds of load before anything is measured")
	f.BoolVar(&s.AllowErrors, "allow-errors", false, "count errors and go on")
	f.StringVar(&d.Prefix, "prefix", "bench/", "prefix of all keys")
	f.Int64Var(&d.Keys, "keys", 10_000, "size of the key space")
	f.IntVar(&d.KeySize, "key-size", 24, "bytes of a key, prefix included")
	f.IntVar(&d.ValueSize, "value-size", 256, "bytes of a value")
	f.Float64Var(&d.Compressible, "compressible", 0.5, "fraction of a value that compresses away")
	f.BoolVar(&d.Sequential, "sequential", false, "keys in order instead of at random")
	f.Uint64Var(&s.Seed, "seed", 1, "the same seed sends the same keys and values")
	f.StringVarP(&b.out.format, "write-out", "w", "table", "table or json")
	f.BoolVar(&b.out.plot, "plot", false, "draw latency and rate over time in the terminal")
	f.StringVar(&b.out.svg, "svg", "", "write a plot of latency and rate over time to this file")
	f.StringVar(&b.tls.cacert, "cacert", "", "file with the certificates that sign the server's")
	f.StringVar(&b.tls.cert, "cert", "", "file with the client's certificate")
	f.StringVar(&b.tls.key, "key", "", "file with the client certificate's key")
	f.BoolVar(&b.tls.skipVerify, "insecure-skip-tls-verify", false, "accept any certificate")
	f.StringVar(&b.user, "user", "", "name:password to authenticate with")
	f.DurationVar(&t.DialTimeout, "dial-timeout", 5*time.Second, "how long connecting may take")
	f.DurationVar(&t.Timeout, "timeout", 30*time.Second, "how long a request may take")
}

// workFlags are those that only some workloads look at.
func workFlags(f *pflag.FlagSet, o *load.Options, name string) {
	w := &o.Work
	serializable := func() { f.BoolVar(&w.Serializable, "serializable", false, "reads that do not wait for a quorum") }
	keysOnly := func() { f.BoolVar(&w.KeysOnly, "keys-only", false, "ask for keys without values") }
	leases := func(n, ttl int64) {
		f.Int64Var(&w.Leases, "leases", n, "leases")
		f.Int64Var(&w.TTL, "ttl", ttl, "seconds a lease lives")
	}
	watchers := func(n, conns int) {
		f.IntVar(&w.Watchers, "watchers", n, "watchers of the prefix")
		f.IntVar(&w.WatchConns, "watch-connections", conns, "connections of the watchers, in addition to --connections")
		f.StringSliceVar(&o.Target.Watch, "watch-endpoints", nil, "endpoints of the watchers, a proxy's for example (default: those of --endpoints)")
		f.IntVar(&w.Streams, "streams", 0, "watch streams (default one per connection)")
		f.BoolVar(&w.PrevKV, "prev-kv", false, "ask for the previous value with each event")
	}
	switch name {
	case "get":
		serializable()
	case "mixed":
		serializable()
		f.Float64Var(&w.ReadRatio, "read-ratio", 0.8, "fraction of requests that read")
	case "range":
		serializable()
		keysOnly()
		f.Int64Var(&w.Span, "span", 100, "consecutive keys asked for")
		f.Int64Var(&w.Limit, "limit", 0, "keys in an answer at most; 0 for all")
		f.BoolVar(&w.CountOnly, "count-only", false, "ask for the number of keys only")
	case "list":
		serializable()
		keysOnly()
		f.Int64Var(&w.Limit, "limit", 500, "keys in a page")
		f.Int64Var(&w.Lists, "lists", 1, "whole lists of each client")
	case "stream":
		serializable()
		keysOnly()
		f.Int64Var(&w.Limit, "limit", 0, "keys in an answer at most; 0 for all")
		f.BoolVar(&w.Unary, "unary", false, "one Range instead of RangeStream")
	case "txn":
		f.BoolVar(&w.NodeLeases, "node-leases", false, "renew the leases of Kubernetes' nodes in turn (100,000 unless --keys says otherwise)")
	case "watch":
		watchers(100, 10)
	case "watch-latency":
		watchers(1, 1)
	case "lease-keepalive":
		leases(1000, 60)
	case "lease-grant":
		f.Int64Var(&w.TTL, "ttl", 60, "seconds a lease lives")
	case "lease-expire":
		leases(1000, 5)
	}
}

// forget resets flags that were not given, so that each workload has its own defaults.
func (b *bench) forget(f *pflag.FlagSet) {
	s, d, w := &b.o.Shape, &b.o.Data, &b.o.Work
	for name, reset := range map[string]func(){
		"in-flight": func() { s.InFlight = 0 }, "prefix": func() { d.Prefix = "" }, "keys": func() { d.Keys = 0 },
		"key-size": func() { d.KeySize = 0 }, "value-size": func() { d.ValueSize = 0 }, "watch-connections": func() { w.WatchConns = 0 },
	} {
		if !f.Changed(name) {
			reset()
		}
	}
}

// config makes a TLS configuration; nil when no flag asks for one.
func (t *benchTLS) config() (*tls.Config, error) {
	if *t == (benchTLS{}) {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: t.skipVerify} //nolint:gosec // the flag says so
	if t.cacert != "" {
		pem, err := os.ReadFile(t.cacert)
		if err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--cacert: %s holds no certificate", t.cacert)
		}
	}
	if (t.cert == "") != (t.key == "") {
		return nil, errors.New("--cert and --key need each other")
	}
	if t.cert != "" {
		pair, err := tls.LoadX509KeyPair(t.cert, t.key)
		if err != nil {
			return nil, fmt.Errorf("--cert, --key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// run puts the load on and shows the result; it returns the exit code.
func (b *bench) run(name string) int {
	fail := func(err error) int {
		fmt.Fprintf(os.Stderr, "quorate bench %s: %v\n", name, err)
		return 1
	}
	config, err := b.tls.config()
	if err != nil {
		return fail(err)
	}
	b.o.Target.TLS = config
	if b.user != "" {
		b.o.Target.User, b.o.Target.Password, _ = strings.Cut(b.user, ":")
	}
	b.o.Shape.Duration = time.Duration(b.seconds * float64(time.Second))
	b.o.Shape.Warmup = time.Duration(b.warmup * float64(time.Second))
	progress := newProgress(os.Stderr)
	b.o.Progress = progress.show
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	before := ops.ReadMeter(ctx, b.o.Target.Endpoints, config)
	res, err := load.Run(ctx, name, b.o)
	progress.end()
	if res != nil {
		if werr := b.show(res); werr != nil {
			return fail(werr)
		}
		if err == nil && b.out.format != "json" {
			fmt.Printf("\n%s", judged(res, ops.ReadMeter(ctx, b.o.Target.Endpoints, config).Since(before)).Text())
		}
	}
	if err != nil {
		return fail(err)
	}
	if res.Operations == 0 {
		return fail(errors.New("no operation succeeded"))
	}
	return 0
}

// show writes the result in the form asked for.
func (b *bench) show(res *load.Result) error {
	write := res.Table
	if b.out.format == "json" {
		write = res.JSON
	}
	if err := write(os.Stdout); err != nil {
		return err
	}
	return b.draw(res)
}

// draw makes the plots that were asked for. With -w json the terminal's goes to stderr, because stdout is for the script.
func (b *bench) draw(res *load.Result) error {
	if b.out.plot {
		w := os.Stdout
		if b.out.format == "json" {
			w = os.Stderr
		}
		if err := res.Plot(w); err != nil {
			return err
		}
	}
	if b.out.svg == "" {
		return nil
	}
	f, err := os.Create(b.out.svg)
	if err != nil {
		return fmt.Errorf("--svg: %w", err)
	}
	return errors.Join(res.SVG(f), f.Close())
}
