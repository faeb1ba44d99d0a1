package httpapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"quorate.dev/quorate/rpc"
)

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("scrape: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
}

// expected are the metrics that a fresh single member of etcd v3.7 shows, with their types.
const expected = `
etcd_server_has_leader gauge
etcd_server_is_leader gauge
etcd_server_is_learner gauge
etcd_server_leader_changes_seen_total counter
etcd_server_learner_promote_successes counter
etcd_server_heartbeat_send_failures_total counter
etcd_server_proposals_applied_total gauge
etcd_server_proposals_committed_total gauge
etcd_server_proposals_pending gauge
etcd_server_proposals_failed_total counter
etcd_server_slow_apply_total counter
etcd_server_slow_read_indexes_total counter
etcd_server_read_indexes_failed_total counter
etcd_server_quota_backend_bytes gauge
etcd_server_snapshot_apply_in_progress_total gauge
etcd_server_health_success counter
etcd_server_health_failures counter
etcd_server_version gauge
etcd_server_go_version gauge
etcd_server_id gauge
etcd_server_feature_enabled gauge
etcd_cluster_version gauge
etcd_network_client_grpc_sent_bytes_total counter
etcd_network_client_grpc_received_bytes_total counter
etcd_disk_wal_fsync_duration_seconds histogram
etcd_disk_wal_write_duration_seconds histogram
etcd_disk_wal_write_bytes_total gauge
etcd_disk_backend_commit_duration_seconds histogram
etcd_disk_backend_defrag_duration_seconds histogram
etcd_disk_backend_snapshot_duration_seconds histogram
etcd_disk_defrag_inflight gauge
etcd_snap_fsync_duration_seconds histogram
etcd_snap_db_fsync_duration_seconds histogram
etcd_snap_db_save_total_duration_seconds histogram
etcd_mvcc_range_total counter
etcd_mvcc_put_total counter
etcd_mvcc_delete_total counter
etcd_mvcc_txn_total counter
etcd_mvcc_db_total_size_in_bytes gauge
etcd_mvcc_db_total_size_in_use_in_bytes gauge
etcd_mvcc_db_open_read_transactions gauge
etcd_mvcc_hash_duration_seconds histogram
etcd_mvcc_hash_rev_duration_seconds histogram
etcd_debugging_auth_revision gauge
etcd_debugging_mvcc_keys_total gauge
etcd_debugging_mvcc_current_revision gauge
etcd_debugging_mvcc_compact_revision gauge
etcd_debugging_mvcc_watch_stream_total gauge
etcd_debugging_mvcc_watcher_total gauge
etcd_debugging_mvcc_slow_watcher_total gauge
etcd_debugging_mvcc_pending_events_total gauge
etcd_debugging_mvcc_events_total counter
etcd_debugging_mvcc_total_put_size_in_bytes gauge
etcd_debugging_mvcc_db_compaction_last gauge
etcd_debugging_mvcc_db_compaction_keys_total counter
etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds histogram
etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds histogram
etcd_debugging_mvcc_db_compaction_total_duration_milliseconds histogram
etcd_debugging_lease_granted_total counter
etcd_debugging_lease_revoked_total counter
etcd_debugging_lease_renewed_total counter
etcd_debugging_lease_ttl_total histogram
etcd_debugging_server_lease_expired_total counter
grpc_server_started_total counter
grpc_server_msg_received_total counter
grpc_server_msg_sent_total counter
grpc_server_handled_total counter
os_fd_limit gauge
os_fd_used gauge
process_resident_memory_bytes gauge
go_goroutines gauge
go_gc_gogc_percent gauge
go_sched_gomaxprocs_threads gauge
promhttp_metric_handler_requests_total counter
promhttp_metric_handler_requests_in_flight gauge
`

// TestNames checks names and types of everything that dashboards and alerts use.
func TestNames(t *testing.T) {
	m := NewMetrics(MetricsConfig{
		Read: func() Sample { return Sample{ClusterVersion: "3.7.0"} }, EtcdVersion: "3.7.3", ServerID: "8e9e05c52164694d",
		Methods:  []Method{{"/etcdserverpb.KV/Range", Unary}, {"/etcdserverpb.Watch/Watch", BidiStream}},
		Features: []Feature{{"FastLeaseKeepAlive", "BETA", true}},
	})
	New(Config{Member: &fakeMember{}, Metrics: m})
	text := scrape(t, m)
	for _, line := range strings.Split(strings.TrimSpace(expected), "\n") {
		if !strings.Contains(text, "\n# TYPE "+line+"\n") {
			t.Errorf("no metric %q", line)
		}
	}
	wantLines(t, text,
		`etcd_server_version{server_version="3.7.3"} 1`, `etcd_cluster_version{cluster_version="3.7.0"} 1`,
		`etcd_server_id{server_id="8e9e05c52164694d"} 1`, `etcd_server_feature_enabled{name="FastLeaseKeepAlive",stage="BETA"} 1`,
		`grpc_server_handled_total{grpc_code="DataLoss",grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 0`,
		`etcd_disk_wal_fsync_duration_seconds_bucket{le="8.192"} 0`)
}

// TestCounts follows calls, batches and a sample into the text of a scrape.
func TestCounts(t *testing.T) {
	m := NewMetrics(MetricsConfig{NoProcessInfo: true, Extensive: true, Operations: []string{"Put"},
		Read: func() Sample {
			return Sample{Raft: RaftSample{HasLeader: true, Applied: 7}, Store: StoreSample{Revision: 5}, Alarms: []AlarmSample{{"1f", "NOSPACE"}}}
		},
		Methods: []Method{{"/etcdserverpb.KV/Range", Unary}, {"/etcdserverpb.KV/Put", Unary}}})
	var observer rpc.Observer = m.RPC
	observer.Started("/etcdserverpb.KV/Put", false)
	observer.MessageReceived("/etcdserverpb.KV/Put")
	observer.Handled("/etcdserverpb.KV/Put", rpc.ResourceExhausted, 3*time.Millisecond)
	observer.Started("/etcdserverpb.KV/Range", false)
	observer.MessageSent("/etcdserverpb.KV/Range")
	observer.Handled("/etcdserverpb.KV/Range", rpc.OK, time.Millisecond)
	observer.Handled("/none/of/ours", rpc.OK, 0)
	observer.Handled("/etcdserverpb.KV/Range", 99, time.Millisecond)
	observer.Bytes(100, 11)
	m.Apply.Find("Put")[1].ObserveMany(300*time.Microsecond, 4)
	m.Fsync.Observe(time.Hour)
	wantLines(t, scrape(t, m),
		`grpc_server_started_total{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`,
		`grpc_server_handled_total{grpc_code="ResourceExhausted",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`,
		`grpc_server_handled_total{grpc_code="Unknown",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`,
		`grpc_server_msg_sent_total{grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`,
		`grpc_server_handling_seconds_bucket{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary",le="0.005"} 1`,
		`etcd_network_client_grpc_received_bytes_total 100`, `etcd_network_client_grpc_sent_bytes_total 11`, `etcd_mvcc_range_total 1`,
		`etcd_server_request_duration_seconds_bucket{success="false",type="Put",le="0.002"} 0`,
		`etcd_server_request_duration_seconds_bucket{success="false",type="Put",le="0.004"} 1`,
		`etcd_server_range_duration_seconds_count{success="true"} 1`,
		`etcd_server_apply_duration_seconds_bucket{op="Put",success="true",version="v3",le="0.0002"} 0`,
		`etcd_server_apply_duration_seconds_bucket{op="Put",success="true",version="v3",le="0.0004"} 4`,
		`etcd_disk_wal_fsync_duration_seconds_bucket{le="8.192"} 0`, `etcd_disk_wal_fsync_duration_seconds_bucket{le="+Inf"} 1`,
		`etcd_disk_wal_fsync_duration_seconds_sum 3600`,
		`etcd_server_has_leader 1`, `etcd_server_proposals_applied_total 7`, `etcd_debugging_mvcc_current_revision 5`,
		`etcd_debugging_server_alarms{alarm_type="NOSPACE",server_id="1f"} 1`)
}

// TestCountingAllocatesNothing holds for every counter on the path of a call.
func TestCountingAllocatesNothing(t *testing.T) {
	m := NewMetrics(MetricsConfig{Methods: []Method{{"/etcdserverpb.KV/Range", Unary}}, Extensive: true, Read: func() Sample { return Sample{} }})
	const method = "/etcdserverpb.KV/Range"
	if n := testing.AllocsPerRun(100, func() {
		m.RPC.Started(method, false)
		m.RPC.MessageReceived(method)
		m.RPC.MessageSent(method)
		m.RPC.Bytes(1, 1)
		m.RPC.Handled(method, rpc.OK, time.Second)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestHistogramConcurrently checks that no observation and no part of the sum is lost.
func TestHistogramConcurrently(t *testing.T) {
	h := NewHistogram(0.001, 2, 4)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				h.ObserveMany(time.Second, 2)
			}
		})
	}
	wg.Wait()
	if n := h.count(); n != 8000 {
		t.Errorf("count %d", n)
	}
	m := NewMetrics(MetricsConfig{NoProcessInfo: true, Read: func() Sample { return Sample{} }})
	m.Fsync = h
	wantLines(t, scrape(t, m), "etcd_disk_wal_fsync_duration_seconds_sum 8000")
}

// TestPeers follows what is known of another member into the text of a scrape.
func TestPeers(t *testing.T) {
	m := NewMetrics(MetricsConfig{NoProcessInfo: true, ServerID: "1f", Read: func() Sample {
		return Sample{
			Raft:  RaftSample{LateHeartbeats: 3, Promotions: 2, PromotionsRefused: map[string]uint64{"not ready": 4}},
			Peers: []PeerSample{{ID: "2f", Active: true, SentBytes: 5, SnapshotsSending: 1}, {ID: "3f", Disconnects: 6, ReceivedBytes: 7, SnapshotReceiveFailures: 8}},
		}
	}})
	m.Peers.RoundTrips.Observe("2f", 300*time.Microsecond)
	m.Peers.SnapshotsSent.Observe("2f", time.Second)
	text := scrape(t, m)
	wantLines(t, text,
		`etcd_server_heartbeat_send_failures_total 3`, `etcd_server_learner_promote_successes 2`, `etcd_server_learner_promote_failures{Reason="not ready"} 4`,
		`etcd_network_active_peers{Local="1f",Remote="2f"} 1`, `etcd_network_active_peers{Local="1f",Remote="3f"} 0`,
		`etcd_network_disconnected_peers_total{Local="1f",Remote="3f"} 6`,
		`etcd_network_peer_sent_bytes_total{To="2f"} 5`, `etcd_network_peer_sent_bytes_total{To="3f"} 0`, `etcd_network_peer_received_bytes_total{From="3f"} 7`,
		`etcd_network_snapshot_send_inflights_total{To="2f"} 1`, `etcd_network_snapshot_receive_failures{From="3f"} 8`,
		`etcd_network_peer_round_trip_time_seconds_bucket{To="2f",le="0.0002"} 0`, `etcd_network_peer_round_trip_time_seconds_bucket{To="2f",le="0.0004"} 1`,
		`etcd_network_snapshot_send_total_duration_seconds_sum{To="2f"} 1`)
	if strings.Contains(text, "sent_failures") {
		t.Error("series of what has not happened")
	}
}
