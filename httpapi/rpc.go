package httpapi

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"quorate.dev/quorate/rpc"
)

// The types of a gRPC method as its label shows them.
const (
	Unary        = "unary"
	ServerStream = "server_stream"
	BidiStream   = "bidi_stream"
)

// Method is one gRPC method that is served.
type Method struct {
	Name string // "/service/method"
	Type string // Unary, ServerStream or BidiStream
}

// codeCount is the number of gRPC status codes.
const codeCount = int(rpc.Unauthenticated) + 1

// RPC counts the calls of every served method; it is an rpc.Observer. Everything is allocated at the start: counting a call is a few atomic
// additions, and a method that is not in the table costs nothing.
type RPC struct {
	methods  []*methodCounts
	byName   map[string]*methodCounts
	sent     atomic.Uint64 // bytes of connections
	received atomic.Uint64 // bytes of connections

	started, messagesIn, messagesOut, handled, handling *prometheus.Desc
	bytesOut, bytesIn, rangeTotal                       *prometheus.Desc
}

const rangeOp = "Range"

// Methods whose whole time is what a metric of its own shows.
const (
	rangeMethod    = "/etcdserverpb.KV/Range"
	hashMethod     = "/etcdserverpb.Maintenance/Hash"
	hashKVMethod   = "/etcdserverpb.Maintenance/HashKV"
	snapshotMethod = "/etcdserverpb.Maintenance/Snapshot"
)

// requestOps are the types of etcd_server_request_duration_seconds, by the method that makes them.
var requestOps = []string{"Range", "Put", "DeleteRange", "Txn", "Compaction", "LeaseGrant", "LeaseRevoke", "Alarm"}

var requestMethods = map[string]string{
	rangeMethod: rangeOp, "/etcdserverpb.KV/Put": "Put", "/etcdserverpb.KV/DeleteRange": "DeleteRange",
	"/etcdserverpb.KV/Txn": "Txn", "/etcdserverpb.KV/Compact": "Compaction",
	"/etcdserverpb.Lease/LeaseGrant": "LeaseGrant", "/etcdserverpb.Lease/LeaseRevoke": "LeaseRevoke",
	"/etcdserverpb.Maintenance/Alarm": "Alarm",
}

// methodCounts are the counters of one method.
type methodCounts struct {
	labels   []string // grpc_type, grpc_service, grpc_method
	started  atomic.Uint64
	in, out  atomic.Uint64
	handled  [codeCount]atomic.Uint64
	handling *Histogram      // nil unless extensive
	timings  [2][]*Histogram // what observes a failed and a successful call
}

func newRPC(methods []Method, extensive bool) *RPC {
	labels := []string{"grpc_type", "grpc_service", "grpc_method"}
	r := &RPC{byName: make(map[string]*methodCounts, len(methods)),
		started:     desc("grpc_server_started_total", "Calls begun.", labels...),
		messagesIn:  desc("grpc_server_msg_received_total", "Messages received.", labels...),
		messagesOut: desc("grpc_server_msg_sent_total", "Messages sent.", labels...),
		handled:     desc("grpc_server_handled_total", "Calls ended, by status code.", append(labels, "grpc_code")...),
		handling:    desc("grpc_server_handling_seconds", "Time from the beginning to the end of calls.", labels...),
		bytesOut:    desc("etcd_network_client_grpc_sent_bytes_total", "Bytes sent to clients over gRPC."),
		bytesIn:     desc("etcd_network_client_grpc_received_bytes_total", "Bytes received from clients over gRPC."),
		rangeTotal:  desc("etcd_mvcc_range_total", "Range requests."),
	}
	for _, method := range methods {
		service, name, ok := strings.Cut(strings.TrimPrefix(method.Name, "/"), "/")
		if !ok || r.byName[method.Name] != nil {
			panic(fmt.Sprintf("BUG: method %q is malformed or named twice", method.Name))
		}
		c := &methodCounts{labels: []string{method.Type, service, name}}
		if extensive {
			c.handling = &Histogram{bounds: prometheus.DefBuckets, counts: make([]atomic.Uint64, len(prometheus.DefBuckets)+1)}
		}
		r.methods = append(r.methods, c)
		r.byName[method.Name] = c
	}
	return r
}

// attach adds the histograms that time whole calls of single methods.
func (r *RPC) attach(m *Metrics) {
	for name, c := range r.byName {
		for success := range c.timings {
			add := func(h *Histogram) { c.timings[success] = append(c.timings[success], h) }
			if c.handling != nil {
				add(c.handling)
			}
			if op, ok := requestMethods[name]; ok {
				add(m.Request.Find(op)[success])
			}
			if h := map[string]*Histogram{rangeMethod: m.Ranges.Find(rangeOp)[success], hashMethod: m.Hash, hashKVMethod: m.HashKV, snapshotMethod: m.Save}[name]; h != nil {
				add(h)
			}
		}
	}
}

// Started implements rpc.Observer.
func (r *RPC) Started(method string, _ bool) {
	if c := r.byName[method]; c != nil {
		c.started.Add(1)
	}
}

// MessageReceived implements rpc.Observer.
func (r *RPC) MessageReceived(method string) {
	if c := r.byName[method]; c != nil {
		c.in.Add(1)
	}
}

// MessageSent implements rpc.Observer.
func (r *RPC) MessageSent(method string) {
	if c := r.byName[method]; c != nil {
		c.out.Add(1)
	}
}

// Bytes implements rpc.Observer.
func (r *RPC) Bytes(in, out int) {
	if in != 0 {
		r.received.Add(uint64(in))
	}
	if out != 0 {
		r.sent.Add(uint64(out))
	}
}

// Handled implements rpc.Observer.
func (r *RPC) Handled(method string, code rpc.Code, took time.Duration) {
	c := r.byName[method]
	if c == nil {
		return
	}
	if int(code) >= len(c.handled) {
		code = rpc.Unknown
	}
	c.handled[code].Add(1)
	success := 0
	if code == rpc.OK {
		success = 1
	}
	for _, h := range c.timings[success] {
		h.Observe(took)
	}
}

// Describe implements prometheus.Collector. Naming nothing makes the registry check each scrape instead.
func (r *RPC) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (r *RPC) Collect(out chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	var ranges uint64
	for _, c := range r.methods {
		count(r.started, c.started.Load(), c.labels...)
		count(r.messagesIn, c.in.Load(), c.labels...)
		count(r.messagesOut, c.out.Load(), c.labels...)
		for code := range c.handled {
			count(r.handled, c.handled[code].Load(), append(append([]string(nil), c.labels...), rpc.Code(code).String())...)
		}
		if c.handling != nil {
			out <- c.handling.metric(r.handling, c.labels...)
		}
	}
	if c := r.byName[rangeMethod]; c != nil {
		ranges = c.started.Load()
	}
	count(r.bytesOut, r.sent.Load())
	count(r.bytesIn, r.received.Load())
	count(r.rangeTotal, ranges)
}
