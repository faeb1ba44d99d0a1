package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"quorate.dev/quorate/load/k8s"
)

// benchK8s is the command line of "quorate bench k8s".
type benchK8s struct {
	o      k8s.Options
	tls    benchTLS
	format string

	seconds, warmup, relist, flood, probe float64
}

func k8sCommand(code *int) *cobra.Command {
	b := new(benchK8s)
	c := &cobra.Command{Use: "k8s [flags]", Short: "Play a Kubernetes cluster of so many nodes and judge whether its service levels hold", Args: cobra.NoArgs,
		Long: `Play the API servers of a Kubernetes cluster of --nodes nodes, and judge whether the store keeps the cluster's service levels.

The store is filled with Nodes, their Leases and pods (about 10 KB each, every fifth 3 KB), as the API server encodes them.
Then, in an open loop: every node's Lease is renewed every 10 s and its status posted every 5 min; pods are created, bound, started,
marked and deleted (7 writes each) at --churn; Events come with shared leases; single objects are read, pods are listed in pages
of 500 and 10,000; each API server watches every resource on a connection of its own, asks for progress every 100 ms on the
four with traffic, and takes its turn at compacting. With --relist there is a second run, in which one API server loses its
watches and lists everything again.

Latency counts from the instant a call was due. The exit code is 1 when a service level was broken: 99% of calls of every verb
and resource within --slo-call (pages of lists: --slo-list), of events within --slo-delivery, of progress requests within
--slo-progress, no errors, no event missing, no acknowledged write lost.

--find-limit then looks for the largest cluster that keeps them: it doubles the nodes, filling up the store as it goes, and
halves what is between. The traffic is that of all nodes; the store holds at most --pods-max pods.

The store must be empty under --prefix. Nothing is deleted in the end.`,
		Example: `  quorate bench k8s --nodes 1000 --seconds 60
  quorate bench k8s --nodes 5000 --relist 30 --seconds 60 -w json
  quorate bench k8s --nodes 5000 --pods-max 150000 --find-limit
  quorate bench k8s --endpoints 127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379 --nodes 1000`,
		RunE: func(*cobra.Command, []string) error {
			if b.format != "table" && b.format != "json" {
				return fmt.Errorf("bench: --write-out is %q; it must be table or json", b.format)
			}
			*code = b.run()
			return nil
		}}
	c.Flags().SortFlags = false
	b.flags(c.Flags())
	return c
}

func (b *benchK8s) flags(f *pflag.FlagSet) {
	o := &b.o
	f.StringSliceVar(&o.Target.Endpoints, "endpoints", []string{"127.0.0.1:2379"}, "endpoints, comma separated; connections are spread over them, and dialled again at the next one when lost")
	f.IntVar(&o.Size.Nodes, "nodes", 100, "nodes of the cluster")
	f.IntVar(&o.Size.PodsPerNode, "pods-per-node", 30, "pods of each node")
	f.IntVar(&o.Size.PodsMax, "pods-max", k8s.PodsMax, "pods in the store at most, though the traffic is that of all")
	f.IntVar(&o.Size.APIServers, "api-servers", 2, "API servers")
	f.Float64Var(&b.seconds, "seconds", 30, "length of the measured part")
	f.Float64Var(&b.warmup, "warmup", 3, "seconds of traffic before anything is measured")
	f.DurationVar(&o.Rates.LeaseEvery, "lease-interval", 10*time.Second, "between the renewals of a node's Lease")
	f.DurationVar(&o.Rates.StatusEvery, "node-status-interval", 5*time.Minute, "between the statuses that a node posts")
	f.Float64Var(&o.Rates.Churn, "churn", 4, "pods created, and as many deleted, a second and 1,000 nodes")
	f.IntVar(&o.Rates.EventsOfPod, "events-per-pod", 5, "Events of a pod's life")
	f.Float64Var(&o.Rates.Gets, "gets", 20, "reads of one object a second and 1,000 nodes")
	f.DurationVar(&o.Rates.ListEvery, "list-interval", time.Second, "between an API server's lists of a namespace's pods, 500 a page; 0 for none")
	f.DurationVar(&o.Rates.AllEvery, "list-all-interval", time.Minute, "between lists of all pods, 10,000 a page; 0 for none")
	f.DurationVar(&o.Times.Compaction, "compaction-interval", 5*time.Minute, "between compactions")
	f.DurationVar(&o.Times.EventTTL, "event-ttl", time.Hour, "how long Events live")
	f.Float64Var(&b.relist, "relist", 0, "seconds of a second run, after a third of which one API server loses its watches and lists everything; 0 for none")
	f.Float64Var(&b.flood, "flood", 0, "seconds for which, after the run, one watcher gets as many events as it can; 0 for none")
	f.BoolVar(&o.Search.On, "find-limit", false, "look for the largest cluster that keeps the service levels")
	f.Float64Var(&b.probe, "probe-seconds", 15, "length of a probe of the search")
	f.IntVar(&o.Search.NodesMax, "nodes-max", 200_000, "nodes at which the search ends")
	f.Float64Var(&o.Search.Within, "within", 0.15, "how close the result of the search is to what failed, as a fraction")
	f.DurationVar(&o.SLO.Call, "slo-call", time.Second, "99% of calls are answered within this")
	f.DurationVar(&o.SLO.List, "slo-list", 30*time.Second, "99% of pages of lists are answered within this")
	f.DurationVar(&o.SLO.Delivery, "slo-delivery", time.Second, "99% of events arrive within this, from the start of their write")
	f.DurationVar(&o.SLO.Progress, "slo-progress", time.Second, "99% of progress requests are answered within this")
	f.StringVar(&o.Store.Prefix, "prefix", "/registry/", "of all keys")
	f.BoolVar(&o.Store.Clear, "clear", false, "delete everything under --prefix before")
	f.BoolVar(&o.Store.Verify, "verify", true, "compare the store with what was acknowledged, in the end")
	f.BoolVar(&o.Store.Slots, "slots", false, "add a series of 50 ms each to the JSON")
	f.StringVarP(&b.format, "write-out", "w", "table", "table or json")
	f.StringVar(&b.tls.cacert, "cacert", "", "file with the certificates that sign the server's")
	f.StringVar(&b.tls.cert, "cert", "", "file with the client's certificate")
	f.StringVar(&b.tls.key, "key", "", "file with the client certificate's key")
	f.BoolVar(&b.tls.skipVerify, "insecure-skip-tls-verify", false, "accept any certificate")
	f.DurationVar(&o.Target.Timeout, "timeout", 10*time.Second, "how long a call may take")
}

func none[T int | float64 | time.Duration](v *T) {
	if *v == 0 {
		*v = -1
	}
}

// run plays the cluster and shows the report; it returns the exit code.
func (b *benchK8s) run() int {
	fail := func(err error) int {
		fmt.Fprintf(os.Stderr, "quorate bench k8s: %v\n", err)
		return 1
	}
	config, err := b.tls.config()
	if err != nil {
		return fail(err)
	}
	b.o.Target.TLS = config
	seconds := func(v float64) time.Duration { return time.Duration(v * float64(time.Second)) }
	t := &b.o.Times
	t.Measured, t.Warmup, t.Relist, t.Flood = seconds(b.seconds), seconds(b.warmup), seconds(b.relist), seconds(b.flood)
	b.o.Search.Measured = seconds(b.probe)
	r := &b.o.Rates // a flag that is 0 means none; the zero value of an option is its default
	none(&t.Warmup)
	none(&r.Churn)
	none(&r.Gets)
	none(&r.EventsOfPod)
	none(&r.ListEvery)
	none(&r.AllEvery)
	b.o.Progress = func(text string) { fmt.Fprintln(os.Stderr, text) }
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rep, err := k8s.Run(ctx, b.o)
	if rep != nil {
		write := rep.Table
		if b.format == "json" {
			write = rep.JSON
		}
		if werr := write(os.Stdout); werr != nil {
			return fail(werr)
		}
	}
	if err != nil {
		return fail(err)
	}
	if !rep.OK {
		return 1
	}
	return 0
}
