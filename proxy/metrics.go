package proxy

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"quorate.dev/quorate/proxy/fan"
	"quorate.dev/quorate/rpc"
)

// codes is the number of gRPC status codes.
const codes = int(rpc.Unauthenticated) + 1

// observer counts the calls of clients; it is an rpc.Observer and a prometheus.Collector.
type observer struct {
	byName map[string]*methodCounts
	in     atomic.Uint64 // bytes of connections
	out    atomic.Uint64
	log    *zap.Logger // of every call; nil for none

	started, handled, received, sent *prometheus.Desc
}

type methodCounts struct {
	labels           []string
	started, in, out atomic.Uint64
	handled          [codes]atomic.Uint64
}

func newObserver(list []method, log *zap.Logger) *observer {
	labels := []string{"grpc_type", "grpc_service", "grpc_method"}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	o := &observer{byName: map[string]*methodCounts{}, log: log,
		started:  desc("grpc_server_started_total", "Calls begun.", labels...),
		handled:  desc("grpc_server_handled_total", "Calls ended, by status code.", append(labels, "grpc_code")...),
		received: desc("grpc_server_msg_received_total", "Messages received.", labels...),
		sent:     desc("grpc_server_msg_sent_total", "Messages sent.", labels...),
	}
	for _, m := range list {
		service, name, _ := strings.Cut(strings.TrimPrefix(m.name, "/"), "/")
		o.byName[m.name] = &methodCounts{labels: []string{m.kind, service, name}}
	}
	return o
}

// Started implements rpc.Observer.
func (o *observer) Started(method string, _ bool) {
	if c := o.byName[method]; c != nil {
		c.started.Add(1)
	}
}

// Handled implements rpc.Observer.
func (o *observer) Handled(method string, code rpc.Code, took time.Duration) {
	if c := o.byName[method]; c != nil && int(code) < codes {
		c.handled[code].Add(1)
	}
	if o.log != nil {
		o.log.Info("finished call", zap.String("method", method), zap.Stringer("code", code), zap.Duration("took", took))
	}
}

// MessageReceived implements rpc.Observer.
func (o *observer) MessageReceived(method string) {
	if c := o.byName[method]; c != nil {
		c.in.Add(1)
	}
}

// MessageSent implements rpc.Observer.
func (o *observer) MessageSent(method string) {
	if c := o.byName[method]; c != nil {
		c.out.Add(1)
	}
}

// Bytes implements rpc.Observer.
func (o *observer) Bytes(in, out int) {
	o.in.Add(uint64(in))   //nolint:gosec // a count
	o.out.Add(uint64(out)) //nolint:gosec // a count
}

// Describe implements prometheus.Collector; what is collected is not checked beforehand.
func (o *observer) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (o *observer) Collect(to chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for _, c := range o.byName {
		counter(o.started, c.started.Load(), c.labels...)
		counter(o.received, c.in.Load(), c.labels...)
		counter(o.sent, c.out.Load(), c.labels...)
		for code := range c.handled {
			if n := c.handled[code].Load(); n > 0 {
				counter(o.handled, n, append(c.labels[:len(c.labels):len(c.labels)], rpc.Code(code).String())...) //nolint:gosec // a status code
			}
		}
	}
}

// reading is one number that a scrape shows.
type reading struct {
	name, help string
	counter    bool
	read       func() float64
}

// readings are etcd's metrics of its proxy, as far as they make sense for one that keeps no answers, and this one's own.
func (p *Proxy) readings() []reading {
	f := p.forward
	load := func(n *atomic.Uint64) func() float64 { return func() float64 { return float64(n.Load()) } }
	count := func(which int) func() float64 {
		return func() float64 {
			endpoints, connected, serving := p.pool.Counts()
			return float64([]int{endpoints, connected, serving}[which])
		}
	}
	watch := func(n func(*fan.Stats) int64) func() float64 {
		return func() float64 {
			s := p.watches.Stats()
			return float64(n(&s))
		}
	}
	return []reading{
		{"etcd_grpc_proxy_watchers_coalescing_total", "Watchers of clients.", false, watch(func(s *fan.Stats) int64 { return s.Watchers })},
		{"etcd_grpc_proxy_events_coalescing_total", "Events received from the store for watchers of clients.", true, watch(func(s *fan.Stats) int64 { return s.EventsReceived })},
		{"quorate_proxy_events_delivered_total", "Events delivered to watchers of clients.", true, watch(func(s *fan.Stats) int64 { return s.EventsDelivered })},
		{"quorate_proxy_watch_responses_total", "Watch responses with events sent to clients.", true, watch(func(s *fan.Stats) int64 { return s.Responses })},
		{"quorate_proxy_watch_streams", "Watch streams of clients.", false, watch(func(s *fan.Stats) int64 { return s.Streams })},
		{"quorate_proxy_watch_groups", "Watches of the store that several watchers of clients may share.", false, watch(func(s *fan.Stats) int64 { return s.Groups })},
		{"quorate_proxy_watchers_alone", "Watchers with a watch of the store for themselves.", false, watch(func(s *fan.Stats) int64 { return s.Alone })},
		{"quorate_proxy_upstream_watch_streams", "Watch streams to the store.", false, watch(func(s *fan.Stats) int64 { return s.Upstream })},
		{"quorate_proxy_watch_resumed_total", "Watch streams to the store that were lost and resumed.", true, watch(func(s *fan.Stats) int64 { return s.Resumed })},
		{"quorate_proxy_keepalive_streams", "Streams of clients that keep leases alive.", false, func() float64 { return float64(p.leases.Stats().Streams) }},
		{"quorate_proxy_keepalive_requests_total", "Renewals of leases that clients asked for.", true, func() float64 { return float64(p.leases.Stats().Requests) }},
		{"quorate_proxy_keepalive_renewals_total", "Renewals that the store was asked for.", true, func() float64 { return float64(p.leases.Stats().Renewals) }},
		{"etcd_grpc_proxy_cache_hits_total", "Reads that shared the answer of another's call; nothing is kept.", false, load(&f.counts.shared)},
		{"etcd_grpc_proxy_cache_misses_total", "Calls to the store made for reads.", false, load(&f.counts.asked)},
		{"etcd_grpc_proxy_cache_keys_total", "Different reads under way.", false, func() float64 { return float64(f.reads.underWay()) }},
		{"quorate_proxy_calls_total", "Unary calls of clients.", true, load(&f.counts.calls)},
		{"quorate_proxy_retries_total", "Calls given to another member because the first did not look at them.", true, load(&f.counts.retries)},
		{"quorate_proxy_reordered_reads_total", "Serializable reads asked again because the answer was older than one given before.", true, load(&f.counts.reordered)},
		{"quorate_proxy_waiting_calls", "Calls that wait for a connection to the store.", false, func() float64 { return float64(f.waiting.Load()) }},
		{"quorate_proxy_endpoints", "Endpoints of the store.", false, count(0)},
		{"quorate_proxy_endpoints_connected", "Endpoints with a connection.", false, count(1)},
		{"quorate_proxy_endpoints_serving", "Endpoints whose members serve.", false, count(2)},
		{"quorate_proxy_client_received_bytes_total", "Bytes received from clients over gRPC.", true, load(&p.observer.in)},
		{"quorate_proxy_client_sent_bytes_total", "Bytes sent to clients over gRPC.", true, load(&p.observer.out)},
	}
}

// metricsHandler shows the proxy's own metrics.
func (p *Proxy) metricsHandler() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), p.observer)
	for _, m := range p.readings() {
		if m.counter {
			r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: m.name, Help: m.help}, m.read))
		} else {
			r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: m.name, Help: m.help}, m.read))
		}
	}
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// underWay counts the different reads that wait for answers.
func (c *coalescer) underWay() (n int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n += len(s.flights)
		s.mu.Unlock()
	}
	return n
}
