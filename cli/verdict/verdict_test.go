package verdict

import (
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	idle := Server{Name: "m1", Busy: 0.2, Syncing: 0.1, Sync: 0.0001, SyncP99: 0.001, RoundTrip: 0.0002}
	with := func(edit func(*Server)) []Server { s := idle; edit(&s); return []Server{idle, s} }
	for _, c := range []struct {
		name, limit, says string
		m                 Measured
	}{
		{"errors", Errors, "5.0%", Measured{Writes: true, Rate: 10, ErrorPart: 0.05, ClientBusy: 1}},
		{"kept up", Nothing, "1,000/s", Measured{Asked: 1000, Rate: 990, ClientBusy: 0.9}},
		{"client", Client, "90%", Measured{Rate: 990, ClientBusy: 0.9, Servers: with(func(s *Server) { s.Busy = 0.9 })}},
		{"cpu", CPU, "85%", Measured{Rate: 990, ClientBusy: 0.1, Servers: with(func(s *Server) { s.Busy = 0.85 })}},
		{"slow syncs", Disk, "6 ms on m1, up to 8 ms", Measured{Writes: true, Rate: 100, Clients: 1, Mean: 0.01, ClientBusy: Unknown, Servers: with(func(s *Server) { s.Sync, s.SyncP99 = 0.006, 0.008 })}},
		{"a busy disk", Disk, "75% of the time", Measured{Writes: true, Rate: 10000, Clients: 1000, Mean: 0.1, Servers: with(func(s *Server) { s.Syncing = 0.75 })}},
		{"reads do not sync", Waiting, "nothing", Measured{Rate: 10000, Clients: 1000, Mean: 0.1, Servers: with(func(s *Server) { s.Syncing = 0.75 })}},
		{"far away", Network, "20 ms", Measured{Writes: true, Rate: 100, Clients: 3, Mean: 0.03, Servers: with(func(s *Server) { s.RoundTrip = 0.02 })}},
		{"too few clients", Waiting, "3 operations at once, each of 30 ms", Measured{Writes: true, Rate: 100, Clients: 3, Mean: 0.03, Servers: []Server{idle}}},
		{"nothing known", Waiting, "nothing that was measured", Measured{Asked: 1000, Rate: 100, ClientBusy: Unknown, Servers: []Server{{Name: "x", Busy: Unknown, Syncing: Unknown, Sync: Unknown, SyncP99: Unknown, RoundTrip: Unknown}}}},
	} {
		v := Of(c.m)
		if v.Limit != c.limit || !strings.Contains(v.Why, c.says) || v.Do == "" {
			t.Errorf("%s: %+v", c.name, v)
		}
		if (v.Kubernetes != "") != c.m.Writes {
			t.Errorf("%s: of Kubernetes %q", c.name, v.Kubernetes)
		}
		if text := strings.Join(strings.Fields(v.Text()), " "); !strings.Contains(text, v.Why) || !strings.Contains(text, v.Do) {
			t.Errorf("%s: %s", c.name, text)
		}
	}
}

func TestKubernetes(t *testing.T) {
	for _, c := range []struct {
		rate, p99, sync float64
		want            string
	}{
		{100, 0.01, 0.001, "100 writes/s: less than the 200/s of a small cluster (50 nodes) in etcd's advice for hardware"},
		{999, 0.01, 0.001, "999 writes/s: enough for a small cluster (200/s, 50 nodes) in etcd's advice for hardware; a medium one asks for 1,000/s"},
		{20000, 2, 0.032, "20,000 writes/s: enough for a large cluster (10,000/s, 1000 nodes) in etcd's advice for hardware; but p99 is 2.0 s, and the API server's calls are to be answered within a second; and the disk of m1 needs up to 32 ms at p99 where at most 10 ms are advised"},
	} {
		if got := kubernetes(&Measured{Rate: c.rate, P99: c.p99, Servers: []Server{{Name: "m1", SyncP99: c.sync}}}); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}
