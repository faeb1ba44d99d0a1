package watch

// driven is what a driver of the hub steps through.
type driven struct {
	parts []func() bool // each does a bounded piece of what one goroutine would do, and reports whether there was any
	next  int           // the part whose turn it is
}

// drive sets up what the goroutines would do.
func (h *Hub) drive() {
	h.driven.parts = append(h.driven.parts, h.offerPublished, h.notifyDue)
	for range catchupWorkers {
		h.driven.parts = append(h.driven.parts, (&worker{hub: h}).step)
	}
}

// Step does a bounded piece of what the goroutines of a hub would do, for the driver of one that has none (Config.Driven):
// it delivers what was published, sends the progress notifications that are due by the clock, or does a part of a catch-up
// turn. It reports whether there was anything to do, so that
//
//	for hub.Step() {
//	}
//
// brings the hub to rest: then every watcher has what was published, unless its sink is full. The pieces take turns, and a
// catch-up turn takes several Steps, between which the driver may do whatever others would do at the same time to a hub with
// goroutines. The same calls, with the same answers of the View, the Clock and the sinks, make the same sends in the same
// order over all streams. Steps must not overlap, nor be made in a sink. After Close it does nothing.
func (h *Hub) Step() bool {
	if !h.cfg.Driven {
		panic("BUG: Step of a hub that is not Config.Driven")
	}
	h.mu.Lock()
	closed := h.closed
	h.mu.Unlock()
	if closed {
		return false
	}
	d := &h.driven
	for range d.parts {
		part := d.parts[d.next]
		d.next = (d.next + 1) % len(d.parts)
		if part() {
			return true
		}
	}
	return false
}
