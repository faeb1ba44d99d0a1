package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/test/compat/proc"
)

// newMember makes one more member of a cluster, without adding or starting it.
func (c *Cluster) newMember(t *testing.T, name string) *Member {
	t.Helper()
	m := &Member{Name: name, Dir: filepath.Join(filepath.Dir(c.Members[0].Dir), name), c: c, Flags: []string{"--initial-cluster-state=existing"}}
	m.Client, m.Peer = freeURL(t), freeURL(t)
	return m
}

func freeURL(t *testing.T) string {
	ports, err := proc.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("http://127.0.0.1:%d", ports[0])
}

func (c *Cluster) forget(m *Member) {
	c.Members = slices.DeleteFunc(slices.Clone(c.Members), func(o *Member) bool { return o == m })
}

// persist asks again while the cluster says that it is not healthy for long enough, or that the learner is not ready.
func persist(t *testing.T, what string, f func(context.Context) error) {
	t.Helper()
	until(t, what, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		err := f(ctx)
		if err != nil && !strings.Contains(err.Error(), "unhealthy cluster") && !strings.Contains(err.Error(), "in sync with leader") && !strings.Contains(err.Error(), "not enough started") {
			t.Fatalf("%s: %v", what, err)
		}
		return err == nil
	})
}

// ends waits until a member that was removed has ended by itself, and looks at how.
func ends(t *testing.T, m *Member) {
	t.Helper()
	until(t, m.Name+" ends", func() bool {
		select {
		case <-m.done:
			return true
		default:
			return false
		}
	})
	if code := m.cmd.ProcessState.ExitCode(); code != 0 || !strings.Contains(m.LogTail(1<<20), "the member has been permanently removed from the cluster") {
		t.Fatalf("%s ended with code %d\n%s", m.Name, code, m.LogTail(3000))
	}
}

func memberOf(t *testing.T, m *Member) uint64 {
	t.Helper()
	s, err := m.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Header.MemberId
}

// pick returns the leader and the others.
func pick(t *testing.T, c *Cluster) (leader *Member, others []*Member) {
	t.Helper()
	until(t, "somebody leads", func() bool {
		var err error
		leader, err = c.Leader(t.Context())
		return err == nil
	})
	for _, m := range c.Members {
		if m != leader {
			others = append(others, m)
		}
	}
	return leader, others
}

// TestMembersUnderLoad has a learner join and become a voter, removes a follower, replaces one whose disk is lost, moves one to
// another address and removes the leader, all while clients write. No acknowledged write is lost.
func TestMembersUnderLoad(t *testing.T) {
	c := start(t, 3)
	l := drive(t, c, 4, patience)
	ctx := t.Context()

	_, followers := pick(t, c)
	cli := connect(t, c, followers[0].Client) // the hardest: it has to ask the leader
	m4 := c.newMember(t, "m4")
	var id4 uint64
	persist(t, "add a learner", func(ctx context.Context) error {
		added, err := cli.MemberAddAsLearner(ctx, []string{m4.Peer})
		if err == nil {
			id4 = added.Member.ID
		}
		return err
	})
	if _, err := cli.MemberAddAsLearner(ctx, []string{freeURL(t)}); err == nil || !strings.Contains(err.Error(), "too many learner") {
		t.Fatalf("a second learner: %v", err)
	}
	c.Members = append(c.Members, m4)
	if err := m4.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the learner answers", func() bool { s, err := m4.Status(ctx); return err == nil && s.IsLearner })
	if _, err := connect(t, c, m4.Client).Put(ctx, "k", "v"); err == nil || !strings.Contains(err.Error(), "rpc not supported for learner") {
		t.Fatalf("a put at the learner: %v", err)
	}
	if _, err := connect(t, c, m4.Client).Get(ctx, "k", clientv3.WithSerializable()); err != nil {
		t.Fatalf("a serializable read at the learner: %v", err)
	}
	l.more(t, 100)
	persist(t, "promote the learner", func(ctx context.Context) error { _, err := cli.MemberPromote(ctx, id4); return err })
	if err := m4.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	l.more(t, 100)

	gone := followers[1]
	persist(t, "remove a follower", func(ctx context.Context) error { _, err := cli.MemberRemove(ctx, memberOf(t, gone)); return err })
	ends(t, gone)
	c.forget(gone)
	if err := gone.Start(); err != nil { // it knows, or is told, and ends again
		t.Fatal(err)
	}
	ends(t, gone)
	l.more(t, 100)

	// m4's disk is lost: it is removed while it is down, and added again.
	m4.Kill()
	persist(t, "remove the lost member", func(ctx context.Context) error { _, err := cli.MemberRemove(ctx, id4); return err })
	if err := os.RemoveAll(filepath.Join(m4.Dir, "data")); err != nil {
		t.Fatal(err)
	}
	persist(t, "add it again", func(ctx context.Context) error { _, err := cli.MemberAdd(ctx, []string{m4.Peer}); return err })
	if err := m4.Start(); err != nil {
		t.Fatal(err)
	}
	if err := m4.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	l.more(t, 100)

	id4 = memberOf(t, m4)
	if err := m4.Stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m4.Peer = freeURL(t)
	persist(t, "change its address", func(ctx context.Context) error { _, err := cli.MemberUpdate(ctx, id4, []string{m4.Peer}); return err })
	if err := m4.Start(); err != nil {
		t.Fatal(err)
	}
	if err := m4.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	l.more(t, 100)

	leader, others := pick(t, c)
	before := l.failed.Load()
	own := connect(t, c, leader.Client, others[0].Client)
	persist(t, "remove the leader", func(ctx context.Context) error { _, err := own.MemberRemove(ctx, memberOf(t, leader)); return err })
	ends(t, leader)
	c.forget(leader)
	l.more(t, 200)
	t.Logf("%d writes failed while the leader was removed", l.failed.Load()-before)
	list, err := connect(t, c, others[0].Client).MemberList(ctx)
	if err != nil || len(list.Members) != 2 {
		t.Fatalf("%v %v", list, err)
	}
	l.check(t, c)
}

// TestRefusedStarts starts members whose flags or data do not fit.
func TestRefusedStarts(t *testing.T) {
	c := start(t, 3)
	other := start(t, 1)
	refused := func(m *Member, want string) {
		t.Helper()
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Kill)
		until(t, m.Name+" ends", func() bool {
			select {
			case <-m.done:
				return true
			default:
				return false
			}
		})
		if code := m.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(m.LogTail(1<<20), want) {
			t.Errorf("%s ended with code %d and does not say %q\n%s", m.Name, code, want, m.LogTail(2000))
		}
	}
	stranger := c.newMember(t, "stranger")
	refused(stranger, "couldn't find local name")

	counted := c.newMember(t, "counted")
	counted.Flags = append(counted.Flags, "--initial-cluster="+c.Initial()+",counted="+counted.Peer)
	refused(counted, "member count is unequal")

	unknown := c.newMember(t, "m3")
	unknown.Dir += "-other"
	unknown.Flags = append(unknown.Flags, fmt.Sprintf("--initial-cluster=m1=%s,m2=%s,m3=%s", c.Members[0].Peer, c.Members[1].Peer, unknown.Peer))
	refused(unknown, "PeerURLs: no match found for existing member")

	double := c.newMember(t, "double")
	double.Flags = []string{"--initial-cluster=double=" + double.Peer + ",other=" + double.Peer}
	refused(double, "has duplicate url")

	twice := c.newMember(t, "twice") // two members of one name are one member that says only half of its addresses
	twice.Flags = []string{"--initial-cluster=twice=" + twice.Peer + ",twice=" + freeURL(t)}
	refused(twice, "--initial-cluster has twice")

	// The disk of a founder is lost, and it is started as before.
	lost := c.Members[2]
	lost.Kill()
	if err := os.RemoveAll(filepath.Join(lost.Dir, "data")); err != nil {
		t.Fatal(err)
	}
	refused(lost, "has already been bootstrapped")

	// The data of another cluster: the members refuse each other and say why.
	other.Members[0].Kill()
	if err := os.RemoveAll(filepath.Join(lost.Dir, "data")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(other.Members[0].Dir, "data"), filepath.Join(lost.Dir, "data")); err != nil {
		t.Fatal(err)
	}
	if err := lost.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the members say that the cluster is another one", func() bool {
		return strings.Contains(c.Members[0].LogTail(1<<20), "cluster ID mismatch")
	})
	if _, err := connect(t, c, c.Members[0].Client).Put(t.Context(), "still", "here"); err != nil {
		t.Fatal(err)
	}
}

// TestForceNewCluster loses two of three members for good, and makes a cluster of the third alone, which then grows again.
func TestForceNewCluster(t *testing.T) {
	c := start(t, 3)
	l := drive(t, c, 2, patience)
	l.more(t, 200)
	l.stop()
	sameHash(t, c)
	for _, m := range c.Members {
		m.Kill()
	}
	alone, lost := c.Members[0], c.Members[1]
	c.Members = c.Members[:1]
	alone.Flags = []string{"--force-new-cluster"}
	for range 2 { // doing it again does no harm
		if err := alone.Start(); err != nil {
			t.Fatal(err)
		}
		if err := alone.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		list, err := connect(t, c).MemberList(t.Context())
		if err != nil || len(list.Members) != 1 || list.Members[0].Name != alone.Name {
			t.Fatalf("%v %v", list, err)
		}
		if err := alone.Stop(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	alone.Flags = nil
	if err := alone.Start(); err != nil {
		t.Fatal(err)
	}
	if err := alone.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.check(t, c)
	if err := lost.Start(); err != nil { // the others are not members any more
		t.Fatal(err)
	}
	ends(t, lost)

	m := c.newMember(t, "new")
	cli := connect(t, c)
	if _, err := cli.MemberAdd(t.Context(), []string{m.Peer}); err != nil {
		t.Fatal(err)
	}
	c.Members = append(c.Members, m)
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	if err := m.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Put(t.Context(), "after", "all"); err != nil {
		t.Fatal(err)
	}
	sameHash(t, c)
}

// TestAutoPromote has a learner become a voter without anybody asking for it.
func TestAutoPromote(t *testing.T) {
	c := start(t, 1, "--auto-promote")
	m := c.newMember(t, "m2")
	if _, err := connect(t, c).MemberAddAsLearner(t.Context(), []string{m.Peer}); err != nil {
		t.Fatal(err)
	}
	c.Members = append(c.Members, m)
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the learner votes", func() bool { s, err := m.Status(t.Context()); return err == nil && !s.IsLearner })
	if err := m.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
}
