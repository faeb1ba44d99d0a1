package httpapi

import (
	"fmt"
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// MetricsConfig is what NewMetrics needs.
type MetricsConfig struct {
	Read          func() Sample // called once per scrape, from the scrape's goroutine
	Methods       []Method      // the gRPC methods that are served
	Operations    []string      // names of the commands, the op label of apply_duration
	Extensive     bool          // add latency histograms per gRPC method
	EtcdVersion   string
	ServerID      string // hexadecimal
	Features      []Feature
	QuorateOwn    string // this program's version
	NoProcessInfo bool   // leave out the collectors of the process and the Go runtime, for tests that compare all output
}

// Feature is a feature gate as metrics show it.
type Feature struct {
	Name, Stage string
	Enabled     bool
}

// Metrics owns the registry of one member and what its hot paths count.
type Metrics struct {
	RPC     *RPC       // fed by the gRPC server
	Clients *Clients   // fed by the gRPC services
	Fsync   *Histogram // log made durable
	Write   *Histogram // log written
	Commit  *Histogram // engine batch committed
	Apply   *Operations
	Ranges  *Operations // the op label is not shown: outcomes of Range requests
	Request *Operations
	Hash    *Histogram // Maintenance.Hash
	HashKV  *Histogram // Maintenance.HashKV
	Save    *Histogram // Maintenance.Snapshot
	TTL     *Histogram // granted TTLs, seconds
	Peers   *Peers

	registry *prometheus.Registry
	own      MetricsConfig // as given to NewMetrics
}

// NewMetrics makes the registry with everything a member shows from the start.
func NewMetrics(cfg MetricsConfig) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		RPC:      newRPC(cfg.Methods, cfg.Extensive),
		Clients:  newClients(),
		Fsync:    NewHistogram(0.001, 2, 14),
		Write:    NewHistogram(0.001, 2, 14),
		Commit:   NewHistogram(0.001, 2, 14),
		Apply:    newOperations(cfg.Operations, func() *Histogram { return NewHistogram(0.0001, 2, 20) }),
		Ranges:   newOperations([]string{rangeOp}, func() *Histogram { return NewHistogram(0.0001, 2, 20) }),
		Request:  newOperations(requestOps, func() *Histogram { return NewHistogram(0.001, 2, 14) }),
		Hash:     NewHistogram(0.01, 2, 15),
		HashKV:   NewHistogram(0.01, 2, 15),
		Save:     NewHistogram(0.01, 2, 17),
		TTL:      NewHistogram(1, 2, 24),
		Peers:    newPeers(),
		own:      cfg,
	}
	m.RPC.attach(m)
	m.registry.MustRegister(newSampler(cfg), m.RPC, m.Clients, m.Peers, &histograms{m: m})
	if !cfg.NoProcessInfo {
		m.registry.MustRegister(
			collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
			collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsGC, collectors.MetricsScheduler)))
	}
	return m
}

// Handler serves the metrics in the text or OpenMetrics form.
func (m *Metrics) Handler() http.Handler {
	return promhttp.InstrumentMetricHandler(m.registry, promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
}

// sampler shows one Sample per scrape.
type sampler struct {
	cfg   MetricsConfig
	descs []*prometheus.Desc // as readings

	constants                     []prometheus.Metric
	clusterVersion, alarms, peers *prometheus.Desc
	refused                       *prometheus.Desc // promotions
	perPeer                       []peerReading
	tls                           tlsDescs
}

func newSampler(cfg MetricsConfig) *sampler {
	s := &sampler{cfg: cfg,
		clusterVersion: desc("etcd_cluster_version", "Version the cluster has agreed on: the label of the series with value 1.", "cluster_version"),
		alarms:         desc("etcd_debugging_server_alarms", "Raised alarms.", "server_id", "alarm_type"),
		peers:          desc("etcd_network_known_peers", "Members that this member knows, itself included.", "Local", "Remote"),
		refused:        desc("etcd_server_learner_promote_failures", "Learners that this member refused to make voters.", "Reason"),
		perPeer:        peerReadings(),
		tls:            newTLSDescs(),
	}
	for _, r := range readings {
		s.descs = append(s.descs, desc(r.name, r.help))
	}
	info := func(name, help, label, value string) {
		s.constants = append(s.constants, prometheus.MustNewConstMetric(desc(name, help, label), prometheus.GaugeValue, 1, value))
	}
	info("etcd_server_version", "Version of etcd this server is compatible with: the label of the series with value 1.", "server_version", cfg.EtcdVersion)
	info("etcd_server_go_version", "Version of Go this server is built with: the label of the series with value 1.", "server_go_version", runtime.Version())
	info("etcd_server_id", "Id of this member: the label of the series with value 1.", "server_id", cfg.ServerID)
	info("quorate_server_version", "Version of this program: the label of the series with value 1.", "version", cfg.QuorateOwn)
	feature := desc("etcd_server_feature_enabled", "Feature gates: 1 on, 0 off.", "name", "stage")
	for _, f := range cfg.Features {
		s.constants = append(s.constants, prometheus.MustNewConstMetric(feature, prometheus.GaugeValue, number(f.Enabled), f.Name, f.Stage))
	}
	return s
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector. Naming nothing makes the registry check each scrape instead.
func (s *sampler) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s *sampler) Collect(out chan<- prometheus.Metric) {
	sample := s.cfg.Read()
	for i, r := range readings {
		v := 0.0
		if r.read != nil {
			v = r.read(&sample)
		}
		out <- prometheus.MustNewConstMetric(s.descs[i], r.kind, v)
	}
	for _, m := range s.constants {
		out <- m
	}
	if v := sample.ClusterVersion; v != "" {
		out <- prometheus.MustNewConstMetric(s.clusterVersion, prometheus.GaugeValue, 1, v)
	}
	for _, id := range sample.Members {
		out <- prometheus.MustNewConstMetric(s.peers, prometheus.GaugeValue, 1, s.cfg.ServerID, id)
	}
	for i := range sample.Peers {
		for j := range s.perPeer {
			s.perPeer[j].collect(out, s.cfg.ServerID, &sample.Peers[i])
		}
	}
	for reason, n := range sample.Raft.PromotionsRefused {
		out <- prometheus.MustNewConstMetric(s.refused, prometheus.CounterValue, float64(n), reason)
	}
	s.tls.collect(out, sample.TLS)
	for _, a := range sample.Alarms {
		out <- prometheus.MustNewConstMetric(s.alarms, prometheus.GaugeValue, 1, a.Member, a.Name)
	}
}

// Operations are latency histograms of named operations, by success.
type Operations struct {
	index map[string]int
	names []string
	hists [][2]*Histogram // failure, success
}

func newOperations(names []string, fresh func() *Histogram) *Operations {
	o := &Operations{index: map[string]int{}}
	for _, name := range names {
		if _, dup := o.index[name]; dup {
			panic(fmt.Sprintf("BUG: operation %s is named twice", name))
		}
		o.index[name] = len(o.names)
		o.names = append(o.names, name)
		o.hists = append(o.hists, [2]*Histogram{fresh(), fresh()})
	}
	return o
}

// Find returns the pair of histograms of an operation for keeping, indexed by 0 for failure and 1 for success. It panics
// on an unknown name: names are constants of the program.
func (o *Operations) Find(name string) [2]*Histogram {
	i, ok := o.index[name]
	if !ok {
		panic("BUG: there is no operation " + name)
	}
	return o.hists[i]
}

// collect shows the operations that have happened.
func (o *Operations) collect(out chan<- prometheus.Metric, d *prometheus.Desc, labels func(name string) []string) {
	for i, name := range o.names {
		for success, h := range o.hists[i] {
			if h.count() > 0 {
				out <- h.metric(d, append(labels(name), fmt.Sprint(success == 1))...)
			}
		}
	}
}
