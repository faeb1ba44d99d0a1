package httpapi

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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

// codes are the names of the gRPC status codes as the grpc_code label shows them.
var codes = [...]string{"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
	"PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal",
	"Unavailable", "DataLoss", "Unauthenticated"}

// RPC counts the calls of every served method. Everything is allocated at the start: counting a call is a few atomic
// additions.
type RPC struct {
	methods  []*MethodCounts
	byName   map[string]*MethodCounts
	sent     atomic.Uint64 // bytes of messages
	received atomic.Uint64 // bytes of messages

	started, messagesIn, messagesOut, handled, handling *prometheus.Desc
	bytesOut, bytesIn, rangeTotal                       *prometheus.Desc
}

const rangeOp = "Range"

// requestOps are the types of etcd_server_request_duration_seconds, by the method that makes them.
var requestOps = []string{"Range", "Put", "DeleteRange", "Txn", "Compaction", "LeaseGrant", "LeaseRevoke", "Alarm"}

var requestMethods = map[string]string{
	"/etcdserverpb.KV/Range": "Range", "/etcdserverpb.KV/Put": "Put", "/etcdserverpb.KV/DeleteRange": "DeleteRange",
	"/etcdserverpb.KV/Txn": "Txn", "/etcdserverpb.KV/Compact": "Compaction",
	"/etcdserverpb.Lease/LeaseGrant": "LeaseGrant", "/etcdserverpb.Lease/LeaseRevoke": "LeaseRevoke",
	"/etcdserverpb.Maintenance/Alarm": "Alarm",
}

// MethodCounts are the counters of one method.
type MethodCounts struct {
	rpc         *RPC
	labels      []string // grpc_type, grpc_service, grpc_method
	started     atomic.Uint64
	in, out     atomic.Uint64
	handled     [len(codes)]atomic.Uint64
	handling    *Histogram    // nil unless extensive
	request     [2]*Histogram // nil when the method is none of requestMethods
	rangeTiming [2]*Histogram // nil unless the method is Range
}

func newRPC(methods []Method, extensive bool) *RPC {
	labels := []string{"grpc_type", "grpc_service", "grpc_method"}
	r := &RPC{byName: make(map[string]*MethodCounts, len(methods)),
		started:     desc("grpc_server_started_total", "Calls begun.", labels...),
		messagesIn:  desc("grpc_server_msg_received_total", "Messages received.", labels...),
		messagesOut: desc("grpc_server_msg_sent_total", "Messages sent.", labels...),
		handled:     desc("grpc_server_handled_total", "Calls ended, by status code.", append(labels, "grpc_code")...),
		handling:    desc("grpc_server_handling_seconds", "Time from the beginning to the end of calls.", labels...),
		bytesOut:    desc("etcd_network_client_grpc_sent_bytes_total", "Bytes of messages sent to clients."),
		bytesIn:     desc("etcd_network_client_grpc_received_bytes_total", "Bytes of messages received from clients."),
		rangeTotal:  desc("etcd_mvcc_range_total", "Range requests."),
	}
	for _, method := range methods {
		service, name, ok := strings.Cut(strings.TrimPrefix(method.Name, "/"), "/")
		if !ok || r.byName[method.Name] != nil {
			panic(fmt.Sprintf("BUG: method %q is malformed or named twice", method.Name))
		}
		c := &MethodCounts{rpc: r, labels: []string{method.Type, service, name}}
		if extensive {
			c.handling = &Histogram{bounds: prometheus.DefBuckets, counts: make([]atomic.Uint64, len(prometheus.DefBuckets)+1)}
		}
		r.methods = append(r.methods, c)
		r.byName[method.Name] = c
	}
	return r
}

// resolve finds the histograms of requests; NewMetrics calls it once they exist.
func (r *RPC) resolve(requests, ranges *Operations) {
	for name, c := range r.byName {
		if op, ok := requestMethods[name]; ok {
			c.request = requests.Find(op)
			if op == rangeOp {
				c.rangeTiming = ranges.Find(rangeOp)
			}
		}
	}
}

// Find returns the counters of a method, nil when it is not served. Keep the result; nil takes all calls and does
// nothing.
func (r *RPC) Find(method string) *MethodCounts { return r.byName[method] }

// Started counts a call that begins.
func (c *MethodCounts) Started() {
	if c != nil {
		c.started.Add(1)
	}
}

// Received counts a message of the client.
func (c *MethodCounts) Received(bytes int) {
	if c != nil {
		c.in.Add(1)
		c.rpc.received.Add(uint64(bytes))
	}
}

// Sent counts a message to the client.
func (c *MethodCounts) Sent(bytes int) {
	if c != nil {
		c.out.Add(1)
		c.rpc.sent.Add(uint64(bytes))
	}
}

// Handled counts a call that ended with a gRPC status code and how long it took.
func (c *MethodCounts) Handled(code uint32, took time.Duration) {
	if c == nil {
		return
	}
	if int(code) >= len(codes) {
		code = 2 // Unknown
	}
	c.handled[code].Add(1)
	success := 0
	if code == 0 {
		success = 1
	}
	for _, h := range []*Histogram{c.handling, c.request[success], c.rangeTiming[success]} {
		if h != nil {
			h.Observe(took)
		}
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
			count(r.handled, c.handled[code].Load(), append(append([]string(nil), c.labels...), codes[code])...)
		}
		if c.handling != nil {
			out <- c.handling.metric(r.handling, c.labels...)
		}
		if c.rangeTiming[1] != nil {
			ranges += c.started.Load()
		}
	}
	count(r.bytesOut, r.sent.Load())
	count(r.bytesIn, r.received.Load())
	count(r.rangeTotal, ranges)
}
