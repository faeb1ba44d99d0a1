package k8s

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/load"
)

// Options say what cluster to play. Run fills in what is zero.
type Options struct {
	Target   load.Target // its Connections, User and Password do not matter
	Size     Size
	Rates    Rates
	Times    Times
	SLO      SLO
	Search   Search
	Store    Store
	Clock    clock.Clock       // nil is the machine's
	Progress func(text string) // what is going on, a line now and then; nil for nobody
}

// Size says how large the cluster is.
type Size struct {
	Nodes       int // default 100
	PodsPerNode int // default 30
	PodsMax     int // the store holds no more pods, though the traffic is that of all; default PodsMax
	APIServers  int // default 2
}

// Rates say how much goes on. All but LeaseEvery grow with the nodes.
type Rates struct {
	LeaseEvery  time.Duration // of a node's Lease, default 10 s
	StatusEvery time.Duration // of a node's status, default 5 min
	Churn       float64       // pods created, and as many deleted, a second and 1,000 nodes; default 4, negative: none
	Gets        float64       // consistent reads of one object a second and 1,000 nodes; default 20, negative: none
	EventsOfPod int           // Events of a pod's life; default 5, negative: none
	ListEvery   time.Duration // each API server lists the pods of a namespace, 500 a page; default 1 s, negative: never
	AllEvery    time.Duration // one API server lists all pods, 10,000 a page; default 1 min, negative: never
}

// Times say how long things take, and when they happen.
type Times struct {
	Measured   time.Duration // default 30 s
	Warmup     time.Duration // default 3 s, negative: none
	Compaction time.Duration // between compactions, default 5 min
	Relist     time.Duration // of a second run, after a third of which one API server loses its watches and lists all anew; 0: none
	EventTTL   time.Duration // default 1 h
	Flood      time.Duration // of events to one watcher, after the run; 0: none
}

// SLO are the service levels.
type SLO struct {
	Call     time.Duration // of 99% of calls by verb and resource, default 1 s
	List     time.Duration // of 99% of pages of lists, default 30 s
	Delivery time.Duration // of 99% of events, default 1 s
	Progress time.Duration // of 99% of progress requests, default 1 s
}

// Search looks for the largest cluster that keeps the service levels.
type Search struct {
	On       bool
	Measured time.Duration // of a probe, default 15 s
	NodesMax int           // default 200,000
	Within   float64       // the result is so close to what failed, as a fraction of it; default 0.15
}

// Store says what of the store is used.
type Store struct {
	Prefix string // of all keys, default "/registry/"
	Clear  bool   // delete what is under the prefix before; without it a prefix that is not empty is an error
	Slots  bool   // report the finest series
	Verify bool   // compare the store with what was acknowledged
}

func set[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

func (o *Options) resolve() error {
	if len(o.Target.Endpoints) == 0 {
		o.Target.Endpoints = []string{"127.0.0.1:2379"}
	}
	set(&o.Target.Timeout, 10*time.Second)
	set(&o.Size.Nodes, 100)
	set(&o.Size.PodsPerNode, 30)
	set(&o.Size.PodsMax, PodsMax)
	set(&o.Size.APIServers, 2)
	set(&o.Rates.LeaseEvery, leaseEvery)
	set(&o.Rates.StatusEvery, 5*time.Minute)
	set(&o.Rates.Churn, 4)
	set(&o.Rates.Gets, 20)
	set(&o.Rates.EventsOfPod, 5)
	set(&o.Rates.ListEvery, time.Second)
	set(&o.Rates.AllEvery, time.Minute)
	set(&o.Times.Measured, 30*time.Second)
	set(&o.Times.Warmup, 3*time.Second)
	set(&o.Times.Compaction, 5*time.Minute)
	set(&o.Times.EventTTL, time.Hour)
	set(&o.SLO.Call, time.Second)
	set(&o.SLO.List, 30*time.Second)
	set(&o.SLO.Delivery, time.Second)
	set(&o.SLO.Progress, time.Second)
	set(&o.Search.Measured, 15*time.Second)
	set(&o.Search.NodesMax, 200_000)
	set(&o.Search.Within, 0.15)
	set(&o.Store.Prefix, "/registry/")
	if o.Clock == nil {
		o.Clock = clock.Real()
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return o.check()
}

func within[T int | float64](name string, v, low, high T) error {
	if v < low || v > high {
		return fmt.Errorf("--%s is %v; it must be from %v to %v", name, v, low, high)
	}
	return nil
}

func (o *Options) check() error {
	err := errors.Join(
		within("nodes", o.Size.Nodes, 1, NodesMax),
		within("pods-per-node", o.Size.PodsPerNode, 1, 1000),
		within("pods-max", o.Size.PodsMax, 1, PodsMax),
		within("api-servers", o.Size.APIServers, 1, APIServersMax),
		within("lease-interval", o.Rates.LeaseEvery.Seconds(), 0.01, 3600),
		within("node-status-interval", o.Rates.StatusEvery.Seconds(), 0.01, 86400),
		within("churn", o.Rates.Churn, -1, 1e5),
		within("gets", o.Rates.Gets, -1, 1e6),
		within("events-per-pod", o.Rates.EventsOfPod, -1, 1000),
		within("seconds", o.Times.Measured.Seconds(), 0.1, DurationMax.Seconds()),
		within("warmup", o.Times.Warmup.Seconds(), -1, DurationMax.Seconds()),
		within("compaction-interval", o.Times.Compaction.Seconds(), 0.1, 86400),
		within("event-ttl", o.Times.EventTTL.Seconds(), 60, 1e7),
		within("relist", o.Times.Relist.Seconds(), 0, DurationMax.Seconds()),
		within("flood", o.Times.Flood.Seconds(), 0, 600),
		within("probe-seconds", o.Search.Measured.Seconds(), 0.1, DurationMax.Seconds()),
		within("nodes-max", o.Search.NodesMax, 1, NodesMax),
		within("within", o.Search.Within, 0.01, 1))
	if !strings.HasSuffix(o.Store.Prefix, "/") {
		err = errors.Join(err, fmt.Errorf("--prefix is %q; it must end with a slash", o.Store.Prefix))
	}
	for _, e := range o.Target.Endpoints {
		if _, _, bad := o.Target.Parse(e); bad != nil {
			err = errors.Join(err, bad)
		}
	}
	return err
}

// podsOf is how many pods the store holds with so many nodes.
func (s *Size) podsOf(nodes int) int { return min(nodes*s.PodsPerNode, s.PodsMax) }
