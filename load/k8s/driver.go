package k8s

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/load/lean"
)

// driver plays the cluster. Only its goroutine touches what has no lock.
type driver struct {
	o         *Options
	epoch     time.Time
	keys      *keyNames
	objects   *objectSet
	links     [][active]*link // by API server
	idle      []*link
	rec       atomic.Pointer[recorder]
	acks      [active]*acked
	deletes   deletions
	redials   atomic.Int64
	inbox     inbox
	making    making
	world     // the objects
	schedule  // what is due
	conflicts int64
}

// world is what the store holds as far as the driver knows.
type world struct {
	nodes      []node
	pods       podTable
	eventLease eventLease
	compaction []compactor // by API server
	highest    int64       // revision that was acknowledged
}

// node is a Node and its Lease: their revisions, and whether a write is under way.
type node struct {
	status, lease         int64
	statusBusy, leaseBusy bool
}

// compactor is an API server's part in compactions.
type compactor struct {
	version, revision int64
	busy              bool
}

// eventLease is the lease that new Events get.
type eventLease struct {
	id       int64
	used     int
	granted  time.Duration
	granting bool
	waiting  []due // Events that wait for it
}

// schedule is the agenda and what goes with it.
type schedule struct {
	agenda   agenda
	underWay int
	until    time.Duration // nothing new starts afterwards
	hasty    bool          // end early once the run is hopeless
	playing  int           // nodes with traffic, the first of those in the store
	closing  bool          // what was begun is brought to its end as fast as it goes
	serial   int64         // of Events
	turn     int           // of the API servers
	dirty    []*link
	rnd      *rand.Rand
	relisted time.Duration // the longest that an API server took to list a resource anew
	fill     *filling      // nil unless the store is being filled
	err      error         // ends everything
}

// inbox is where connections' readers put completed calls.
type inbox struct {
	mu   sync.Mutex
	list []*call
}

func (b *inbox) put(x *call) {
	b.mu.Lock()
	b.list = append(b.list, x)
	b.mu.Unlock()
}

func (b *inbox) take(into []*call) []*call {
	b.mu.Lock()
	defer b.mu.Unlock()
	into, b.list = b.list, into[:0]
	return into
}

// now is the present, since the begin of the program's run. It begins at 1 s, so that no instant is 0.
func (d *driver) now() time.Duration { return d.o.Clock.Now().Sub(d.epoch) + time.Second }

func newDriver(o *Options) (*driver, error) {
	objects, err := loadObjects()
	if err != nil {
		return nil, err
	}
	d := &driver{o: o, epoch: o.Clock.Now(), keys: newKeyNames(o.Store.Prefix), objects: objects}
	d.rec.Store(newRecorder(&o.SLO, 0, 0))
	d.rnd = rand.New(rand.NewPCG(1, 1))
	d.compaction = make([]compactor, o.Size.APIServers)
	for kind := range active {
		d.acks[kind] = newAcked()
	}
	return d, nil
}

// connect opens all connections; they are kept until ctx ends.
func (d *driver) connect(ctx context.Context, serving *sync.WaitGroup) error {
	n := 0
	dial := func() (*link, error) {
		l := &link{d: d, at: n}
		n++
		if err := l.dial(ctx); err != nil {
			return nil, err
		}
		return l, nil
	}
	for range d.o.Size.APIServers {
		var set [active]*link
		for kind := range active {
			l, err := dial()
			if err != nil {
				return err
			}
			l.watcher = &watcher{d: d, link: l, kind: kind}
			set[kind] = l
		}
		d.links = append(d.links, set)
		l, err := dial()
		if err != nil {
			return err
		}
		l.idle = &idleWatch{d: d}
		d.idle = append(d.idle, l)
	}
	d.eachLink(func(l *link) { serving.Go(func() { l.serve(ctx) }) })
	return nil
}

func (d *driver) eachLink(f func(*link)) {
	for s := range d.links {
		for _, l := range d.links[s] {
			f(l)
		}
		f(d.idle[s])
	}
}

func (d *driver) hangUp() {
	d.eachLink(func(l *link) {
		if conn := l.conn.Load(); conn != nil {
			conn.Close()
		}
	})
}

// kindOf is the resource on whose connection a class travels.
func kindOf(x *call) resource {
	switch x.class {
	case updateNodes, createNodes, getNodes:
		return nodes
	case updateLeases, createLeases, revisions:
		return leases
	case createEvents, grantLeases, updateCompact, compactStore:
		return events
	case relists:
		return x.list.kind
	}
	return pods
}

// send sends a call now, over the connection of its API server and resource, or of another one while that is down.
func (d *driver) send(x *call) {
	now := d.now()
	if !x.quiet {
		d.rec.Load().started(x.at, now)
	}
	kind := kindOf(x)
	servers := len(d.links)
	own := 0
	switch {
	case x.list != nil, x.class == updateCompact, x.class == compactStore:
		own = int(x.id)
	default:
		d.turn++
		own = d.turn
	}
	for i := range servers * int(active) {
		l := d.links[(own+i)%servers][(int(kind)+i/servers)%int(active)]
		conn := l.up()
		if conn == nil || !d.hand(conn, x) {
			continue
		}
		d.underWay++
		if !l.dirty {
			l.dirty = true
			d.dirty = append(d.dirty, l)
		}
		return
	}
	d.agenda.add(due{at: now + linkDown, what: retryCall, call: x})
}

// hand gives a call to a connection; false when that takes no more.
func (d *driver) hand(conn *lean.Conn, x *call) bool {
	if x.class == deletePods {
		d.deletes.begin(x.id, x.at)
	}
	method, msg := d.message(x)
	if x.list == nil {
		return conn.Call(method, msg, x) == nil
	}
	x.scan = pageScan{each: x.list.each}
	stream, err := conn.Open(method, x)
	if err != nil {
		return false
	}
	_ = stream.Send(msg, true) // a failure ends the connection, and with it the stream, which completes the call
	return true
}

func (d *driver) flush() {
	for _, l := range d.dirty {
		l.dirty = false
		if conn := l.conn.Load(); conn != nil {
			_ = conn.Flush() // a failure ends the connection, which completes its calls
		}
	}
	d.dirty = d.dirty[:0]
}

var errStuck = errors.New("calls are under way that do not end")

// loop does what is due until there is nothing left, or ctx ends.
func (d *driver) loop(ctx context.Context) error {
	var done []*call
	patience := time.Duration(0)
	for d.err == nil {
		done = d.inbox.take(done)
		for i, x := range done {
			d.underWay--
			d.completed(x)
			done[i] = nil
		}
		now := d.now()
		for range len(d.agenda) { // what is added meanwhile has its turn in the next round
			next, ok := d.agenda.next(d.horizon(now))
			if !ok {
				break
			}
			d.act(next, now)
		}
		d.fillMore()
		d.flush()
		if len(d.agenda) == 0 && d.underWay == 0 && d.fill == nil {
			return d.err
		}
		if d.hasty && now < d.until && (d.underWay > hopelessUnderWay || d.rec.Load().hopeless()) {
			d.until = now
		}
		if now >= d.until && patience == 0 && d.fill == nil {
			patience = now + drainPatience
		}
		if patience != 0 && now > patience {
			return fmt.Errorf("%w: %d, a minute after the end", errStuck, d.underWay)
		}
		if !d.wait(ctx, d.pause(now)) {
			return ctx.Err()
		}
	}
	return d.err
}

// horizon is up to when things are due: once closing, pods' lives go on without their pauses.
func (d *driver) horizon(now time.Duration) time.Duration {
	if now >= d.until {
		d.closing = true
	}
	if d.closing {
		return now + DurationMax + 24*time.Hour // everything
	}
	return now
}

func (d *driver) pause(now time.Duration) time.Duration {
	p := pollInbox
	if len(d.agenda) > 0 {
		p = min(p, d.agenda[0].at-now)
	}
	return max(p, quantum)
}
