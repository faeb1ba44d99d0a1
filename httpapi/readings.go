package httpapi

import "github.com/prometheus/client_golang/prometheus"

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

// reading is one metric without labels that a scrape takes from the Sample. A nil read shows 0: the name is there because
// dashboards and alerts expect it, and what it counts does not happen in this store.
type reading struct {
	name string
	kind prometheus.ValueType
	help string
	read func(*Sample) float64
}

// readings have names and types of etcd v3.7; several gauges are called total there, and so here.
var readings = []reading{
	{"etcd_server_has_leader", gauge, "1 while this member knows a leader.", func(s *Sample) float64 { return number(s.Raft.HasLeader) }},
	{"etcd_server_is_leader", gauge, "1 while this member is the leader.", func(s *Sample) float64 { return number(s.Raft.IsLeader) }},
	{"etcd_server_is_learner", gauge, "1 while this member has no vote.", func(s *Sample) float64 { return number(s.Raft.IsLearner) }},
	{"etcd_server_leader_changes_seen_total", counter, "Changes of leader seen.", func(s *Sample) float64 { return float64(s.Raft.LeaderChanges) }},
	{"etcd_server_learner_promote_successes", counter, "Learners made voters by this member.", func(s *Sample) float64 { return float64(s.Raft.Promotions) }},
	{"etcd_server_heartbeat_send_failures_total", counter, "Heartbeats sent too late, the usual sign of an overloaded machine.", func(s *Sample) float64 { return float64(s.Raft.LateHeartbeats) }},
	{"etcd_server_proposals_applied_total", gauge, "Index of the last applied entry.", func(s *Sample) float64 { return float64(s.Raft.Applied) }},
	{"etcd_server_proposals_committed_total", gauge, "Index of the last committed entry.", func(s *Sample) float64 { return float64(s.Raft.Committed) }},
	{"etcd_server_proposals_pending", gauge, "Proposals waiting for their result.", func(s *Sample) float64 { return float64(s.Raft.Pending) }},
	{"etcd_server_proposals_failed_total", counter, "Proposals that failed.", func(s *Sample) float64 { return float64(s.Raft.Failed) }},
	{"etcd_server_slow_apply_total", counter, "Batches applied slower than warning-apply-duration.", func(s *Sample) float64 { return float64(s.Raft.SlowApplies) }},
	{"etcd_server_slow_read_indexes_total", counter, "Read barriers that took long.", func(s *Sample) float64 { return float64(s.Raft.SlowReads) }},
	{"etcd_server_read_indexes_failed_total", counter, "Read barriers that failed.", func(s *Sample) float64 { return float64(s.Raft.FailedReads) }},
	{"etcd_server_quota_backend_bytes", gauge, "Bytes of data that the quota allows.", func(s *Sample) float64 { return float64(s.Store.QuotaBytes) }},
	{"etcd_server_snapshot_apply_in_progress_total", gauge, "1 while a snapshot of another member is being installed.", nil},
	{"etcd_disk_wal_write_bytes_total", gauge, "Bytes written to the log.", func(s *Sample) float64 { return float64(s.Disk.LogBytes) }},
	{"etcd_disk_defrag_inflight", gauge, "1 while the store is defragmented, which takes no time here.", nil},
	{"etcd_mvcc_put_total", counter, "Keys put.", func(s *Sample) float64 { return float64(s.Store.Puts) }},
	{"etcd_mvcc_delete_total", counter, "Keys deleted.", func(s *Sample) float64 { return float64(s.Store.Deletes) }},
	{"etcd_mvcc_txn_total", counter, "Transactions of more than one change.", func(s *Sample) float64 { return float64(s.Store.Txns) }},
	{"etcd_mvcc_db_total_size_in_bytes", gauge, "Bytes of the store's files.", func(s *Sample) float64 { return float64(s.Store.TotalBytes) }},
	{"etcd_mvcc_db_total_size_in_use_in_bytes", gauge, "Bytes of retained data, which the quota counts.", func(s *Sample) float64 { return float64(s.Store.InUseBytes) }},
	{"etcd_mvcc_db_open_read_transactions", gauge, "Open reads of the engine.", func(s *Sample) float64 { return float64(s.Store.OpenReads) }},
	{"etcd_debugging_auth_revision", gauge, "Revision of users and roles.", func(s *Sample) float64 { return float64(s.AuthRevision) }},
	{"etcd_debugging_mvcc_keys_total", gauge, "Keys.", func(s *Sample) float64 { return float64(s.Store.Keys) }},
	{"etcd_debugging_mvcc_current_revision", gauge, "Current revision.", func(s *Sample) float64 { return float64(s.Store.Revision) }},
	{"etcd_debugging_mvcc_compact_revision", gauge, "Revision of the last compaction.", func(s *Sample) float64 { return float64(s.Store.Compacted) }},
	{"etcd_debugging_mvcc_watch_stream_total", gauge, "Watch streams.", func(s *Sample) float64 { return float64(s.Watch.Streams) }},
	{"etcd_debugging_mvcc_watcher_total", gauge, "Watchers.", func(s *Sample) float64 { return float64(s.Watch.Watchers) }},
	{"etcd_debugging_mvcc_slow_watcher_total", gauge, "Watchers that are behind.", func(s *Sample) float64 { return float64(s.Watch.Slow) }},
	{"etcd_debugging_mvcc_pending_events_total", gauge, "Events not yet offered to watchers.", func(s *Sample) float64 { return float64(s.Watch.Pending) }},
	{"etcd_debugging_mvcc_events_total", counter, "Events offered to watchers.", func(s *Sample) float64 { return float64(s.Watch.Events) }},
	{"etcd_debugging_mvcc_total_put_size_in_bytes", gauge, "Bytes of keys and values put.", func(s *Sample) float64 { return float64(s.Store.PutBytes) }},
	{"etcd_debugging_mvcc_db_compaction_last", gauge, "Unix time of the last compaction.", func(s *Sample) float64 { return float64(s.Store.CompactedAt) }},
	{"etcd_debugging_mvcc_db_compaction_keys_total", counter, "Revisions removed by compaction.", func(s *Sample) float64 { return float64(s.Store.Scrubbed) }},
	{"etcd_debugging_lease_granted_total", counter, "Leases granted.", func(s *Sample) float64 { return float64(s.Lease.Granted) }},
	{"etcd_debugging_lease_revoked_total", counter, "Leases revoked.", func(s *Sample) float64 { return float64(s.Lease.Revoked) }},
	{"etcd_debugging_lease_renewed_total", counter, "Keep-alives of leases.", func(s *Sample) float64 { return float64(s.Lease.Renewed) }},
	{"etcd_debugging_server_lease_expired_total", counter, "Leases that expired.", func(s *Sample) float64 { return float64(s.Lease.Expired) }},
	{"etcd_debugging_store_expires_total", counter, "Keys of the v2 store that expired.", nil},
	{"etcd_debugging_store_watch_requests_total", counter, "Watch requests of the v2 store.", nil},
	{"etcd_debugging_store_watchers", gauge, "Watchers of the v2 store.", nil},
	{"etcd_grpc_proxy_cache_hits_total", gauge, "Cache hits of a gRPC proxy.", nil},
	{"etcd_grpc_proxy_cache_keys_total", gauge, "Cached keys of a gRPC proxy.", nil},
	{"etcd_grpc_proxy_cache_misses_total", gauge, "Cache misses of a gRPC proxy.", nil},
	{"etcd_grpc_proxy_watchers_coalescing_total", gauge, "Watchers merged by a gRPC proxy.", nil},
	{"etcd_grpc_proxy_events_coalescing_total", counter, "Events merged by a gRPC proxy.", nil},
	{"os_fd_limit", gauge, "Most file descriptors of this process.", func(s *Sample) float64 { return float64(s.Disk.Limit) }},
	{"os_fd_used", gauge, "File descriptors of this process.", func(s *Sample) float64 { return float64(s.Disk.OpenFiles) }},
}

// histograms shows the latency histograms, and empty ones where etcd has a name for work that does not exist here.
type histograms struct{ m *Metrics }

// unusedHistograms: name, first bucket, buckets of factor 2, help.
var unusedHistograms = []struct {
	name  string
	start float64
	count int
	help  string
}{
	{"etcd_disk_backend_defrag_duration_seconds", 0.1, 13, "Defragmentation, which takes no time here."},
	{"etcd_snap_fsync_duration_seconds", 0.001, 14, "Snapshot files made durable."},
	{"etcd_snap_db_fsync_duration_seconds", 0.001, 14, "Received snapshots made durable."},
	{"etcd_snap_db_save_total_duration_seconds", 0.1, 10, "Received snapshots saved."},
	{"etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", 0.5, 14, "Pauses of the index by compaction."},
	{"etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", 1, 13, "Pauses of the store by compaction."},
	{"etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", 100, 14, "Compactions."},
	{"etcd_debugging_disk_backend_commit_rebalance_duration_seconds", 0.001, 14, "Rebalancing of pages."},
	{"etcd_debugging_disk_backend_commit_spill_duration_seconds", 0.001, 14, "Spilling of pages."},
	{"etcd_debugging_disk_backend_commit_write_duration_seconds", 0.001, 14, "Writing of pages."},
	{"etcd_debugging_snap_save_marshalling_duration_seconds", 0.001, 14, "Encoding of snapshot files."},
	{"etcd_debugging_snap_save_total_duration_seconds", 0.001, 14, "Saving of snapshot files."},
	{"etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds", 0.001, 14, "Sending of watch responses."},
	{"etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds", 0.001, 14, "Sending of watch events."},
	{"etcd_debugging_server_watch_send_loop_control_stream_duration_seconds", 0.001, 14, "Sending of answers to watch requests."},
	{"etcd_debugging_server_watch_send_loop_progress_duration_seconds", 0.001, 14, "Sending of progress notifications."},
}

// Describe implements prometheus.Collector. Naming nothing makes the registry check each scrape instead.
func (h *histograms) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (h *histograms) Collect(out chan<- prometheus.Metric) {
	m := h.m
	for _, used := range []struct {
		name string
		help string
		hist *Histogram
	}{
		{"etcd_disk_wal_fsync_duration_seconds", "Making the log durable.", m.Fsync},
		{"etcd_disk_wal_write_duration_seconds", "Writing to the log.", m.Write},
		{"etcd_disk_backend_commit_duration_seconds", "Committing a batch to the engine.", m.Commit},
		{"etcd_disk_backend_snapshot_duration_seconds", "Sending a snapshot to a client.", m.Save},
		{"etcd_mvcc_hash_duration_seconds", "Hashing the whole store.", m.Hash},
		{"etcd_mvcc_hash_rev_duration_seconds", "Hashing the store up to a revision.", m.HashKV},
		{"etcd_debugging_lease_ttl_total", "Granted TTLs, in seconds.", m.TTL},
	} {
		out <- used.hist.metric(desc(used.name, used.help))
	}
	for _, u := range unusedHistograms {
		out <- NewHistogram(u.start, 2, u.count).metric(desc(u.name, u.help))
	}
	m.Apply.collect(out, desc("etcd_server_apply_duration_seconds", "Applying a command: the time of its batch divided by the commands in it.", "version", "op", "success"),
		func(name string) []string { return []string{"v3", name} })
	m.Request.collect(out, desc("etcd_server_request_duration_seconds", "Answering a request.", "type", "success"),
		func(name string) []string { return []string{name} })
	m.Ranges.collect(out, desc("etcd_server_range_duration_seconds", "Answering a Range request.", "success"),
		func(string) []string { return nil })
}
