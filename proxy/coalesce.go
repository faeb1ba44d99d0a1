package proxy

import (
	"bytes"
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/rpc"
)

// coalescer lets identical reads share one call to the store. It keeps no answer: a read is answered by a call that was under
// way when it came, if it is serializable, or else by one that began after it came. The credentials are part of what makes
// reads identical, so that the store decides about every read whether it is permitted, at that time.
//
//	call under way  o────────────o      answers a, b
//	a ──────────────┘      │     │
//	b (serializable) ──────┘     │
//	c (linearizable)      ──┐    o────────────o      answers c, d: it begins when the first is answered,
//	d (linearizable)        └────┘                   or after patience when that one takes too long
type coalescer struct {
	f      *forwarder
	seed   maphash.Seed
	shards [16]shard
	late   atomic.Int64  // flights that wait for another
	wake   chan struct{} // holds a token when late may have become positive
}

// patience is how long a read waits for the identical one before it to be answered, so that one member that hangs does not
// hold up the reads that another would answer.
const patience = 5 * time.Millisecond

type shard struct {
	mu      sync.Mutex
	flights map[string]*flight // the youngest that was started, by key
}

// flight is one call made for all the reads in it. The shard's lock guards it; no method of package rpc is called under that.
type flight struct {
	errand  errand
	c       *coalescer
	s       *shard
	key     string
	back    rewriter
	readers []*rpc.Call
	gone    int // readers that gave up
	begun   bool
	ended   bool
	next    *flight // what begins when this one is answered
	since   time.Time
}

func (c *coalescer) init(f *forwarder) {
	c.f, c.seed, c.wake = f, maphash.MakeSeed(), make(chan struct{}, 1)
	for i := range c.shards {
		c.shards[i].flights = map[string]*flight{}
	}
}

// read answers a Range request.
func (c *coalescer) read(call *rpc.Call, o *origin, msg []byte, back rewriter) {
	key := o.key + "\x00" + string(msg)
	s := &c.shards[maphash.String(c.seed, key)%uint64(len(c.shards))]
	serial := isSerializable(msg)
	s.mu.Lock()
	current := s.flights[key]
	fl, start := current, false
	switch {
	case current == nil:
		fl, start = c.flight(s, key, o, msg, back), true
		fl.begun = true
		s.flights[key] = fl
	case serial:
	case current.next != nil:
		fl = current.next
	default:
		fl = c.flight(s, key, o, msg, back)
		fl.since = c.f.clock.Now()
		current.next = fl
		c.late.Add(1)
		notify(c.wake)
	}
	if serial {
		fl.errand.raise(c.f.order.floor())
	}
	fl.readers = append(fl.readers, call)
	s.mu.Unlock()
	// Only now: it may end the read at once, and is called with the client's connection locked.
	call.SetWitness(fl)
	if start {
		fl.start()
	} else {
		c.f.counts.shared.Add(1)
	}
}

func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func (c *coalescer) flight(s *shard, key string, o *origin, msg []byte, back rewriter) *flight {
	fl := &flight{c: c, s: s, key: key, back: back}
	fl.errand = errand{f: c.f, header: o.header, msg: bytes.Clone(msg), to: fl}
	return fl
}

// start sends the call. It must not hold the shard's lock.
func (fl *flight) start() {
	fl.c.f.counts.asked.Add(1)
	fl.errand.start()
}

// answered implements receiver: all readers get the same.
func (fl *flight) answered(body []byte, bad *rpc.Status) {
	fl.s.mu.Lock()
	fl.ended = true
	readers := fl.readers
	fl.readers = nil
	next := fl.follow()
	fl.s.mu.Unlock()
	if next != nil {
		next.start()
	}
	if bad == nil && fl.back != nil {
		body, bad = fl.back(body)
	}
	for _, r := range readers {
		reply(r, body, bad, fl.errand.metadata, nil)
	}
}

// follow takes the flight out and puts the next one, if any, in its place. The shard is locked.
func (fl *flight) follow() *flight {
	next := fl.next
	fl.next = nil
	if next != nil {
		fl.c.late.Add(-1)
		next.begun = true
	}
	if fl.s.flights[fl.key] == fl {
		delete(fl.s.flights, fl.key)
		if next != nil {
			fl.s.flights[fl.key] = next
		}
	}
	return next
}

// Replied implements rpc.Witness.
func (fl *flight) Replied(rpc.Message) {}

// Ended implements rpc.Witness for every reader: when all gave up, the call is taken back. A flight that has not begun is begun
// all the same; its readers' ends cost one call at most.
func (fl *flight) Ended(*rpc.Status, time.Duration) {
	fl.s.mu.Lock()
	fl.gone++
	abandoned := fl.begun && !fl.ended && fl.gone == len(fl.readers) && fl.next == nil
	if abandoned {
		fl.ended = true
		fl.follow()
	}
	fl.s.mu.Unlock()
	if abandoned {
		fl.errand.cancel()
	}
}

// run begins flights that have waited for longer than patience, until ctx ends.
func (c *coalescer) run(ctx context.Context) {
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
		t := c.f.clock.NewTicker(patience)
		for c.late.Load() > 0 && ctx.Err() == nil {
			select {
			case now := <-t.C:
				c.hurry(now)
			case <-ctx.Done():
			}
		}
		t.Stop()
	}
}

// hurry begins what has waited too long by now.
func (c *coalescer) hurry(now time.Time) {
	var begin []*flight
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for key, fl := range s.flights {
			if next := fl.next; next != nil && now.Sub(next.since) >= patience {
				fl.next = nil
				c.late.Add(-1)
				s.flights[key], next.begun = next, true
				begin = append(begin, next)
			}
		}
		s.mu.Unlock()
	}
	for _, fl := range begin {
		fl.start()
	}
}
