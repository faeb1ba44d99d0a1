package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/test/cluster"
)

// fault is one thing that goes wrong. start returns what mends it; a fault that mends itself returns nil.
type fault struct {
	name  string
	start func(ctx context.Context) (heal func() error, err error)
}

// errSkip says that a fault has no place now; it is not counted.
var errSkip = errors.New("not now")

// nemesis causes faults.
type nemesis struct {
	run    *run
	rng    *rand.Rand
	faults []fault
	counts map[string]int
	spares int // members that were added and removed again
}

func newNemesis(r *run, rng *rand.Rand) *nemesis {
	n := &nemesis{run: r, rng: rng, counts: map[string]int{}}
	n.faults = []fault{
		{"kill", n.kill}, {"kill", n.kill}, {"kill-leader", n.killLeader}, {"kill-leader", n.killLeader},
		{"kill-all", n.killAll}, {"pause", n.pause}, {"pause-leader", n.pauseLeader},
		{"partition", n.partition}, {"partition-leader", n.partitionLeader}, {"partition-from-clients", n.partitionClients},
		{"one-way-loss", n.oneWay}, {"one-way-loss", n.oneWay}, {"delay", n.delay},
		{"move-leader", n.moveLeader}, {"move-leader", n.moveLeader}, {"defragment", n.defragment},
	}
	if r.disk != nil {
		n.faults = append(n.faults, fault{"full-disk", n.fullDisk})
	}
	if _, ok := r.net.(*wire); ok {
		n.faults = append(n.faults, fault{"packet-loss", n.lossy}, fault{"packet-loss", n.lossy}, fault{"reorder", n.reorder})
	}
	n.faults = append(n.faults, n.memberFaults()...)
	return n
}

// cause causes faults until ctx ends, and mends each after a while. Now and then two last at the same time.
func (n *nemesis) cause(ctx context.Context, pace time.Duration) {
	var heals, last []func() error
	mend := func() {
		for _, heal := range append(heals, last...) {
			n.run.note(heal())
		}
		heals, last = nil, nil
	}
	defer mend()
	for {
		if !wait(ctx, pace/4+time.Duration(n.rng.Int64N(int64(pace)))) {
			return
		}
		f := n.faults[n.rng.IntN(len(n.faults))]
		heal, err := f.start(ctx)
		if ctx.Err() == nil && !errors.Is(err, errSkip) {
			n.run.logf("fault %s: %v", f.name, err)
			n.counts[f.name]++
			if err != nil {
				n.counts[f.name+" failed"]++
			}
		}
		switch {
		case heal == nil:
		case f.name == memberChange:
			last = append(last, heal)
		default:
			heals = append(heals, heal)
		}
		if n.rng.IntN(4) == 0 && len(heals)+len(last) < 2 {
			continue
		}
		alive := wait(ctx, pace/4+time.Duration(n.rng.Int64N(int64(2*pace))))
		mend()
		if !alive {
			return
		}
	}
}

// wait reports whether d passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (n *nemesis) any() *cluster.Member {
	members := n.run.members()
	return members[n.rng.IntN(len(members))]
}

func (n *nemesis) leader(ctx context.Context) (*cluster.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	m, err := n.run.leader(ctx)
	if err != nil {
		return nil, errSkip
	}
	return m, nil
}

func (n *nemesis) killOne(m *cluster.Member) (func() error, error) {
	n.run.logf("kill %s", m.Name)
	n.run.kill(m)
	return func() error { n.run.logf("start %s", m.Name); return n.run.start(m) }, nil
}

func (n *nemesis) kill(context.Context) (func() error, error) { return n.killOne(n.any()) }

func (n *nemesis) killLeader(ctx context.Context) (func() error, error) {
	m, err := n.leader(ctx)
	if err != nil {
		return nil, err
	}
	return n.killOne(m)
}

func (n *nemesis) killAll(context.Context) (func() error, error) {
	members := n.run.members()
	for _, m := range members {
		n.run.kill(m)
	}
	n.rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return func() error {
		n.run.logf("start all")
		var all []error
		for _, m := range members {
			all = append(all, n.run.start(m))
		}
		return errors.Join(all...)
	}, nil
}

func (n *nemesis) pauseOne(m *cluster.Member) (func() error, error) {
	n.run.logf("pause %s", m.Name)
	if err := n.run.signal(m, (*cluster.Member).Pause); err != nil {
		return nil, err
	}
	return func() error {
		n.run.logf("resume %s", m.Name)
		_ = n.run.signal(m, (*cluster.Member).Resume)
		return nil
	}, nil
}

func (n *nemesis) pause(context.Context) (func() error, error) { return n.pauseOne(n.any()) }

func (n *nemesis) pauseLeader(ctx context.Context) (func() error, error) {
	m, err := n.leader(ctx)
	if err != nil {
		return nil, err
	}
	return n.pauseOne(m)
}

// cut changes links, and lets all go on afterwards.
func (n *nemesis) cut(what string, change func(from, to string, c *condition)) (func() error, error) {
	n.run.logf("%s", what)
	n.run.net.set(n.run.names(), change)
	reset := n.rng.IntN(2) == 0
	return func() error {
		n.run.logf("the links are whole again (reset %t)", reset)
		n.run.net.heal(n.run.names(), reset)
		return nil
	}, nil
}

// isolate parts one member from the other members, and perhaps from the clients.
func (n *nemesis) isolate(m *cluster.Member) (func() error, error) {
	refuse, clients := n.rng.IntN(2) == 0, n.rng.IntN(2) == 0
	return n.cut(fmt.Sprintf("isolate %s (refuse %t, clients %t)", m.Name, refuse, clients), func(from, to string, c *condition) {
		if from != m.Name && to != m.Name || !clients && (from == Clients || to == Clients) {
			return
		}
		c.stalled, c.refused = !refuse, refuse
	})
}

func (n *nemesis) partition(context.Context) (func() error, error) { return n.isolate(n.any()) }

func (n *nemesis) partitionLeader(ctx context.Context) (func() error, error) {
	m, err := n.leader(ctx)
	if err != nil {
		return nil, err
	}
	return n.isolate(m)
}

func (n *nemesis) partitionClients(context.Context) (func() error, error) {
	m := n.any()
	return n.cut("part "+m.Name+" from the clients", func(from, to string, c *condition) {
		c.stalled = c.stalled || from == Clients && to == m.Name || to == Clients && from == m.Name
	})
}

// oneWay lets nothing through from some members to some others, in that direction only.
func (n *nemesis) oneWay(context.Context) (func() error, error) {
	lost := map[link]bool{}
	var text strings.Builder
	for want := 1 + n.rng.IntN(3); len(lost) < want; {
		if l := (link{n.any().Name, n.any().Name}); l.from != l.to && !lost[l] {
			lost[l] = true
			fmt.Fprintf(&text, " %s->%s", l.from, l.to)
		}
	}
	return n.cut("one-way loss"+text.String(), func(from, to string, c *condition) {
		c.stalled = c.stalled || lost[link{from, to}]
	})
}

func (n *nemesis) delay(context.Context) (func() error, error) {
	base := time.Duration(n.rng.Int64N(int64(400 * time.Millisecond)))
	m := n.any()
	all := n.rng.IntN(2) == 0
	return n.cut(fmt.Sprintf("delay by up to %v (all %t, else %s)", base, all, m.Name), func(from, to string, c *condition) {
		if all || from == m.Name || to == m.Name {
			c.delay = base/2 + time.Duration(n.rng.Int64N(int64(base)/2+1))
		}
	})
}

// lossy loses some of all packets.
func (n *nemesis) lossy(context.Context) (func() error, error) {
	loss := 0.02 + 0.28*n.rng.Float64()
	return n.cut(fmt.Sprintf("lose %.0f%% of all packets", 100*loss), func(_, _ string, c *condition) { c.loss = loss })
}

// reorder delays every packet by another time.
func (n *nemesis) reorder(context.Context) (func() error, error) {
	jitter := time.Duration(1 + n.rng.Int64N(int64(100*time.Millisecond)))
	return n.cut(fmt.Sprintf("delay every packet by up to %v", jitter), func(_, _ string, c *condition) { c.jitter = jitter })
}

func (n *nemesis) moveLeader(ctx context.Context) (func() error, error) {
	from, err := n.leader(ctx)
	if err != nil {
		return nil, err
	}
	to := n.any()
	if to == from {
		return nil, errSkip
	}
	n.run.logf("move the lead from %s to %s", from.Name, to.Name)
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	status, err := to.Status(ctx)
	if err != nil {
		return nil, errSkip
	}
	return nil, n.run.at(from, func(cli *clientv3.Client) error {
		_, err := cli.MoveLeader(ctx, status.Header.MemberId)
		return err
	})
}

func (n *nemesis) defragment(ctx context.Context) (func() error, error) {
	m := n.any()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return nil, n.run.at(m, func(cli *clientv3.Client) error {
		_, err := cli.Defragment(ctx, m.Client)
		return err
	})
}

// fullDisk fills the disk of the member that has a small one of its own.
func (n *nemesis) fullDisk(context.Context) (func() error, error) {
	m := n.run.disk.member
	if n.run.disk.full {
		return nil, errSkip
	}
	n.run.logf("fill the disk of %s", m.Name)
	if err := n.run.disk.fill(); err != nil {
		return nil, err
	}
	n.run.mayEnd(m)
	return func() error {
		n.run.logf("the disk of %s has room again", m.Name)
		if err := n.run.disk.free(); err != nil {
			return err
		}
		return n.run.restart(m)
	}, nil
}
