package node

import "go.etcd.io/raft/v3/raftpb"

// Driver is a host without goroutines: somebody else takes each of its steps, one after the other. That is how a simulator
// runs many members on one goroutine, in an order that it chooses. The steps are those of the host's own goroutines.
//
// It is not safe for concurrent use, and Host.Stop must not be called: Abandon ends it.
type Driver struct {
	Host   *Host
	parts  *parts
	keeper *keeper
	ended  bool
}

// Drive is Start for a caller who takes the steps.
func Drive(c Config) (*Driver, error) {
	p, err := open(c)
	if err != nil {
		return nil, err
	}
	d := &Driver{Host: p.host, parts: p}
	if p.host.cfg.Engine != nil {
		d.keeper = &keeper{h: p.host}
	}
	return d, nil
}

// Tick moves raft's clock on by a tick, and takes a turn.
func (d *Driver) Tick() {
	if !d.over() {
		d.parts.loop.take(true)
	}
}

// ConfState is the group as raft works with it, in memory that must not be changed.
func (d *Driver) ConfState() *raftpb.ConfState {
	d.parts.loop.mu.Lock()
	defer d.parts.loop.mu.Unlock()
	return d.parts.loop.conf
}

// Wants says which steps have something to do.
func (d *Driver) Wants() (turn, write, apply bool) {
	h := d.Host
	if d.over() {
		return false, false, false
	}
	return len(h.inbox.wake) > 0 || h.proposals.waiting(), h.appends.waiting(), !h.applies.empty()
}

// Turn has raft hear of everything that has come in, and carries out what it wants but for the work of Write and Apply.
func (d *Driver) Turn() {
	if d.over() {
		return
	}
	select {
	case <-d.Host.inbox.wake:
	default:
	}
	d.parts.loop.take(false)
}

// Write makes durable what raft has handed out until now. The next turn hears of it.
func (d *Driver) Write() {
	if d.over() {
		return
	}
	a := d.parts.append
	a.mu.Lock()
	defer a.mu.Unlock()
	if messages := d.Host.appends.take(); len(messages) > 0 && a.write(messages) {
		d.Host.inbox.ring()
	}
}

// Apply applies what is committed, and answers for it.
func (d *Driver) Apply() {
	if d.over() || d.Host.applies.empty() {
		return
	}
	d.work()
	d.Host.inbox.ring() // what the applier leaves for the next turn comes at once: there is nothing else to wait for
}

// Tidy does a step of housekeeping of the machine, and lets go of what the log need not keep.
func (d *Driver) Tidy() {
	if d.over() {
		return
	}
	if d.Host.applies.empty() {
		d.work()
	}
	if d.keeper == nil || d.over() {
		return
	}
	if err := d.keeper.tidy(); err != nil {
		d.Host.fail(err)
	}
}

func (d *Driver) work() {
	d.parts.apply.mu.Lock()
	defer d.parts.apply.mu.Unlock()
	d.parts.apply.work()
}

// over reports whether the host has failed, or was abandoned: no step does anything any more.
func (d *Driver) over() bool { return d.ended || d.Host.ended() }

// Abandon ends the host where it is and refuses everybody who waits, as a process does that is killed. It may be called more
// than once.
func (d *Driver) Abandon() {
	if d.ended {
		return
	}
	d.ended = true
	d.Host.finish()
	d.parts.loop.finish()
	d.Host.refuseAll()
	close(d.Host.life.done)
}
