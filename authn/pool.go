package authn

import (
	"sync"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/limits"
)

// lane is who has to share the pool fairly: a known user's password, all unknown users together, or new passwords.
type lane struct {
	kind byte
	user string
}

const (
	laneKnown byte = iota
	laneUnknown
	laneNew
)

// job is one computation and everybody who waits for it.
type job struct {
	lane lane
	key  digest // equal keys share a computation; zero for none
	work func() error
	done []func(error)
}

// pool runs expensive computations on a few goroutines, which exist only while there is something to do. Lanes take turns,
// so that a flood in one of them delays the others by one computation each and not by the whole queue.
type pool struct {
	parallel int

	mu      sync.Mutex
	closed  bool
	running int
	queued  int // jobs that wait for a goroutine
	waiting int // functions to call, of all jobs
	lanes   map[lane][]*job
	turns   []lane // lanes with a queue, the next one first
	shared  map[digest]*job
	active  map[*job]struct{}
}

func newPool(parallel int) *pool {
	return &pool{parallel: parallel, lanes: map[lane][]*job{}, shared: map[digest]*job{}, active: map[*job]struct{}{}}
}

// add queues j, or joins one who asks the same. It calls done at once when there is no room.
func (p *pool) add(j *job, done func(error)) {
	if err := p.admit(j, done); err != nil {
		done(err)
	}
}

func (p *pool) admit(j *job, done func(error)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fault.Stopped
	}
	if p.waiting >= limits.PasswordsWaiting {
		return fault.TooManyRequests
	}
	if first := p.shared[j.key]; first != nil && j.key != (digest{}) {
		first.done = append(first.done, done)
		p.waiting++
		return nil
	}
	if p.queued >= limits.PasswordQueue || len(p.lanes[j.lane]) >= limits.PasswordQueuePerUser {
		return fault.TooManyRequests
	}
	j.done = append(j.done, done)
	p.waiting++
	if j.key != (digest{}) {
		p.shared[j.key] = j
	}
	if len(p.lanes[j.lane]) == 0 {
		p.turns = append(p.turns, j.lane)
	}
	p.lanes[j.lane] = append(p.lanes[j.lane], j)
	p.queued++
	if p.running < p.parallel {
		p.running++
		go p.run()
	}
	return nil
}

func (p *pool) run() {
	for {
		j := p.next()
		if j == nil {
			return
		}
		err := j.work()
		for _, done := range p.finish(j) {
			done(err)
		}
	}
}

// next takes the first job of the lane whose turn it is; nil ends the goroutine.
func (p *pool) next() *job {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.turns) == 0 {
		p.running--
		return nil
	}
	l := p.turns[0]
	p.turns = p.turns[1:]
	queue := p.lanes[l]
	j := queue[0]
	if queue = queue[1:]; len(queue) > 0 {
		p.lanes[l] = queue
		p.turns = append(p.turns, l)
	} else {
		delete(p.lanes, l)
	}
	p.queued--
	p.active[j] = struct{}{}
	return j
}

// finish takes j out and returns who waits for it; nobody when the pool was closed meanwhile.
func (p *pool) finish(j *job) []func(error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.active, j)
	if p.shared[j.key] == j {
		delete(p.shared, j.key)
	}
	done := j.done
	j.done = nil
	p.waiting -= len(done)
	return done
}

// close answers everybody with fault.Stopped and takes nothing more. It does not wait for a computation under way.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	var all []func(error)
	take := func(j *job) {
		all = append(all, j.done...)
		j.done = nil
	}
	for _, l := range p.turns {
		for _, j := range p.lanes[l] {
			take(j)
		}
	}
	for j := range p.active {
		take(j)
	}
	p.turns, p.queued, p.waiting = nil, 0, 0
	clear(p.lanes)
	clear(p.shared)
	p.mu.Unlock()
	for _, done := range all {
		done(fault.Stopped)
	}
}
