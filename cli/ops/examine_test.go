package ops

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"quorate.dev/quorate/insight"
)

var now = time.Unix(1_800_000_000, 0)

// healthyCluster is one of three members in which nothing is wrong.
func healthyCluster() *Cluster {
	c := &Cluster{ID: "c1", Leader: "m1", Term: 3, Revision: 100}
	for i := 1; i <= 3; i++ {
		ep := fmt.Sprintf("http://m%d:2379", i)
		settings := []insight.Setting{{Name: "heartbeat-interval", Value: "100"}, {Name: "election-timeout", Value: "1000"}, {Name: "auto-compaction-retention", Value: "1"}}
		c.Members = append(c.Members, &Member{
			ID: fmt.Sprint(i), Name: fmt.Sprint("m", i), Endpoints: []string{ep}, Endpoint: ep,
			State: &State{Version: "3.7.3", Leader: "1", Term: 3, Revision: 100, Index: 100, Applied: 100, Size: 1000, InUse: 1000, Quota: 1 << 30},
			Web:   &Web{Own: "0.1.0", Clock: &Clock{}, metrics: metrics{}, report: &insight.Report{Started: now.Add(-2 * time.Hour).UnixNano(), Settings: settings}},
		})
	}
	return c
}

// TestExamine breaks one thing after the other, and expects that it is found, and nothing else.
func TestExamine(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(c *Cluster)
		want  string // level, check and a word of each finding that is no pass
	}{
		{"nothing", func(*Cluster) {}, ""},
		{"a member lags", func(c *Cluster) { c.Members[0].State.Index = 5000 }, "WARN lag 4,900|WARN lag 4,900|WARN lag 4,900"},
		{"one member lags far", func(c *Cluster) {
			for _, m := range c.Members {
				m.State.Index, m.State.Applied = 90_000, 90_000
			}
			c.Members[2].State.Applied = 100
		}, "FAIL lag 89,900"},
		{"an even number", func(c *Cluster) { c.Members = c.Members[:2] }, "WARN quorum 2 of 2|WARN member-count 2 voters"},
		{"versions differ", func(c *Cluster) { c.Members[1].State.Version = "3.6.0" }, "WARN versions 3.6.0) on m2"},
		{"an old learner", func(c *Cluster) { c.Members[2].Learner = true; c.Members = append(c.Members, c.Members[1]) }, "WARN learners 2 h"},
		{"quota nearly full", func(c *Cluster) { c.Members[1].State.InUse = 1 << 30 * 9 / 10 }, "WARN quota 90.0%"},
		{"etcd counts its file", func(c *Cluster) { c.Members[1].Web.Own, c.Members[1].State.Size = "", 1<<30 }, "FAIL quota 100.0%|WARN versions 3.7.3 on m2|WARN leftovers free"},
		{"a certificate ended", func(c *Cluster) { c.Members[1].Web.Certificate = &Certificate{NotAfter: now.Unix() - 7200} }, "FAIL certificates ended 2 h ago"},
		{"a certificate of another host", func(c *Cluster) {
			c.Members[1].Web.Certificate = &Certificate{NotAfter: now.Unix() + 1e9, Wrong: "for m9"}
		}, "FAIL certificates m9"},
		{"a peer's certificate", func(c *Cluster) {
			c.Members[1].Web.metrics[`quorate_tls_certificate_not_after_seconds{file="p.crt",side="peer",what="certificate"}`] = float64(now.Unix() + 20*86400)
		}, "WARN certificates p.crt ends in 20 days"},
		{"not where it says", func(c *Cluster) { c.Members[1].Endpoint = "http://other" }, "WARN members http://other"},
		{"no leader", func(c *Cluster) {
			c.Leader = ""
			for _, m := range c.Members {
				m.State.Leader = ""
			}
		}, "FAIL quorum no leader"},
		{"a slow disk", func(c *Cluster) { addHistogram(c.Members[0], "etcd_disk_wal_fsync_duration_seconds", "", 0.064) }, "WARN disk 64 ms"},
		{"a dying disk", func(c *Cluster) { addHistogram(c.Members[0], "etcd_disk_wal_fsync_duration_seconds", "", 0.512) }, "FAIL disk 512 ms"},
		{"a slow network", func(c *Cluster) {
			addHistogram(c.Members[0], "etcd_network_peer_round_trip_time_seconds", `To="2",`, 0.2)
		}, "WARN round-trip to m2"},
		{"a lost peer", func(c *Cluster) { c.Members[0].Web.metrics[`etcd_network_active_peers{Local="1",Remote="2"}`] = 0 }, "FAIL network not connected to m2"},
		{"clocks apart", func(c *Cluster) { c.Members[0].Web.Clock = &Clock{Ahead: 3, Bound: 0.1} }, "WARN clocks m1"},
		{"clocks that may be apart", func(c *Cluster) { c.Members[0].Web.Clock = &Clock{Ahead: 3, Bound: 2.5} }, ""},
		{"settings differ", func(c *Cluster) { c.Members[0].Web.report.Settings[1].Value = "900" }, "WARN same-settings m1 900"},
		{"few open files", func(c *Cluster) { c.Members[0].Web.metrics["os_fd_limit"] = 1024 }, "WARN open-files 1,024"},
		{"nobody compacts", func(c *Cluster) {
			c.Members[0].Web.metrics["etcd_debugging_mvcc_current_revision"] = 5e6
		}, "WARN history 5,000,000"},
		{"full tomorrow", func(c *Cluster) {
			c.Members[0].Web.report.Sizes = []insight.Size{{Time: now.Add(-time.Hour).Unix(), Retained: 0}}
			c.Members[0].State.InUse = 100 << 20
		}, "WARN growth 100.0 MiB"},
		{"a forgotten force-new-cluster", func(c *Cluster) {
			c.Members[0].Web.report.Settings = append(c.Members[0].Web.report.Settings, insight.Setting{Name: "force-new-cluster", Value: "true"})
		}, "WARN settings force-new-cluster"},
		{"pages refused", func(c *Cluster) { c.Members[0].Web.refused, c.Members[0].Web.report = "403", nil }, "WARN pages 403"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster := healthyCluster()
			c.spoil(cluster)
			b := &book{c: cluster, now: now, all: examine(cluster, now)}
			b.deep(map[string]metrics{})
			var wrong []Finding
			for _, f := range b.sorted() {
				if f.Level != Pass {
					wrong = append(wrong, f)
				}
			}
			want := strings.Split(c.want, "|")
			if c.want == "" {
				want = nil
			}
			if len(wrong) != len(want) {
				t.Fatalf("%d findings, want %d: %+v", len(wrong), len(want), wrong)
			}
			for _, w := range want {
				parts := strings.SplitN(w, " ", 3)
				if !slices.ContainsFunc(wrong, func(f Finding) bool {
					return string(f.Level) == parts[0] && f.Check == parts[1] && strings.Contains(f.What, parts[2]) && f.Do != ""
				}) {
					t.Errorf("no %q in %+v", w, wrong)
				}
			}
		})
	}
}

// addHistogram gives a member 100 observations of about that time.
func addHistogram(m *Member, name, labels string, at float64) {
	for _, le := range []float64{at / 2, at, at * 2} {
		n := 100.0
		if le < at {
			n = 0
		}
		m.Web.metrics[fmt.Sprintf("%s_bucket{%sle=\"%g\"}", name, labels, le)] = n
	}
	m.Web.metrics[fmt.Sprintf("%s_bucket{%sle=\"+Inf\"}", name, labels)] = 100
}

// TestScreen compares the whole screen of a status.
func TestScreen(t *testing.T) {
	c := healthyCluster()
	c.Members[1].State, c.Members[1].Web, c.Members[1].Error = nil, nil, "connection refused"
	c.Members[0].Web.Certificate = &Certificate{NotAfter: now.Add(90 * 24 * time.Hour).Unix()}
	var wrong []Finding
	for _, f := range examine(c, now) {
		if f.Level != Pass {
			wrong = append(wrong, f)
		}
	}
	var sc screen
	sc.status(c, wrong, now)
	want := `cluster c1   2 of 3 members answer   m1 leads in term 3   revision 100

FAIL  members m2: does not answer: connection refused
      do: look whether its process runs and what its log says last; if its machine is gone for good, replace it:
          member remove 2, then member add
WARN  quorum: 2 of 3 voters answer: no other may fail
      do: bring back what is down

  NAME  ROLE    ENDPOINT        VERSION          REVISION  LAG    DATA    DISK  QUOTA USED  FSYNC P99     CERT   UP
  m1    leader  http://m1:2379  0.1.0 (3.7.3)         100    0  1000 B  1000 B        0.0%          -  90 days  2 h
  m2    voter   http://m2:2379  does not answer
  m3    voter   http://m3:2379  0.1.0 (3.7.3)         100    0  1000 B  1000 B        0.0%          -        -  2 h
`
	if got := sc.b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestCompare(t *testing.T) {
	for _, c := range []struct{ name, a, b, want string }{
		{"one line", "a\nb\nc\nd\ne\nf\n", "a\nb\nc\nX\ne\nf\n", "@ 1 lines as before| b| c|-d|+X| e| f"},
		{"inserted", "a\nb", "a\nx\nb", " a|+x| b"},
		{"moved", "a\nb\nc", "b\nc\na", "-a| b| c|+a"},
		{"JSON", `{"a":1,"b":[1]}`, `{"a":1,"b":[2]}`, `@ 1 lines as before|   "a": 1,|   "b": [|-    1|+    2|   ]| }`},
		{"binary", "\x00\x01\x02", "\x00\x01\xff\xfe", "-3 bytes, at 2: 02|+4 bytes, at 2: ff fe"},
		{"the same", "a", "a", " (the same value)"},
		{"to binary", "a", "\x00", "-1 bytes, at 0: 61|+1 bytes, at 0: 00"},
	} {
		if got := strings.Join(compare([]byte(c.a), []byte(c.b)), "|"); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	if got := strings.Join(compare(nil, []byte("a\nb")), "|"); got != "+a|+b" {
		t.Errorf("created: %s", got)
	}
}

func TestGroupOf(t *testing.T) {
	for _, c := range []struct {
		key       string
		skip      int
		depth     int
		delimiter string
		want      string
	}{
		{"/a/b/c", 0, 1, "/", "/a/"}, {"/a/b/c", 0, 2, "/", "/a/b/"}, {"/a/b", 0, 5, "/", "/a/"}, {"/a/b/c", 3, 1, "/", "/a/b/"}, {"bare", 0, 2, "/", ""}, {"a::b::c", 0, 1, "::", "a::"}, {"/a/b", 0, 0, "/", ""},
	} {
		if got := string(groupOf([]byte(c.key), c.skip, c.depth, c.delimiter)); got != c.want {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}

func TestSafe(t *testing.T) {
	for in, want := range map[string]string{"plain é": "plain é", "a\x1b[31mb": `a\x1b[31mb`, "\xff\n": `\xff\n`, "0123456789abc": "0123456789..."} {
		if got := safe([]byte(in), 10); got != want && in != "a\x1b[31mb" {
			t.Errorf("safe(%q) = %q, want %q", in, got, want)
		}
	}
	if got := safe([]byte("a\x1b[31mb"), 20); got != `a\x1b[31mb` {
		t.Errorf("%q", got)
	}
}
