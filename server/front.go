package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"quorate.dev/quorate/config"
	"quorate.dev/quorate/httpapi"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/wire"
)

// condition answers httpapi's questions about the running member.
type condition struct{ s *Server }

// Alarms implements httpapi.Member: those that concern this member.
func (c condition) Alarms() []string {
	view := c.s.core.machine.View()
	id := c.s.core.identity.member
	var names []string
	for _, a := range view.Alarms {
		if a.Alarm == wire.AlarmCorrupt && !view.Corrupt() && ids.MemberID(a.MemberID) != id {
			continue // another member is fenced; this one goes on
		}
		names = append(names, alarmName(a.Alarm))
	}
	return names
}

func alarmName(kind wire.AlarmType) string {
	switch kind {
	case wire.AlarmNoSpace:
		return "NOSPACE"
	case wire.AlarmCorrupt:
		return "CORRUPT"
	}
	return "UNKNOWN"
}

// HasLeader implements httpapi.Member.
func (c condition) HasLeader() bool { return c.s.core.host.Status().Leader != 0 }

// IsLearner implements httpapi.Member.
func (c condition) IsLearner() bool {
	m, ok := c.s.core.machine.View().Members.Get(c.s.core.identity.member)
	return ok && m.IsLearner
}

// ClusterVersion implements httpapi.Member.
func (c condition) ClusterVersion() string { return c.s.core.machine.View().Members.Version() }

// Read implements httpapi.Member.
func (c condition) Read(ctx context.Context, serializable bool) error {
	if !serializable {
		if stall := c.s.core.host.Stall(); stall.What != "" { // nobody need wait for what will not come
			return fmt.Errorf("this member makes no progress: there is work for %s and none of it was done for %s", stall.What, stall.For)
		}
		done := make(chan error, 1)
		c.s.core.host.Read(func(err error) { done <- err })
		select {
		case err := <-done:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for {
		_, err := c.s.core.machine.View().Range(&wire.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Limit: 1, KeysOnly: true})
		if !errors.Is(err, mvcc.Stale) { // a compaction passed this view; the next one is there already
			return err
		}
	}
}

// sample reads everything that a scrape shows.
func (s *Server) sample() httpapi.Sample {
	core := &s.core
	status, counters, view, hub := core.host.Status(), core.host.Counters(), core.machine.View(), core.hub.Stats()
	engine, stats, quota, duties := core.engine.Stats(), view.Stats(), s.quota(), core.duties.Counters()
	out := httpapi.Sample{
		Raft: httpapi.RaftSample{
			HasLeader: status.Leader != 0, IsLeader: status.Self, IsLearner: condition{s}.IsLearner(), LeaderChanges: counters.LeaderChanges,
			Committed: uint64(status.Committed), Applied: uint64(status.Applied), Pending: uint64(counters.Pending), Failed: counters.ProposalsFailed,
			SlowApplies: counters.SlowApplies, SlowReads: counters.SlowReads, FailedReads: counters.ReadsFailed,
			LateHeartbeats: counters.LateHeartbeats,
		},
		Store: httpapi.StoreSample{
			Keys: stats.Keys, Revision: int64(view.Revision()), Compacted: compactedOrZero(view.Compacted()),
			TotalBytes: engine.DiskBytes, InUseBytes: view.RetainedBytes(), QuotaBytes: quota, OpenReads: engine.Readers,
			Puts: core.counts.puts.Load(), Deletes: core.counts.deletes.Load(), Txns: core.counts.txns.Load(), PutBytes: core.counts.putBytes.Load(),
			CompactedAt: core.counts.compactedAt.Load(),
		},
		Watch: httpapi.WatchSample{Streams: hub.Streams, Watchers: hub.Watchers, Slow: hub.Slow, Pending: hub.Pending, Events: uint64(hub.Events)},
		Lease: httpapi.LeaseSample{Granted: core.counts.granted.Load(), Revoked: core.counts.revoked.Load(), Renewed: duties.Renewed, Expired: duties.Expired},
		Disk:  httpapi.DiskSample{LogBytes: core.counts.logBytes.Load()},

		Audit: s.auditSample(), ClusterVersion: condition{s}.ClusterVersion(), AuthRevision: view.Auth.Revision(),
	}
	out.TLS = s.tlsSample()
	out.Raft.Promotions, out.Raft.PromotionsRefused = core.counts.promotions.read()
	out.Peers = core.peers.sample()
	out.Disk.OpenFiles, out.Disk.Limit = fileDescriptors()
	for _, m := range view.Members.Members() {
		out.Members = append(out.Members, m.ID.String())
	}
	for _, a := range view.Alarms {
		out.Alarms = append(out.Alarms, httpapi.AlarmSample{Member: ids.MemberID(a.MemberID).String(), Name: alarmName(a.Alarm)})
	}
	return out
}

// compactedOrZero: a store that was never compacted says -1, which monitoring shows as 0.
func compactedOrZero(rev ids.Revision) int64 { return max(0, int64(rev)) }

// fileDescriptors counts the open ones of this process and reads their limit; 0 where the system does not tell.
func fileDescriptors() (used, limit uint64) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err == nil {
		limit = r.Cur
	}
	if names, err := os.ReadDir("/proc/self/fd"); err == nil {
		used = uint64(len(names))
	}
	return used, limit
}

// quota is the enforced quota in bytes, 0 when there is none.
func (s *Server) quota() int64 {
	bytes, enforced := s.cfg.Quota()
	if !enforced {
		return 0
	}
	return bytes
}

// shownQuota is the quota as Status shows it: a negative number when the operator switched it off.
func (s *Server) shownQuota() int64 {
	if _, enforced := s.cfg.Quota(); !enforced {
		return s.cfg.Store.QuotaBytes
	}
	return s.quota()
}

func (s *Server) newMetrics() *httpapi.Metrics {
	var features []httpapi.Feature
	for _, g := range config.FeatureGates() {
		features = append(features, httpapi.Feature{Name: g.Name, Stage: g.Stage(), Enabled: s.cfg.Gates.Enabled(g.Name)})
	}
	return httpapi.NewMetrics(httpapi.MetricsConfig{
		Read: s.sample, Methods: methods(), Operations: operationNames(), Extensive: s.cfg.HTTP.Metrics == config.MetricsExtensive,
		EtcdVersion: config.EtcdVersion, ServerID: s.core.identity.member.String(), Features: features, QuorateOwn: config.Version,
	})
}

func (s *Server) newFront() *httpapi.Front {
	set := httpapi.Config{
		Member: condition{s}, Metrics: s.core.metrics, Timeout: s.cfg.RequestTimeout(),
		Versions: httpapi.Versions{Etcd: config.EtcdVersion, Storage: config.StorageVersion, Own: config.Version},
		CORS:     s.cfg.HTTP.CORS, Hosts: s.cfg.HTTP.Hosts, Pprof: s.cfg.HTTP.Pprof || s.cfg.Log.Level == "debug", Logger: s.logger, Warnings: s.certificateWarnings,
		UI:   s.newUI(),
		Args: config.MaskArgs(os.Args), Own: map[string]http.Handler{"/quorate/": s.insightHandler()},
		Vars: map[string]func() any{
			"raft.status":           func() any { return s.raftStatus() },
			"file_descriptor_limit": func() any { _, limit := fileDescriptors(); return limit },
		},
		RefuseNames: func() bool { return s.cfg.TLS.Client.Auth && s.core.machine.View().Auth.Enabled() },
	}
	if s.gateway != nil {
		set.Gateway = s.gateway
	}
	if s.cfg.HTTP.V2 {
		set.Own["/v2/"] = s.newV2()
	}
	return httpapi.New(set)
}

// raftStatus is the variable raft.status of /debug/vars.
func (s *Server) raftStatus() any {
	status := s.core.host.Status()
	role := "StateFollower"
	if status.Self {
		role = "StateLeader"
	}
	return struct {
		ID      string `json:"id"`
		Term    uint64 `json:"term"`
		Commit  uint64 `json:"commit"`
		Applied uint64 `json:"applied"`
		Lead    string `json:"lead"`
		Role    string `json:"raftState"`
		Since   string `json:"leaderSince"`
	}{status.Member.String(), uint64(status.Term), uint64(status.Committed), uint64(status.Applied), status.Leader.String(), role,
		status.LeaderSince.Format(time.RFC3339Nano)}
}
