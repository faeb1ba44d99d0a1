package check

import (
	"fmt"
	"path"
	"strings"
)

// execute is the store: the state after a request, its answer, and what it causes.
func (s *v2state) execute(r *V2Request) (*v2writer, *V2Event, *V2Refusal) {
	clock := r.Time
	if r.Method == "MODE" && r.Value != "separate" { // what it makes files of has no times, and its own is not kept
		clock = 0
	}
	w := s.write(clock)
	refusal := w.request(r)
	if refusal != nil {
		return s.write(clock), nil, refusal
	}
	switch r.Method {
	case "GET", "QGET":
		e, refusal := s.get(r, w.clock)
		return w, e, refusal
	case "SYNC", "MODE":
		return w, nil, nil
	}
	return w, &w.events[0], nil
}

func (w *v2writer) request(r *V2Request) *V2Refusal {
	p := v2clean(r.Path)
	switch r.Method {
	case "POST":
		p = v2clean(fmt.Sprintf("%s/%020d", r.Path, w.index+1))
		return w.create(p, r)
	case "PUT":
		compared := r.PrevIndex != 0 || r.PrevValue != ""
		switch {
		case r.PrevExist != nil && !*r.PrevExist:
			return w.create(p, r)
		case compared:
			return w.swap(p, r)
		case r.PrevExist != nil:
			return w.update(p, r)
		}
		return w.set(p, r)
	case "DELETE":
		if r.PrevIndex != 0 || r.PrevValue != "" {
			return w.compareAndDelete(p, r)
		}
		return w.remove(p, r)
	case "SYNC":
		w.expire(r.Time)
	case "MODE":
		return w.mode(r)
	}
	return nil
}

// place says why nothing can be made at a path.
func (w *v2writer) place(p string) *V2Refusal {
	if v2fixed(p) {
		return w.refuse(107, "/")
	}
	if at := w.obstacle(p); at != "" {
		return w.refuse(104, "%s", at)
	}
	return nil
}

func (w *v2writer) create(p string, r *V2Request) *V2Refusal {
	if no := w.place(p); no != nil {
		return no
	}
	if _, ok := w.nodes.get(p); ok {
		return w.refuse(105, "%s", p)
	}
	w.put("create", p, v2node{dir: r.Dir, value: r.Value, expires: r.Expiration}, false)
	return nil
}

func (w *v2writer) set(p string, r *V2Request) *V2Refusal {
	old, no := w.find(p)
	if no != nil && (no.Code != 100 || r.Refresh) {
		return no
	}
	if no := w.place(p); no != nil {
		return no
	}
	value := r.Value
	if r.Refresh {
		value = old.value
	}
	if no == nil && old.dir {
		return w.refuse(102, "%s", p)
	}
	w.put("set", p, v2node{dir: r.Dir, value: value, expires: r.Expiration}, r.Refresh)
	return nil
}

// alter changes a node where it is.
func (w *v2writer) alter(action, p string, old v2node, r *V2Request) {
	n := old
	n.expires = r.Expiration
	e := V2Event{Action: action, Refresh: r.Refresh}
	if !n.dir {
		n.modified = w.index + 1
		if !r.Refresh {
			n.value = r.Value
		}
	}
	prev := old.shown(p, w.clock)
	e.Node, e.Prev = n.shown(p, w.clock), &prev
	e.Node.Modified = w.index + 1
	w.store(p, n)
	w.emit(e)
	if key := keyOf(p); key != "" && !n.dir && !r.Refresh {
		w.change(V2Change{Key: key, Value: n.value})
	}
}

func (w *v2writer) update(p string, r *V2Request) *V2Refusal {
	if v2fixed(p) {
		return w.refuse(107, "/")
	}
	old, no := w.find(p)
	switch {
	case no != nil:
		return no
	case old.dir && r.Value != "":
		return w.refuse(102, "%s", p)
	}
	w.alter("update", p, old, r)
	return nil
}

// compared says why a file is not what a request expects.
func (w *v2writer) compared(n v2node, r *V2Request) *V2Refusal {
	var why []string
	if r.PrevValue != "" && r.PrevValue != n.value {
		why = append(why, fmt.Sprintf("[%s != %s]", r.PrevValue, n.value))
	}
	if r.PrevIndex != 0 && r.PrevIndex != n.modified {
		why = append(why, fmt.Sprintf("[%d != %d]", r.PrevIndex, n.modified))
	}
	if why == nil {
		return nil
	}
	return w.refuse(101, "%s", strings.Join(why, " "))
}

func (w *v2writer) swap(p string, r *V2Request) *V2Refusal {
	if v2fixed(p) {
		return w.refuse(107, "/")
	}
	old, no := w.find(p)
	switch {
	case no != nil:
		return no
	case old.dir:
		return w.refuse(102, "%s", p)
	}
	if no := w.compared(old, r); no != nil {
		return no
	}
	w.alter("compareAndSwap", p, old, r)
	return nil
}

func (w *v2writer) compareAndDelete(p string, r *V2Request) *V2Refusal {
	old, no := w.find(p)
	switch {
	case no != nil:
		return no
	case old.dir:
		return w.refuse(102, "%s", p)
	}
	if no := w.compared(old, r); no != nil {
		return no
	}
	w.take("compareAndDelete", p)
	return nil
}

func (w *v2writer) remove(p string, r *V2Request) *V2Refusal {
	if v2fixed(p) {
		return w.refuse(107, "/")
	}
	old, no := w.find(p)
	switch {
	case no != nil:
		return no
	case old.dir && !r.Dir && !r.Recursive:
		return w.refuse(102, "%s", p)
	case old.dir && !r.Recursive && len(w.below(p)) > 0:
		return w.refuse(108, "%s", p)
	}
	w.take("delete", p)
	return nil
}

// expire removes what has expired by a time, the earliest first.
func (w *v2writer) expire(now int64) {
	for {
		first, at := "", int64(0)
		w.nodes.each("", "", true, func(p string, n v2node) {
			if n.expires != 0 && n.expires <= now && (first == "" || n.expires < at) {
				first, at = p, n.expires
			}
		})
		if first == "" {
			return
		}
		w.take("expire", first)
	}
}

// mode begins or ends shared mode.
func (w *v2writer) mode(r *V2Request) *V2Refusal {
	if r.Value == "separate" {
		w.shared, w.hidden = false, nil
		return nil
	}
	if w.shared {
		return nil
	}
	var missing []V2Change
	var no *V2Refusal
	w.nodes.each(v2keys+"/", v2keys+"0", false, func(p string, n v2node) {
		if n.dir || no != nil {
			return
		}
		switch value, ok := w.keys.get(keyOf(p)); {
		case ok && value != n.value:
			no = w.refuse(101, "%s", "*")
		case !ok:
			missing = append(missing, V2Change{Key: keyOf(p), Value: n.value})
		}
	})
	if no != nil {
		return no
	}
	w.shared = true
	var keys []V2Change
	w.keys.each("", "", true, func(k, v string) { keys = append(keys, V2Change{Key: k, Value: v}) })
	for _, c := range keys {
		if p := v2pathOf(c.Key); p != "" {
			if n, ok := w.nodes.get(p); !ok || n.dir {
				w.follow(c)
			}
		}
	}
	for _, c := range missing {
		w.change(c)
	}
	return nil
}

// get reads.
func (s *v2state) get(r *V2Request, clock int64) (*V2Event, *V2Refusal) {
	p := v2clean(r.Path)
	n, no := s.find(p)
	if no != nil {
		return nil, no
	}
	shown := n.shown(p, clock)
	if n.dir {
		shown.Nodes = s.list(p, r.Recursive, clock)
	}
	return &V2Event{Index: s.index, Action: "get", Node: shown}, nil
}

func (s *v2state) list(dir string, recursive bool, clock int64) (out []V2Node) {
	for _, p := range s.below(dir) {
		if path.Dir(p) != dir || strings.HasPrefix(path.Base(p), "_") {
			continue
		}
		n, _ := s.nodes.get(p)
		shown := n.shown(p, clock)
		if n.dir && recursive {
			shown.Nodes = s.list(p, true, clock)
		}
		out = append(out, shown)
	}
	return out
}
