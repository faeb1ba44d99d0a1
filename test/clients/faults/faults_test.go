// Package faults lets members fall silent instead of ending: clients have to find out by themselves, which takes them their
// keep-alive, 12 seconds here as usual, so that these tests take minutes.
package faults

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/ordering"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/health" // so that clients can watch the health of members
	"google.golang.org/grpc/health/grpc_health_v1"

	"quorate.dev/quorate/test/clients/site"
	"quorate.dev/quorate/test/cluster"
	"quorate.dev/quorate/test/cluster/faults"
	"quorate.dev/quorate/test/compat/proc"
)

func TestMain(m *testing.M) {
	code := m.Run()
	proc.Cleanup()
	os.Exit(code)
}

// answer is how long a client waits for a write: one that a silent member took is lost until then.
const answer = 3 * time.Second

// parted is a site whose members can be parted from each other and from what comes from outside.
func parted(t *testing.T, way site.Way) (*site.Site, *faults.Network) {
	t.Helper()
	c, err := cluster.New(site.Kind(), t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	n, err := faults.Between(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return site.StartCluster(t, way, c, n.Endpoints()...), n
}

// checked ends the load, tolerates writes that a silent member took, and compares what was seen with the history.
func checked(t *testing.T, l *site.Load) {
	t.Helper()
	_, reads := l.Stop()
	for _, err := range reads {
		t.Errorf("a read failed: %v", err)
	}
	l.Check(t)
}

// TestPaused stops every member's process for a while, as a hypervisor does.
func TestPaused(t *testing.T) {
	site.Each(t, func(t *testing.T, s *site.Site) {
		l := site.Drive(t, s, answer)
		l.Goes(t)
		for _, m := range s.Members {
			if err := m.Pause(); err != nil {
				t.Fatal(err)
			}
			l.Goes(t)
			if err := m.Resume(); err != nil {
				t.Fatal(err)
			}
			l.Goes(t)
		}
		renewed := l.Renewed()
		site.Until(t, "the lasting lease is renewed by itself", func() bool { return l.Renewed() > renewed })
		checked(t, l)
	})
}

// TestPartedFromClients: connections to one member after the other say nothing any more.
func TestPartedFromClients(t *testing.T) {
	for _, way := range site.Ways() {
		t.Run(string(way), func(t *testing.T) {
			s, n := parted(t, way) // one at a time: the addresses behind proxies belong to this process
			l := site.Drive(t, s, answer)
			l.Goes(t)
			for _, m := range s.Members {
				n.PartFromClients(m)
				l.Goes(t)
				n.Heal()
				l.Goes(t)
			}
			checked(t, l)
		})
	}
}

// TestPartedFromMembers: a member that the others have lost goes on to talk to its clients, and has nothing to say. What requires a
// leader goes on elsewhere; nobody is told anything that is not so.
func TestPartedFromMembers(t *testing.T) {
	for _, way := range site.Ways() {
		t.Run(string(way), func(t *testing.T) {
			s, n := parted(t, way) // one at a time: the addresses behind proxies belong to this process
			l := site.Drive(t, s, answer)
			l.Goes(t)
			for range 2 {
				m := s.AwaitLeader(t)
				n.PartFromMembers(m)
				site.Until(t, "the others have a leader", func() bool {
					leader, err := s.Leader(t.Context())
					return err == nil && leader != m
				})
				n.Heal()
				l.Goes(t)
			}
			l.Check(t)
		})
	}
}

// healthy makes a client ask members whether they serve, and leave those alone that do not.
func healthy(cfg *clientv3.Config) {
	cfg.DialOptions = append(cfg.DialOptions, grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{"serviceName":""}}`))
}

// TestHealth: a client that watches the members' health gets no request to a member that has no leader, though its connection is
// good. It is told so by the member itself, without a request that fails first.
func TestHealth(t *testing.T) {
	if site.Kind() == proc.Etcd {
		t.Skip("etcd says SERVING whatever happens")
	}
	s, n := parted(t, site.Direct)
	cut := s.AwaitLeader(t)
	cli := s.Client(t, healthy)
	if _, err := cli.Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	n.PartFromMembers(cut)
	service := grpc_health_v1.NewHealthClient(s.At(t, cut).ActiveConnection())
	status := func() grpc_health_v1.HealthCheckResponse_ServingStatus {
		resp, err := service.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return resp.Status
	}
	site.Until(t, "the member says that it does not serve", func() bool { return status() == grpc_health_v1.HealthCheckResponse_NOT_SERVING })
	id := memberID(t, s, cut)
	// The news reaches the client in its own time; from then on nobody is sent there.
	var last error
	site.Until(t, "the client leaves it alone", func() bool {
		for range 12 {
			resp, err := cli.Get(t.Context(), "k", clientv3.WithSerializable())
			if last = err; err != nil || resp.Header.MemberId == id {
				return false
			}
		}
		return true
	})
	var done sync.WaitGroup
	var answered atomic.Int64
	for range 4 {
		done.Go(func() {
			for range 100 {
				if _, err := cli.Put(t.Context(), "k", "w"); err != nil {
					t.Errorf("a write while one member has no leader: %v (last %v)", err, last)
					return
				}
				resp, err := cli.Get(t.Context(), "k", clientv3.WithSerializable())
				if err != nil || resp.Header.MemberId == id {
					t.Errorf("a read: %v %v", resp, err)
					return
				}
				answered.Add(1)
			}
		})
	}
	done.Wait()
	n.Heal()
	site.Until(t, "the member serves again", func() bool { return status() == grpc_health_v1.HealthCheckResponse_SERVING })
	site.Until(t, "and gets requests again", func() bool {
		resp, err := cli.Get(t.Context(), "k", clientv3.WithSerializable())
		return err == nil && resp.Header.MemberId == id
	})
	t.Logf("%d pairs of requests, none to the member without a leader", answered.Load())
}

func memberID(t *testing.T, s *site.Site, m *cluster.Member) uint64 {
	t.Helper()
	status, err := m.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status.Header.MemberId
}

// TestOrdering: a member that the others have lost answers serializable reads from the past; package ordering goes elsewhere, and says
// so when there is nowhere else.
func TestOrdering(t *testing.T) {
	s, n := parted(t, site.Direct)
	leader := s.AwaitLeader(t)
	var stale *cluster.Member
	var others []string
	for i, m := range s.Members {
		if m != leader && stale == nil {
			stale = m
			others = append([]string{n.Endpoints()[i]}, others...)
			continue
		}
		others = append(others, n.Endpoints()[i])
	}
	current := s.At(t, leader)
	if _, err := current.Put(t.Context(), "k", "old"); err != nil {
		t.Fatal(err)
	}
	at := s.At(t, stale)
	site.Until(t, "all have it", func() bool {
		resp, err := at.Get(t.Context(), "k", clientv3.WithSerializable())
		return err == nil && len(resp.Kvs) == 1
	})
	n.PartFromMembers(stale)
	if _, err := current.Put(t.Context(), "k", "new"); err != nil {
		t.Fatal(err)
	}
	if resp, err := at.Get(t.Context(), "k", clientv3.WithSerializable()); err != nil || string(resp.Kvs[0].Value) != "old" {
		t.Fatalf("the lost member answers %v, %v", resp, err)
	}

	cli := s.Client(t, func(cfg *clientv3.Config) { cfg.Endpoints = []string{n.Endpoints()[index(s, leader)]} })
	kv := ordering.NewKV(cli, ordering.NewOrderViolationSwitchEndpointClosure(cli))
	if resp, err := kv.Get(t.Context(), "k"); err != nil || string(resp.Kvs[0].Value) != "new" {
		t.Fatalf("%v %v", resp, err)
	}
	cli.SetEndpoints(others[0])
	lost := func() bool {
		resp, err := cli.Get(t.Context(), "k", clientv3.WithSerializable())
		return err == nil && string(resp.Kvs[0].Value) == "old"
	}
	site.Until(t, "the client is at the lost member", lost)
	if _, err := kv.Get(t.Context(), "k", clientv3.WithSerializable()); !errors.Is(err, ordering.ErrNoGreaterRev) {
		t.Errorf("nowhere else to go: %v", err)
	}
	cli.SetEndpoints(others...)
	site.Until(t, "the client is at all members", func() bool {
		seen := map[uint64]bool{}
		for range 6 {
			if resp, err := cli.Get(t.Context(), "k", clientv3.WithSerializable()); err == nil {
				seen[resp.Header.MemberId] = true
			}
		}
		return len(seen) == len(others)
	})
	for range 8 { // the package counts to 15 over all calls, and a member answers every third
		resp, err := kv.Get(t.Context(), "k", clientv3.WithSerializable())
		if err != nil || string(resp.Kvs[0].Value) != "new" {
			t.Fatalf("with all members: %v %v", resp, err)
		}
	}
	n.Heal()
}

func index(s *site.Site, m *cluster.Member) int {
	for i, other := range s.Members {
		if other == m {
			return i
		}
	}
	panic("BUG: no such member")
}

// TestLeaseEnds: who cannot reach anybody loses the lease in its own view no later than the others see it end.
func TestLeaseEnds(t *testing.T) {
	s, n := parted(t, site.Direct)
	cli := s.Client(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	granted, err := cli.Grant(ctx, 6)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Put(ctx, "held", "x", clientv3.WithLease(granted.ID)); err != nil {
		t.Fatal(err)
	}
	alive, err := cli.KeepAlive(ctx, granted.ID)
	if err != nil {
		t.Fatal(err)
	}
	gone := s.At(t, s.Members[0]).Watch(ctx, "held")
	if resp := <-alive; resp == nil {
		t.Fatal("no keep-alive was answered")
	}
	for _, m := range s.Members {
		n.PartFromClients(m)
	}
	ended := make(chan time.Time, 1)
	go func() {
		for range alive {
		}
		ended <- time.Now()
	}()
	resp := <-gone
	if resp.Err() != nil || len(resp.Events) != 1 || resp.Events[0].Type != clientv3.EventTypeDelete {
		t.Fatalf("%+v", resp)
	}
	deleted := time.Now()
	select {
	case at := <-ended:
		t.Logf("the client gave up %v before the key was deleted", deleted.Sub(at))
	case <-time.After(time.Minute):
		t.Error("the client believes in its lease")
	}
}
