package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/health/grpc_health_v1"

	"quorate.dev/quorate/test/compat/proc"
)

func TestMain(m *testing.M) {
	code := m.Run()
	proc.Cleanup()
	os.Exit(code)
}

// kind is what is tested; CLUSTER_KIND=etcd shows that the tests hold for a real etcd.
func kind() proc.Kind {
	if os.Getenv("CLUSTER_KIND") == "etcd" {
		return proc.Etcd
	}
	return proc.Quorate
}

func start(t *testing.T, n int, flags ...string) *Cluster {
	t.Helper()
	c, err := New(kind(), t.TempDir(), n, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, m := range c.Members {
				t.Logf("--- end of the log of %s ---\n%s", m.Name, m.LogTail(6000))
			}
		}
		c.Kill()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

func connect(t *testing.T, c *Cluster, endpoints ...string) *clientv3.Client {
	t.Helper()
	cli, err := c.Client(endpoints...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cli.Close() })
	return cli
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for limit := time.Now().Add(3 * time.Minute); !cond(); {
		if time.Now().After(limit) {
			t.Fatalf("%s: not within three minutes", what)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// sameHash waits until all members that run have applied the same, and compares their data.
func sameHash(t *testing.T, c *Cluster, members ...*Member) {
	t.Helper()
	if len(members) == 0 {
		members = c.Members
	}
	cli := connect(t, c, members[0].Client)
	got, err := cli.Get(t.Context(), "none")
	if err != nil {
		t.Fatal(err)
	}
	hashes := map[string]uint32{}
	for _, m := range members {
		own := connect(t, c, m.Client)
		until(t, m.Name+" has caught up", func() bool {
			resp, err := own.HashKV(t.Context(), m.Client, got.Header.Revision)
			if err != nil {
				return false
			}
			hashes[m.Name] = resp.Hash
			return true
		})
	}
	for name, hash := range hashes {
		if hash != hashes[members[0].Name] {
			t.Fatalf("the members differ at revision %d: %v (%s)", got.Header.Revision, hashes, name)
		}
	}
}

// TestAnyMemberServes uses every member for everything.
func TestAnyMemberServes(t *testing.T) {
	c := start(t, 3)
	ctx := t.Context()
	leader, _ := pick(t, c)
	t.Logf("%s leads", leader.Name)
	for i, m := range c.Members {
		cli := connect(t, c, m.Client)
		key := fmt.Sprintf("key-%d", i)
		put, err := cli.Put(ctx, key, "value")
		if err != nil {
			t.Fatalf("put through %s: %v", m.Name, err)
		}
		for _, other := range c.Members {
			got, err := connect(t, c, other.Client).Get(ctx, key)
			if err != nil || len(got.Kvs) != 1 {
				t.Fatalf("get through %s of what was put through %s: %v %v", other.Name, m.Name, got, err)
			}
			watch := connect(t, c, other.Client).Watch(ctx, key, clientv3.WithRev(put.Header.Revision))
			if resp := <-watch; len(resp.Events) != 1 || resp.Events[0].Kv.ModRevision != put.Header.Revision {
				t.Fatalf("watch through %s of what was put through %s: %+v", other.Name, m.Name, resp)
			}
		}
		lease, err := cli.Grant(ctx, 60)
		if err != nil {
			t.Fatalf("grant through %s: %v", m.Name, err)
		}
		if _, err := cli.Put(ctx, key, "leased", clientv3.WithLease(lease.ID)); err != nil {
			t.Fatal(err)
		}
		for _, other := range c.Members {
			own := connect(t, c, other.Client)
			if _, err := own.Get(ctx, key); err != nil { // so that this member knows the lease
				t.Fatal(err)
			}
			alive, err := own.KeepAliveOnce(ctx, lease.ID)
			if err != nil || alive.TTL != 60 {
				t.Fatalf("keep-alive through %s: %v %v", other.Name, alive, err)
			}
			ttl, err := own.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
			if err != nil || ttl.TTL < 50 || ttl.GrantedTTL != 60 || len(ttl.Keys) != 1 {
				t.Fatalf("time to live through %s: %+v %v", other.Name, ttl, err)
			}
			gone, err := own.TimeToLive(ctx, 12345)
			if err != nil || gone.TTL != -1 {
				t.Fatalf("time to live of no lease through %s: %+v %v", other.Name, gone, err)
			}
		}
		members, err := cli.MemberList(ctx)
		if err != nil || len(members.Members) != 3 {
			t.Fatalf("members through %s: %v %v", m.Name, members, err)
		}
	}
	sameHash(t, c)
}

// load puts numbered keys through all members until stop is called, and counts what was acknowledged and what failed.
type load struct {
	acked, failed atomic.Int64
	longest       atomic.Int64 // the longest time without an acknowledgement, in nanoseconds
	mu            sync.Mutex
	keys          []string // acknowledged
	errors        []string
	stop          func()
}

// patience is how long a client of the load waits for an answer, unless members do not answer at all.
const patience = 10 * time.Second

func drive(t *testing.T, c *Cluster, clients int, patience time.Duration) *load {
	l := &load{}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	last := atomic.Int64{}
	last.Store(time.Now().UnixNano())
	for i := range clients {
		cli := connect(t, c)
		done.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprintf("load/%d/%06d", i, n)
				try, cancel := context.WithTimeout(ctx, patience)
				_, err := cli.Put(try, key, strings.Repeat("x", 100))
				cancel()
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					l.failed.Add(1)
					l.mu.Lock()
					l.errors = append(l.errors, err.Error())
					l.mu.Unlock()
					continue
				}
				now := time.Now().UnixNano()
				if gap := now - last.Swap(now); gap > l.longest.Load() {
					l.longest.Store(gap)
				}
				l.acked.Add(1)
				l.mu.Lock()
				l.keys = append(l.keys, key)
				l.mu.Unlock()
			}
		})
	}
	l.stop = func() { cancel(); done.Wait() }
	t.Cleanup(l.stop)
	return l
}

// stalled says that nobody was answered for so long that requests may have timed out for that: the machine gave the members no time.
func (l *load) stalled() bool { return time.Duration(l.longest.Load()) > 5*time.Second }

func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	want := l.acked.Load() + n
	until(t, "writes go on", func() bool { return l.acked.Load() >= want })
}

// check stops the load and looks for every acknowledged key on every member.
func (l *load) check(t *testing.T, c *Cluster) {
	t.Helper()
	l.stop()
	sameHash(t, c)
	for _, m := range c.Members {
		got, err := connect(t, c, m.Client).Get(t.Context(), "load/", clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithSerializable())
		if err != nil {
			t.Fatal(err)
		}
		have := map[string]bool{}
		for _, kv := range got.Kvs {
			have[string(kv.Key)] = true
		}
		for _, key := range l.keys {
			if !have[key] {
				t.Fatalf("%s was acknowledged and is not on %s", key, m.Name)
			}
		}
	}
	t.Logf("%d writes acknowledged and there, %d failed, longest gap %v", len(l.keys), l.failed.Load(), time.Duration(l.longest.Load()).Round(time.Millisecond))
}

// TestKillLeader kills the leader under load, again and again. Requests fail on a connection that is cut, but none that another
// member took waits in vain for the dead leader.
func TestKillLeader(t *testing.T) {
	c := start(t, 3)
	l := drive(t, c, 20, patience)
	for range 3 {
		l.more(t, 500)
		leader, _ := pick(t, c)
		leader.Kill()
		l.more(t, 500)
		if err := leader.Start(); err != nil {
			t.Fatal(err)
		}
		if err := leader.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	l.check(t, c)
	for _, text := range l.errors {
		if strings.Contains(text, "timed out") && !l.stalled() {
			t.Errorf("a request failed: %s", text)
		}
	}
}

// TestPauseAnyMember stops each member's process for a while, as a hypervisor does.
func TestPauseAnyMember(t *testing.T) {
	c := start(t, 3)
	// A paused member answers nobody until the client's keep-alive gives its connection up.
	l := drive(t, c, 20, time.Second)
	for _, m := range c.Members {
		l.more(t, 100)
		if err := m.Pause(); err != nil {
			t.Fatal(err)
		}
		l.more(t, 100)
		if err := m.Resume(); err != nil {
			t.Fatal(err)
		}
	}
	l.check(t, c)
}

// TestRollingRestart restarts every member under load as an upgrade does: no request fails that a client would not repeat by
// itself.
func TestRollingRestart(t *testing.T) {
	c := start(t, 3)
	l := drive(t, c, 20, patience)
	for _, m := range c.Members {
		l.more(t, 500)
		if err := m.Stop(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		if err := m.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	l.check(t, c)
	for _, text := range l.errors {
		if late := strings.Contains(text, "timed out") || strings.Contains(text, "deadline exceeded"); !late || !l.stalled() {
			t.Errorf("a request failed: %s", text)
		}
	}
}

// TestFarBehind has a member miss more than the others keep in memory: it gets a snapshot, and is killed while it does.
func TestFarBehind(t *testing.T) {
	c := start(t, 3)
	leader, followers := pick(t, c)
	behind, other := followers[0], followers[1]
	behind.Kill()
	cli := connect(t, c, leader.Client, other.Client)
	value := strings.Repeat("v", 1000)
	limit, cancelPuts := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancelPuts()
	var done sync.WaitGroup
	var failed atomic.Int64
	for i := range 100 {
		done.Go(func() {
			for n := range 400 {
				// A busy machine may lose its leader under so many: what was refused is put again.
				for limit.Err() == nil {
					if _, err := cli.Put(limit, fmt.Sprintf("far/%d/%d", i, n), value); err == nil {
						break
					}
					failed.Add(1)
				}
			}
		})
	}
	done.Wait()
	if t.Logf("%d puts failed with two of three members", failed.Load()); limit.Err() != nil {
		t.Fatal("two of three members do not take 40,000 puts in five minutes")
	}
	if err := behind.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "a snapshot arrives", func() bool {
		return strings.Contains(behind.LogTail(1<<20), "receiving a snapshot") || strings.Contains(behind.LogTail(1<<20), "snapshot")
	})
	behind.Kill()
	if err := behind.Start(); err != nil {
		t.Fatal(err)
	}
	if err := behind.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameHash(t, c)
	// And it takes part again.
	leader.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	two := connect(t, c, other.Client, behind.Client)
	until(t, "the other two serve", func() bool {
		_, err := two.Put(ctx, "after", "x")
		return err == nil
	})
	sameHash(t, c, other, behind)
}

// TestNoQuorum checks what a member without a quorum answers: old reads, and clear errors in time.
func TestNoQuorum(t *testing.T) {
	c := start(t, 3)
	cli := connect(t, c, c.Members[0].Client)
	if _, err := cli.Put(t.Context(), "a", "1"); err != nil {
		t.Fatal(err)
	}
	if !serving(t, cli) {
		t.Fatal("a member with a leader says that it does not serve")
	}
	open := cli.Watch(clientv3.WithRequireLeader(t.Context()), "a")
	c.Members[1].Kill()
	c.Members[2].Kill()
	got, err := cli.Get(t.Context(), "a", clientv3.WithSerializable())
	if err != nil || len(got.Kvs) != 1 {
		t.Fatalf("a serializable read: %v %v", got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if _, err := cli.Put(ctx, "a", "2"); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a put without a quorum: %v", err)
	}
	if resp := <-open; resp.Err() == nil || !strings.Contains(resp.Err().Error(), "no leader") {
		t.Fatalf("a watch that requires a leader and has lost it: %+v", resp)
	}
	if kind() != proc.Etcd { // which says SERVING whatever happens
		until(t, "the health service says that this member does not serve", func() bool { return !serving(t, cli) })
	}
	watch := cli.Watch(clientv3.WithRequireLeader(ctx), "a")
	if resp := <-watch; resp.Err() == nil || !strings.Contains(resp.Err().Error(), "no leader") {
		t.Fatalf("a watch that requires a leader: %+v", resp)
	}
	if err := c.Members[1].Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the member serves again", func() bool { return serving(t, cli) })
	if _, err := cli.Put(t.Context(), "a", "3"); err != nil {
		t.Fatal(err)
	}
}

// serving asks gRPC's health service.
func serving(t *testing.T, cli *clientv3.Client) bool {
	t.Helper()
	resp, err := grpc_health_v1.NewHealthClient(cli.ActiveConnection()).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return resp.Status == grpc_health_v1.HealthCheckResponse_SERVING
}
