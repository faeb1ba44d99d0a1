package k8s

import (
	"context"
	"fmt"
	"time"
)

// filling is the store being filled: Nodes, their Leases, and pods, each once.
type filling struct {
	node, nodes int64 // the next, and how many there are to be
	lease       int64
	pods        int64 // to be created
	all, sent   int64
	done        int64
	shown       time.Duration
}

// grow fills the store until it holds so many nodes and their pods.
func (d *driver) grow(ctx context.Context, n int) error {
	have := int64(len(d.nodes))
	f := &filling{node: have, lease: have, nodes: int64(n), pods: max(int64(d.o.Size.podsOf(n))-d.pods.live(), 0), shown: d.now()}
	f.all = 2*max(f.nodes-have, 0) + f.pods
	if f.all == 0 {
		return nil
	}
	if int64(n) > have {
		d.nodes = append(d.nodes, make([]node, int64(n)-have)...)
	}
	begin := d.now()
	d.fill, d.until, d.closing = f, 0, false
	if err := d.loop(ctx); err != nil {
		return fmt.Errorf("filling the store: %w", err)
	}
	took := d.now() - begin
	d.o.Progress(fmt.Sprintf("filled: %d nodes, %d pods; %d objects in %.1f s, %.0f/s", n, d.pods.live(), f.all, took.Seconds(), float64(f.all)/took.Seconds()))
	return nil
}

// fillMore keeps creations under way until there are no more.
func (d *driver) fillMore() {
	f := d.fill
	if f == nil {
		return
	}
	if f.done == f.all {
		d.fill = nil
		return
	}
	now := d.now()
	if now-f.shown > 5*time.Second {
		f.shown = now
		d.o.Progress(fmt.Sprintf("filling: %d of %d objects", f.done, f.all))
	}
	for ; f.sent < f.all && d.underWay+len(d.agenda) < fillUnderWay; f.sent++ {
		x := &call{d: d, at: now, quiet: true}
		switch {
		case f.node < f.nodes:
			x.class, x.id = createNodes, f.node
			f.node++
		case f.lease < f.nodes:
			x.class, x.id = createLeases, f.lease
			f.lease++
		default:
			x.class, x.id, x.stage = createPods, d.pods.add(), stageReady
		}
		d.send(x)
	}
}
