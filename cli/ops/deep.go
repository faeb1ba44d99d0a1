package ops

import (
	"strconv"
	"strings"
	"time"

	"quorate.dev/quorate/insight"
)

// deep adds what only doctor looks at. recent is what counters did in the window, by the members' ids.
func (b *book) deep(recent map[string]metrics) {
	for _, m := range b.c.Members {
		if m.State == nil || m.Web == nil {
			continue
		}
		if m.Web.Error != "" {
			b.add(Warn, "pages", m, "clients' HTTP may be on other addresses (--listen-client-http-urls), or a proxy is between", "its pages cannot be read, so that less is checked: %s", m.Web.Error)
			continue
		}
		if m.Web.refused != "" {
			b.add(Warn, "pages", m, "pass --user of somebody with the role root", "its report cannot be read, so that less is checked: %s", m.Web.refused)
		}
		b.disk(m, recent[m.ID])
		b.network(m, recent[m.ID])
		b.history(m)
		b.leftovers(m)
		b.files(m)
		b.flags(m)
		b.growth(m)
	}
	b.clocks()
	b.sameFlags()
}

// enough is how many observations of the window stand for themselves.
const enough = 20

// lately is a histogram of the window when there was enough in it, else since the start, and which it is.
func lately(m *Member, recent metrics, name, labels string) (h histogram, when string) {
	if h = recent.histogram(name, labels); h.count >= enough {
		return h, "in the last seconds"
	}
	return m.Web.metrics.histogram(name, labels), "since its start"
}

func (b *book) disk(m *Member, recent metrics) {
	if h, when := lately(m, recent, "etcd_disk_wal_fsync_duration_seconds", ""); h.count > 0 {
		p99 := h.quantile(0.99)
		do := "give the log a disk of its own (--wal-dir) that is fast to sync, such as local NVMe; look for neighbours that write to it. Kubernetes wants p99 under 10 ms"
		b.add(grade(p99, fsyncWarn*1.001, fsyncFail), "disk", m, do, "making the log durable takes up to %s at p99, %s (%s syncs)", seconds(p99), when, grouped(int64(h.count)))
	}
	if h, when := lately(m, recent, "etcd_disk_backend_commit_duration_seconds", ""); h.count > 0 {
		p99 := h.quantile(0.99)
		b.add(grade(p99, commitWarn*1.1, 1), "commit", m, "look at the disk and at the processor (doctor --data-dir on its machine)", "committing a batch takes up to %s at p99, %s", seconds(p99), when)
	}
	if n := recent.value("etcd_server_heartbeat_send_failures_total"); n > 0 {
		b.add(Warn, "heartbeats", m, "its machine or its disk is overloaded: look at both", "sent %s heartbeats too late in the last seconds", grouped(int64(n)))
	}
}

func (b *book) network(m *Member, recent metrics) {
	heartbeat := m.millis("heartbeat-interval")
	lost := false
	m.Web.metrics.labelled("etcd_network_active_peers", func(label func(string) string, v float64) {
		if v == 0 {
			lost = true
			b.add(Fail, "network", m, "look whether "+b.c.name(label("Remote"))+" runs, and whether its peer URL can be reached from this member's machine", "is not connected to %s", b.c.name(label("Remote")))
		}
	})
	for _, o := range b.c.Members {
		h, when := lately(m, recent, "etcd_network_peer_round_trip_time_seconds", `To="`+o.ID+`"`)
		if h.count == 0 || o == m {
			continue
		}
		p99 := h.quantile(0.99)
		bound := 0.1
		if heartbeat > 0 {
			bound = heartbeat.Seconds()
		}
		b.add(grade(p99, bound, 10*bound), "round-trip", m, "set --heartbeat-interval to about the round trip, and --election-timeout to ten times that, on all members; or find out what slows the network",
			"to %s up to %s at p99, %s; the heartbeat interval is %s", o.title(), seconds(p99), when, seconds(bound))
	}
	failures := 0.0
	for _, name := range []string{"etcd_network_peer_sent_failures_total", "etcd_network_peer_received_failures_total"} {
		failures += recent.sum(name)
	}
	if failures > 0 {
		b.add(Warn, "network", m, "look at its log for the peer, and at the network between them", "%s messages to or from other members were lost in the last seconds", grouped(int64(failures)))
	} else if !lost && len(b.c.Members) > 1 {
		b.add(Pass, "network", m, "", "is connected to all members, and loses nothing")
	}
	sending, receiving := m.Web.metrics.sum("etcd_network_snapshot_send_inflights_total"), m.Web.metrics.sum("etcd_network_snapshot_receive_inflights_total")
	if sending+receiving > 0 {
		b.add(Warn, "snapshots", m, "wait: a member was too far behind for the log. If it comes again and again, that member's disk or network is too slow", "%g snapshots to other members and %g from them are under way", sending, receiving)
	}
}

func (b *book) history(m *Member) {
	w := m.Web.metrics
	if !w.has("etcd_debugging_mvcc_current_revision") {
		return
	}
	retained := w.value("etcd_debugging_mvcc_current_revision") - max(0, w.value("etcd_debugging_mvcc_compact_revision"))
	level := Pass
	if retained > max(retainedWarn, 2*w.value("etcd_debugging_mvcc_keys_total")) {
		level = Warn
	}
	b.add(level, "history", m, "compact, and have it done by itself: --auto-compaction-mode=periodic --auto-compaction-retention=1h (Kubernetes' API server does it every 5 minutes)",
		"%s revisions are retained for %s keys", grouped(int64(retained)), grouped(int64(w.value("etcd_debugging_mvcc_keys_total"))))
}

func (b *book) leftovers(m *Member) {
	s := m.State
	free := s.Size - s.InUse
	part := 0.0
	if s.Size > 0 {
		part = float64(free) / float64(s.Size)
	}
	level, own := Pass, m.Web.Own != ""
	if part > leftoverPart && free > leftoverBytes && !own {
		level = Warn
	}
	what := "of it free, which a defrag gives back"
	if own {
		what = "of it free, which comes back by itself"
	}
	b.add(level, "leftovers", m, "defragment this member when it is not the leader and traffic is low: etcdctl defrag --endpoints="+m.Endpoint, "%s on disk, %s %s", size(float64(s.Size)), size(float64(max(0, free))), what)
}

func (b *book) files(m *Member) {
	w := m.Web.metrics
	used, limit := w.value("os_fd_used"), w.value("os_fd_limit")
	if limit == 0 {
		used, limit = w.value("process_open_fds"), w.value("process_max_fds")
	}
	if limit == 0 {
		return
	}
	level := grade(used/limit, filesWarn, 0.95)
	if limit < filesFew && level == Pass {
		level = Warn
	}
	b.add(level, "open-files", m, "raise the limit of open files: LimitNOFILE=65536 in its systemd unit, or ulimit -n", "%s of %s open files used", grouped(int64(used)), grouped(int64(limit)))
}

// millis is a setting in milliseconds, 0 when it is not known.
func (m *Member) millis(name string) time.Duration {
	if m.Web == nil || m.Web.report == nil {
		return 0
	}
	s, _ := m.Web.report.Setting(name)
	n, err := strconv.ParseInt(s.Value, 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Millisecond
}

func (b *book) flags(m *Member) {
	r := m.Web.report
	if r == nil {
		return
	}
	value := func(name string) string { s, _ := r.Setting(name); return s.Value }
	wrong := len(b.all)
	if heartbeat, election := m.millis("heartbeat-interval"), m.millis("election-timeout"); heartbeat > 0 {
		ratio := float64(election) / float64(heartbeat)
		if ratio < electionLow {
			b.add(grade(electionLow-ratio, 0, electionLow-electionFew+1), "settings", m, "set --election-timeout to ten times --heartbeat-interval, on all members", "--election-timeout %s is only %.1f heartbeats of %s", election, ratio, heartbeat)
		}
	}
	for _, risky := range []struct{ name, value, why, do string }{
		{"unsafe-no-fsync", "true", "what was acknowledged is lost when the machine stops", "take it away and restart"},
		{"force-new-cluster", "true", "the next start throws the other members out again", "take it away before the next restart"},
		{"strict-reconfig-check", "false", "a change of members may cost the quorum", "take it away and restart"},
		{"pre-vote", "false", "a member that comes back disturbs the leader", "take it away and restart"},
	} {
		if value(risky.name) == risky.value {
			level := Warn
			if risky.name == "unsafe-no-fsync" {
				level = Fail
			}
			b.add(level, "settings", m, risky.do, "--%s=%s: %s", risky.name, risky.value, risky.why)
		}
	}
	if v := value("auto-compaction-retention"); v == "0" || v == "" {
		b.add(Warn, "settings", m, "set --auto-compaction-mode=periodic --auto-compaction-retention=1h, unless every client compacts by itself, as Kubernetes' API server does", "--auto-compaction-retention is off: history is kept until somebody compacts")
	}
	for _, s := range r.Settings {
		if s.State != "" && s.Origin != "default" {
			b.add(Warn, "settings", m, "take it away", "--%s=%s is %s: %s", s.Name, s.Value, s.State, s.Why)
		}
	}
	if m.State.Quota > quotaLarge && m.Web.Own == "" {
		b.add(Warn, "settings", m, "lower --quota-backend-bytes", "the quota is %s, and etcd supports up to 8 GiB", size(float64(m.State.Quota)))
	}
	if len(b.all) == wrong {
		b.add(Pass, "settings", m, "", "nothing risky or ignored is set")
	}
}

// growth is how fast the data grows, by the sizes that the member remembers.
func (b *book) growth(m *Member) {
	r := m.Web.report
	if r == nil || m.State.Quota <= 0 || len(r.Sizes) == 0 {
		return
	}
	first, used := r.Sizes[0], m.State.InUse
	took := b.now.Sub(time.Unix(first.Time, 0))
	if took < 10*time.Minute {
		return // too short to say anything
	}
	perHour := float64(used-first.Retained) / took.Hours()
	if perHour <= 0 {
		b.add(Pass, "growth", m, "", "the data has not grown in %s", span(took))
		return
	}
	left := float64(m.State.Quota-used) / perHour
	level := Pass
	if left < growthSoon.Hours() {
		level = Warn
	}
	if left < 1 {
		level = Fail
	}
	b.add(level, "growth", m, "see what grows: quorate du, twice; compact, or raise --quota-backend-bytes", "grew by %s an hour over %s: the quota is full in %.0f h", size(perHour), span(took), left)
}

// clocks compares the members' clocks.
func (b *book) clocks() {
	var low, high *Member
	for _, m := range b.c.Members {
		if m.Web == nil || m.Web.Clock == nil {
			continue
		}
		if low == nil || m.Web.Clock.Ahead < low.Web.Clock.Ahead {
			low = m
		}
		if high == nil || m.Web.Clock.Ahead > high.Web.Clock.Ahead {
			high = m
		}
	}
	if low == nil || low == high {
		return
	}
	apart := high.Web.Clock.Ahead - low.Web.Clock.Ahead
	bound := high.Web.Clock.Bound + low.Web.Clock.Bound
	certain := max(0, apart-bound)
	b.add(grade(certain, clockWarn, clockFail), "clocks", nil, "run a time service (chrony, systemd-timesyncd) on all machines; certificates and tokens count by the clock",
		"the clock of %s is ahead of that of %s by %s, give or take %s", high.title(), low.title(), seconds(max(0, apart)), seconds(bound))
}

// same are the settings that should be the same on all members.
var same = []string{"heartbeat-interval", "election-timeout", "quota-backend-bytes", "auto-compaction-mode", "auto-compaction-retention", "max-request-bytes", "max-txn-ops", "auth-token", "client-cert-auth", "peer-client-cert-auth"}

func (b *book) sameFlags() {
	reports := map[*Member]*insight.Report{}
	for _, m := range b.c.Members {
		if m.Web != nil && m.Web.report != nil {
			reports[m] = m.Web.report
		}
	}
	if len(reports) < 2 {
		return
	}
	differ := false
	for _, name := range same {
		var said []string
		seen := map[string]bool{}
		for _, m := range b.c.Members {
			if r := reports[m]; r != nil {
				s, _ := r.Setting(name)
				seen[s.Value] = true
				said = append(said, m.title()+" "+s.Value)
			}
		}
		if len(seen) > 1 {
			differ = true
			b.add(Warn, "same-settings", nil, "give all members the same value", "--%s differs: %s", name, strings.Join(said, ", "))
		}
	}
	if !differ {
		b.add(Pass, "same-settings", nil, "", "members agree on the %d settings that matter to all", len(same))
	}
}
