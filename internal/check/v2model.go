package check

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"
)

// v2node is a node of the model.
type v2node struct {
	dir               bool
	value             string
	expires           int64
	created, modified uint64
}

// v2state is the v2 tree as the documents have it, and the v3 keys beside it. It is immutable: an execution returns the next one.
type v2state struct {
	index  uint64
	now    int64 // the latest time that a request told
	shared bool
	nodes  *tree[v2node]
	hidden *tree[string] // in shared mode: v3 keys that cannot be shown, by their paths
	keys   *tree[string] // v3 keys
}

const (
	v2keys   = "/1"
	v2second = 1_000_000_000
)

func v2genesis() *v2state {
	s := &v2state{}
	s.nodes = s.nodes.with("/", v2node{dir: true}, 0).with("/0", v2node{dir: true}, 0).with(v2keys, v2node{dir: true}, 0)
	return s
}

// v2writer collects what one entry does to a copy of a state.
type v2writer struct {
	v2state
	clock   int64 // that times to live are counted from
	events  []V2Event
	was     []*tree[v2node] // the nodes when each event happened; what it removes is still there
	changes []V2Change      // of v3 keys
	mirror  bool            // what happens follows from v3 keys
}

func (s *v2state) write(clock int64) *v2writer {
	w := &v2writer{v2state: *s}
	w.now = max(w.now, clock)
	if w.clock = clock; clock == 0 {
		w.clock = w.now
	}
	return w
}

func v2left(expires, clock int64) int64 {
	if expires == 0 {
		return 0
	}
	left := expires - clock
	if left > 0 {
		return (left + v2second - 1) / v2second
	}
	return -(-left / v2second)
}

func (n v2node) shown(p string, clock int64) V2Node {
	return V2Node{Key: p, Value: n.value, Shown: !n.dir, Dir: n.dir, Expiration: n.expires, TTL: v2left(n.expires, clock), Modified: n.modified, Created: n.created}
}

func v2clean(p string) string { return path.Clean("/" + p) }

func v2fixed(p string) bool { return p == "/" || p == "/0" || p == v2keys }

// above lists the directories that a path lies in, from the outermost.
func above(p string) (out []string) {
	for i := 1; i < len(p); i++ {
		if p[i] == '/' {
			out = append(out, p[:i])
		}
	}
	return out
}

func (s *v2state) refuse(code int, format string, args ...any) *V2Refusal {
	return &V2Refusal{Code: code, Cause: fmt.Sprintf(format, args...), Index: s.index}
}

// find walks to a node.
func (s *v2state) find(p string) (v2node, *V2Refusal) {
	for _, dir := range above(p) {
		switch n, ok := s.nodes.get(dir); {
		case !ok:
			return v2node{}, s.refuse(100, "%s", dir)
		case !n.dir:
			return v2node{}, s.refuse(104, "%s", dir)
		}
	}
	n, ok := s.nodes.get(p)
	if !ok {
		return v2node{}, s.refuse(100, "%s", p)
	}
	return n, nil
}

// obstacle is the file that keeps a path from being, "" if there is none.
func (s *v2state) obstacle(p string) string {
	for _, dir := range above(p) {
		if n, ok := s.nodes.get(dir); ok && !n.dir {
			return dir
		}
	}
	return ""
}

// below lists the paths under p, in order.
func (s *v2state) below(p string) (out []string) {
	prefix := strings.TrimSuffix(p, "/") + "/"
	s.nodes.each(prefix, prefix[:len(prefix)-1]+"0", false, func(k string, _ v2node) {
		if k != prefix {
			out = append(out, k)
		}
	})
	return out
}

func (w *v2writer) emit(e V2Event) {
	w.index++
	e.Index = w.index
	w.events, w.was = append(w.events, e), append(w.was, w.nodes)
}

func (w *v2writer) store(p string, n v2node) { w.nodes = w.nodes.with(p, n, 0) }

func (w *v2writer) change(c V2Change) {
	if !w.shared || w.mirror {
		return
	}
	if c.Delete {
		w.keys = w.keys.without(c.Key)
	} else {
		w.keys = w.keys.with(c.Key, c.Value, 0)
	}
	w.changes = append(w.changes, c)
}

// keyOf is the v3 key of a path, "" if it has none.
func keyOf(p string) string {
	if !strings.HasPrefix(p, v2keys+"/") {
		return ""
	}
	return p[len(v2keys):]
}

// v2pathOf is the path of a v3 key, "" if it has none.
func v2pathOf(key string) string {
	if !strings.HasPrefix(key, "/") || key == "/" || path.Clean(key) != key || !utf8.ValidString(key) {
		return ""
	}
	return v2keys + key
}

// put makes a node at a path where it may be, in the place of what is there.
func (w *v2writer) put(action, p string, n v2node, refresh bool) {
	at := w.index + 1
	old, had := w.nodes.get(p)
	n.created, n.modified = at, at
	if n.dir {
		n.value = ""
	}
	for _, dir := range above(p) {
		if _, ok := w.nodes.get(dir); !ok {
			w.store(dir, v2node{dir: true, created: at, modified: at})
		}
	}
	w.store(p, n)
	e := V2Event{Action: action, Node: n.shown(p, w.clock), Refresh: refresh}
	if had {
		prev := old.shown(p, w.clock)
		e.Prev = &prev
	}
	w.emit(e)
	if key := keyOf(p); key != "" && !refresh {
		switch {
		case !n.dir:
			w.change(V2Change{Key: key, Value: n.value})
		case had:
			w.change(V2Change{Key: key, Delete: true})
		}
	}
	if had && n.dir {
		w.reveal(p)
	}
}

// take removes a node and all below it.
func (w *v2writer) take(action, p string) {
	n, _ := w.nodes.get(p)
	gone := append([]string{p}, w.below(p)...)
	prev := n.shown(p, w.clock)
	e := V2Event{Action: action, Node: V2Node{Key: p, Dir: n.dir, Modified: w.index + 1, Created: n.created}, Prev: &prev}
	w.emit(e)
	for i := len(gone) - 1; i >= 0; i-- {
		if c, _ := w.nodes.get(gone[i]); !c.dir && keyOf(gone[i]) != "" {
			w.change(V2Change{Key: keyOf(gone[i]), Delete: true})
		}
		w.nodes = w.nodes.without(gone[i])
	}
	w.reveal(p)
}

// reveal shows the v3 keys that have a place now.
func (w *v2writer) reveal(p string) {
	var list []string
	if _, ok := w.hidden.get(p); ok {
		list = append(list, p)
	}
	w.hidden.each(p+"/", p+"0", false, func(k string, _ string) { list = append(list, k) })
	for _, k := range list {
		value, _ := w.hidden.get(k)
		if w.show(k, value) {
			w.hidden = w.hidden.without(k)
		}
	}
}

// show makes a v3 key a file, if it has a place.
func (w *v2writer) show(p, value string) bool {
	if n, ok := w.nodes.get(p); ok && n.dir || w.obstacle(p) != "" {
		return false
	}
	before := w.mirror
	w.mirror = true
	w.put("set", p, v2node{value: value}, false)
	w.mirror = before
	return true
}

// follow does to files what happened to a v3 key.
func (w *v2writer) follow(c V2Change) {
	if c.Delete {
		w.keys = w.keys.without(c.Key)
	} else {
		w.keys = w.keys.with(c.Key, c.Value, 0)
	}
	p := v2pathOf(c.Key)
	if !w.shared || p == "" {
		return
	}
	w.mirror = true
	n, ok := w.nodes.get(p)
	switch {
	case c.Delete && ok && !n.dir:
		w.take("delete", p)
	case c.Delete:
		w.hidden = w.hidden.without(p)
	case !w.show(p, c.Value):
		w.hidden = w.hidden.with(p, c.Value, 0)
	}
	w.mirror = false
}
