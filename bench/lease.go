package main

import (
	"fmt"
	"sync/atomic"
	"time"
)

const (
	nodeKey        = "/registry/leases/kube-node-lease/node-%06d"
	nodeClients    = 8000 // enough that requests wait for the server and not for a client
	nodeConns      = 50
	sustainableP99 = 1000 // ms
	sustainedShare = 0.97
)

// nodes are the keys that Kubernetes' nodes keep alive, with the revision each node last saw.
type nodes struct {
	revs      []atomic.Int64
	conflicts atomic.Int64
}

// nodeValue is what a node writes: 256 to 600 bytes, always the same number for one node.
func (c *caller) nodeValue(node, i int64) []byte {
	const least, most = 256, 600
	if c.value == nil {
		c.value = make([]byte, most)
	}
	return halfRandom(c.value[:least+node*31%(most-least+1)], uint64(i))
}

// fillNodes creates the nodes' keys.
func (w *workbench) fillNodes() error {
	w.nodes = &nodes{revs: make([]atomic.Int64, w.sizes.nodes)}
	op := func(c *caller, l limit, i int64) error {
		if err := c.put(l, c.numbered(nodeKey, i), c.nodeValue(i, i)); err != nil {
			return err
		}
		rev, err := revisionOf(c.reply.b)
		w.nodes.revs[i].Store(rev)
		return err
	}
	_, err := w.once(w.sizes.conns, &workload{clients: w.sizes.clients, total: int64(w.sizes.nodes), op: op})
	return err
}

// renew is the write of a node: put if nobody else wrote since, else get. Nodes come in an order that is not that of their keys.
func (n *nodes) renew(c *caller, l limit, i int64) error {
	const stride = 7919 // prime, so all nodes come before one comes again
	node := i * stride % int64(len(n.revs))
	c.req.b = appendUpdate(c.req.b[:0], &c.scratch, c.numbered(nodeKey, node), c.nodeValue(node, i), n.revs[node].Load())
	if err := c.call(l, methodTxn, &c.reply); err != nil {
		return err
	}
	rev, done, err := updated(c.reply.b)
	if !done {
		n.conflicts.Add(1)
	}
	n.revs[node].Store(rev)
	return err
}

// renewals runs the schedule of rate transactions a second.
func (w *workbench) renewals(cs conns, rate float64, d time.Duration) (*outcome, error) {
	return w.s.drive(cs, &workload{clients: nodeClients, rate: rate, d: d, grace: 3 * time.Second, crowded: true, op: w.nodes.renew})
}

func (w *workbench) leaseSteady() (*result, error) {
	cs, err := w.s.connect(nodeConns)
	if err != nil {
		return nil, err
	}
	defer cs.close()
	before := w.nodes.conflicts.Load()
	o, err := w.renewals(cs, float64(w.sizes.leaseRate), w.sizes.timed())
	if err != nil {
		return nil, err
	}
	return o.result().set("conflicts", float64(w.nodes.conflicts.Load()-before)), nil
}

// leaseMax looks for the highest rate that is sustained.
func (w *workbench) leaseMax() (*result, error) {
	cs, err := w.s.connect(nodeConns)
	if err != nil {
		return nil, err
	}
	defer cs.close()
	d := w.sizes.timed() / 2
	var best *result
	rate, err := highest(float64(w.sizes.leaseRate), twice(func(rate float64) (bool, error) {
		o, err := w.renewals(cs, rate, d)
		if err != nil {
			return false, err
		}
		r, achieved := o.result(), o.steadyRate(d)
		ok := sustained(r.Figures["p99"], achieved, rate) && r.Figures["refused"] == 0
		fmt.Printf("    %.0f/s: %.0f/s, p99 %.0f ms, %v\n", rate, achieved, r.Figures["p99"], ok)
		if ok {
			best = r
		}
		time.Sleep(d / 8) // what the step left behind ends before the next one
		return ok, nil
	}))
	if err != nil {
		return nil, err
	}
	return best.set("rate", rate), nil
}

// sustained says whether a rate was: p99 in ms, rates in requests a second.
func sustained(p99, achieved, rate float64) bool {
	return p99 <= sustainableP99 && achieved >= sustainedShare*rate
}

// steadyRate is how many requests a second were answered in the last three quarters of a schedule of length d: counted by
// when they were answered, so that latency alone does not make it smaller.
func (o *outcome) steadyRate(d time.Duration) float64 {
	n := 0
	for _, s := range o.samples {
		if end := s.at + s.took; s.fate == answered && end >= d/4 && end < d {
			n++
		}
	}
	return float64(n) / (d * 3 / 4).Seconds()
}

// twice gives a rate a second chance: another process may have had the machine the first time.
func twice(try func(rate float64) (bool, error)) func(rate float64) (bool, error) {
	return func(rate float64) (bool, error) {
		ok, err := try(rate)
		if err != nil || ok {
			return ok, err
		}
		return try(rate)
	}
}

// highest finds the highest rate at which try succeeds: up or down from start in steps of half, then three bisections, so that
// the answer is at most 7% too low.
func highest(start float64, try func(rate float64) (bool, error)) (float64, error) {
	const step, bisections, steps = 1.5, 3, 20
	good, bad := 0.0, 0.0
	for rate, n := start, 0; good == 0 || bad == 0; n++ {
		if n == steps {
			return 0, fmt.Errorf("no end of the sustained rates from %.0f/s on in %d steps: the last was %.0f/s", start, steps, rate)
		}
		ok, err := try(rate)
		if err != nil {
			return 0, err
		}
		if ok {
			good, rate = rate, rate*step
		} else {
			bad, rate = rate, rate/step
		}
	}
	for range bisections {
		middle := (good + bad) / 2
		ok, err := try(middle)
		if err != nil {
			return 0, err
		}
		if ok {
			good = middle
		} else {
			bad = middle
		}
	}
	return good, nil
}
