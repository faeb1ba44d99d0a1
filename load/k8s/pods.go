package k8s

import (
	"fmt"
	"time"
)

// podTable knows the pods in the store. Pods are numbered in the order of their creation and retired in the same order.
type podTable struct {
	head, tail int64 // those from head to before tail live
	pods       []pod // a ring of a power of two, by number
}

// pod is one pod.
type pod struct {
	rev   int64
	stage int8
	busy  bool // its life is going on: it may not be retired yet
}

func (t *podTable) live() int64 { return t.tail - t.head }

func (t *podTable) at(n int64) *pod { return &t.pods[n&int64(len(t.pods)-1)] }

// add makes room for the next pod and returns its number. Retired pods stay in the ring as long as their deletion takes.
func (t *podTable) add() int64 {
	const slack = 1 << 16 // more deletions than can be under way
	if t.live()+slack > int64(len(t.pods)) {
		old := *t
		t.pods = make([]pod, max(2*len(old.pods), 2*slack))
		for n := max(old.head-slack/2, 0); n < old.tail; n++ {
			*t.at(n) = *old.at(n)
		}
	}
	n := t.tail
	t.tail++
	*t.at(n) = pod{}
	return n
}

// The pauses in a pod's life: until its stage, from the one before.
var pauses = [stages]time.Duration{
	stageBound: 20 * time.Millisecond, stageInitialized: 200 * time.Millisecond, stageStarted: time.Second, stageReady: 500 * time.Millisecond,
}

// deletionPause is from the mark of a deletion to the deletion.
const deletionPause = time.Second

// gone is the stage after the last: the pod is to be deleted.
const gone = stages

// space is a pod's namespace. It must not change while the cluster grows, and so does not depend on its size.
func (d *driver) space(pod int64) int64 {
	return pod / (nodesPerSpace * int64(d.o.Size.PodsPerNode)) % 10_000
}

func (d *driver) nodeOf(pod int64) int64 { return pod % int64(len(d.nodes)) }

// newPod begins a pod's life.
func (d *driver) newPod(at time.Duration) {
	if d.crowded(createPods, at) {
		return
	}
	n := d.pods.add()
	d.pods.at(n).busy = true
	d.send(&call{d: d, class: createPods, id: n, at: at})
}

// stepPod writes a pod's next stage, or deletes it.
func (d *driver) stepPod(x due) {
	p := d.pods.at(x.id)
	if p.stage++; p.stage == gone {
		d.send(&call{d: d, class: deletePods, id: x.id, at: x.at, rev: p.rev})
		return
	}
	d.send(&call{d: d, class: updatePods, id: x.id, stage: int(p.stage), at: x.at, rev: p.rev})
}

// retire begins the end of the oldest pod. One whose life has only begun is left for later.
func (d *driver) retire(at time.Duration) {
	if d.pods.live() == 0 || d.pods.at(d.pods.head).busy || d.crowded(deletePods, at) {
		return
	}
	n := d.pods.head
	d.pods.head++
	d.pods.at(n).stage = stageReady
	d.stepPod(due{at: at, id: n})
}

// podApplied goes on with a pod's life.
func (d *driver) podApplied(x *call) {
	if x.class == deletePods {
		return
	}
	p := d.pods.at(x.id)
	p.rev, p.stage = x.answer.revision, int8(x.stage)
	switch x.stage {
	case stageReady:
		p.busy = false
	case stageTerminating:
		d.agenda.add(due{at: x.answer.at + deletionPause, what: stepPod, id: x.id})
	default:
		d.agenda.add(due{at: x.answer.at + pauses[x.stage+1], what: stepPod, id: x.id})
		if x.stage == stageCreated {
			for i := range d.o.Rates.EventsOfPod {
				d.agenda.add(due{at: x.answer.at + time.Duration(i+1)*300*time.Millisecond, what: postEvent, id: x.id})
			}
		}
	}
}

// postEvent writes an Event about a pod, with the lease that Events share for a while.
func (d *driver) postEvent(x due) {
	l := &d.eventLease
	l.used++
	if l.id == 0 || l.used > reuseLease || x.at-l.granted > reuseLeaseFor {
		l.waiting = append(l.waiting, x)
		if !l.granting {
			l.granting = true
			d.send(&call{d: d, class: grantLeases, at: x.at})
		}
		return
	}
	d.serial++
	d.send(&call{d: d, class: createEvents, id: x.id, at: x.at, rev: d.serial})
}

// granted takes the new lease of Events, and sends those that waited for it.
func (d *driver) granted(x *call) {
	l := &d.eventLease
	l.granting = false
	if x.answer.err == nil {
		l.id, l.used, l.granted = x.answer.lease, 0, x.answer.at
	}
	waiting := l.waiting
	l.waiting = nil
	for _, w := range waiting {
		if x.answer.err != nil {
			w.at = x.answer.at + retryAfter
			d.agenda.add(w)
			continue
		}
		w.at = max(w.at, x.answer.at)
		d.postEvent(w)
	}
}

// errorLost is an acknowledged write that is not there.
func errorLost(x *call) error {
	return fmt.Errorf("%s %s number %d: the store holds no such key, although its last write, of revision %d, was acknowledged",
		kinds[x.class].verb, kinds[x.class].resource, x.id, x.rev)
}
