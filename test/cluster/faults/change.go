package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/test/cluster"
)

// How long a change of members is tried. It needs a quorum, which other faults may have taken.
const (
	addLimit     = 3 * time.Second
	promoteLimit = 5 * time.Second
	removeLimit  = 30 * time.Second
)

// memberFaults change who belongs to the cluster.
func (n *nemesis) memberFaults() []fault {
	return []fault{{memberChange, n.grow}, {memberChange, n.grow}}
}

// memberChange is mended after all other faults: it needs a quorum.
const memberChange = "member-change"

// grow adds a learner. When the fault is mended, it is promoted, and then removed again, whatever came of that.
func (n *nemesis) grow(ctx context.Context) (func() error, error) {
	n.spares++
	name := fmt.Sprintf("x%d", n.spares)
	m := n.run.cluster.Spare(name, filepath.Join(n.run.cfg.Dir, name))
	if _, err := n.run.net.place(m, 20+n.spares); err != nil {
		return nil, err
	}
	pairs := []string{n.run.cluster.Initial(), name + "=" + m.Peer}
	m.Flags = append(m.Flags, "--initial-cluster-state=existing", "--initial-cluster="+strings.Join(pairs, ","))
	n.run.logf("add %s", name)
	var id uint64
	err := n.run.try(ctx, addLimit, func(ctx context.Context, cli *clientv3.Client) error {
		resp, err := cli.MemberAddAsLearner(ctx, []string{m.Peer})
		if err == nil {
			id = resp.Member.ID
		} else if strings.Contains(err.Error(), "Peer URLs already exists") {
			err = nil // an earlier try had succeeded
		}
		return err
	})
	if err == nil {
		n.run.join(m)
		err = n.run.start(m)
	}
	return func() error {
		ctx := context.WithoutCancel(ctx)
		if id != 0 {
			err := n.run.try(ctx, promoteLimit, func(ctx context.Context, cli *clientv3.Client) error {
				_, err := cli.MemberPromote(ctx, id)
				return err
			})
			n.run.logf("promote %s: %v", name, err)
			if err == nil {
				n.counts["promoted"]++
			}
		}
		n.run.retire(m)
		err := n.run.try(ctx, removeLimit, func(ctx context.Context, cli *clientv3.Client) error { return removeByURL(ctx, cli, m.Peer) })
		n.run.logf("remove %s: %v", name, err)
		n.run.kill(m)
		n.run.leave(m)
		return errors.Join(err, os.RemoveAll(filepath.Join(m.Dir, "data")))
	}, err
}

// removeByURL removes whatever member has this URL, and reports whether none is left.
func removeByURL(ctx context.Context, cli *clientv3.Client, url string) error {
	list, err := cli.MemberList(ctx)
	if err != nil {
		return err
	}
	for _, m := range list.Members {
		if slices.Contains(m.PeerURLs, url) {
			if _, err := cli.MemberRemove(ctx, m.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// try repeats something until it succeeds or the time is over, at any member.
func (r *run) try(ctx context.Context, limit time.Duration, do func(ctx context.Context, cli *clientv3.Client) error) error {
	cli, err := r.client()
	if err != nil {
		return err
	}
	defer cli.Close()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		once, stop := context.WithTimeout(ctx, 2*time.Second)
		err := do(once, cli)
		stop()
		if err == nil || !wait(ctx, 100*time.Millisecond) {
			return err
		}
	}
}

// join, retire and leave say that a spare runs, may end by itself, and is gone.
func (r *run) join(m *cluster.Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spares = append(r.spares, m)
}

func (r *run) retire(m *cluster.Member) {
	r.life.Lock()
	defer r.life.Unlock()
	r.down[m] = true
}

func (r *run) leave(m *cluster.Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spares = slices.DeleteFunc(r.spares, func(o *cluster.Member) bool { return o == m })
}

// processes are the members and whoever else runs.
func (r *run) processes() []*cluster.Member {
	out := r.members()
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(out, r.spares...)
}
