package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorate.dev/quorate/internal/clock"
)

// Options say what to do. The zero value is a closed loop of one client for DurationDefault against 127.0.0.1:2379; Run fills
// in what is zero and refuses what makes no sense.
type Options struct {
	Target   Target
	Shape    Shape
	Data     Data
	Work     Work
	Clock    clock.Clock // nil is the machine's
	Progress func(Tick)  // called every second, from one goroutine; nil for none
}

// Target says whom to load.
type Target struct {
	Endpoints   []string      // host:port, or http:// and https:// URLs; connections are spread over them in turn
	Watch       []string      // the same for connections of watchers: a proxy in front of the others, say; empty: those
	TLS         *tls.Config   // used for https:// endpoints, and for those without a scheme when set
	User        string        // authenticates first; "" does not
	Password    string        //
	Connections int           // default 1
	DialTimeout time.Duration // default 5 s
	Timeout     time.Duration // of a request, default 30 s
}

// Shape says how much load and how it arrives.
type Shape struct {
	Clients     int           // requests under way in a closed loop, default 1
	Rate        float64       // requests a second of an open loop; 0 is a closed loop
	InFlight    int           // requests under way in an open loop at most, default InFlightDefault
	Duration    time.Duration // of the measured part; 0 with a Total has no end in time
	Total       int64         // measured requests at most; 0 with a Duration has no end in number
	Warmup      time.Duration // requests that start before do not count
	Seed        uint64        // the same seed sends the same keys and values
	AllowErrors bool          // go on after errors, and dial lost connections again
}

// Data says what keys and values look like.
type Data struct {
	Prefix       string  // of all keys, default "bench/"
	Keys         int64   // size of the key space, default 10,000
	KeySize      int     // bytes with the prefix, default 24
	ValueSize    int     // bytes, default 256
	Sequential   bool    // keys in order instead of at random
	Compressible float64 // fraction of a value that compresses away, 0 to 1
}

// Work holds what only some workloads look at.
type Work struct {
	Serializable bool    // reads do not wait for a quorum
	ReadRatio    float64 // of mixed: fraction of reads
	Limit        int64   // of list: keys a page; of range and stream: 0 for all
	Span         int64   // of range: consecutive keys asked for
	CountOnly    bool    // of range
	KeysOnly     bool    // of range, list and stream
	NodeLeases   bool    // of txn: Kubernetes' node leases in turn
	Lists        int64   // of list: whole lists per client
	Unary        bool    // of stream: one Range instead of RangeStream
	Watchers     int     // of watch: default 100
	Streams      int     // of watch: default one per watch connection
	WatchConns   int     // of watch: connections of the watchers, default 10
	PrevKV       bool    // of watch
	TTL          int64   // of leases, seconds
	Leases       int64   // of lease workloads: default 1,000
}

// set gives v a default.
func set[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// resolve fills in defaults and refuses nonsense with an error that names the option as the command line spells it.
func (o *Options) resolve() error {
	if len(o.Target.Endpoints) == 0 {
		o.Target.Endpoints = []string{"127.0.0.1:2379"}
	}
	set(&o.Target.Connections, 1)
	set(&o.Target.DialTimeout, 5*time.Second)
	set(&o.Target.Timeout, 30*time.Second)
	set(&o.Shape.Clients, 1)
	set(&o.Shape.InFlight, InFlightDefault)
	if o.Shape.Duration == 0 && o.Shape.Total == 0 {
		o.Shape.Duration = DurationDefault
	}
	set(&o.Data.Prefix, "bench/")
	set(&o.Data.Keys, 10_000)
	set(&o.Data.KeySize, 24)
	set(&o.Data.ValueSize, 256)
	set(&o.Work.Span, 100)
	set(&o.Work.Watchers, 100)
	set(&o.Work.WatchConns, min(10, o.Work.Watchers))
	set(&o.Work.Streams, o.Work.WatchConns)
	set(&o.Work.TTL, 60)
	set(&o.Work.Leases, 1000)
	set(&o.Work.Lists, 1)
	if o.Clock == nil {
		o.Clock = clock.Real()
	}
	return errors.Join(o.Shape.check(), o.Data.check(), o.Work.check(), o.Target.check())
}

func within[T int | int64 | float64](name string, v, low, high T) error {
	if v < low || v > high {
		return fmt.Errorf("--%s is %v; it must be from %v to %v", name, v, low, high)
	}
	return nil
}

func (t *Target) check() error {
	if err := within("connections", t.Connections, 1, ConnectionsMax); err != nil {
		return err
	}
	if t.Timeout < 0 || t.DialTimeout < 0 {
		return errors.New("--timeout and --dial-timeout cannot be negative")
	}
	for _, e := range slices.Concat(t.Endpoints, t.Watch) {
		if _, _, err := t.Parse(e); err != nil {
			return err
		}
	}
	return nil
}

// Parse splits an endpoint into an address and whether it speaks TLS.
func (t *Target) Parse(endpoint string) (address string, secure bool, err error) {
	address, secure = endpoint, t.TLS != nil
	if strings.Contains(endpoint, "://") {
		u, err := url.Parse(endpoint)
		if err != nil {
			return "", false, fmt.Errorf("endpoint %q: %w", endpoint, err)
		}
		switch u.Scheme {
		case "http":
			secure = false
		case "https":
			secure = true
		default:
			return "", false, fmt.Errorf("endpoint %q: the scheme must be http or https", endpoint)
		}
		address = u.Host
	}
	if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
		return "", false, fmt.Errorf("endpoint %q: it must be host:port", endpoint)
	}
	return address, secure, nil
}

func (s *Shape) check() error {
	return errors.Join(
		within("clients", s.Clients, 1, ClientsMax),
		within("in-flight", s.InFlight, 1, InFlightMax),
		within("rate", s.Rate, 0, 1e8),
		within("total", s.Total, 0, 1<<62),
		within("seconds", s.Duration.Seconds(), 0, 1e8),
		within("warmup", s.Warmup.Seconds(), 0, 1e8))
}

func (d *Data) check() error {
	err := errors.Join(
		within("keys", d.Keys, 1, KeysMax),
		within("key-size", d.KeySize, 1, KeyBytesMax),
		within("value-size", d.ValueSize, 1, ValueBytesMax),
		within("compressible", d.Compressible, 0, 1))
	if digits := len(strconv.FormatInt(d.Keys-1, 10)); err == nil && len(d.Prefix)+digits > d.KeySize {
		err = fmt.Errorf("--key-size is %d, too small for the prefix %q and %d digits", d.KeySize, d.Prefix, digits)
	}
	return err
}

func (w *Work) check() error {
	return errors.Join(
		within("read-ratio", w.ReadRatio, 0, 1),
		within("limit", w.Limit, 0, 1<<40),
		within("span", w.Span, 1, 1<<40),
		within("watchers", w.Watchers, 1, WatchersMax),
		within("watch-connections", w.WatchConns, 1, min(w.Watchers, ConnectionsMax)),
		within("streams", w.Streams, w.WatchConns, w.Watchers),
		within("ttl", w.TTL, 1, 1<<30),
		within("leases", w.Leases, 1, LeasesMax),
		within("lists", w.Lists, 1, 1<<30))
}
