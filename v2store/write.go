package v2store

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/wire"
)

// expiryMin is the start of the year 2000: a node is not made with an earlier time of expiration but without one, as in etcd.
const expiryMin = 946684800 * nanosPerSecond

// checkPath refuses paths beyond bounds, whose directories could fill the memory, and in shared mode paths that no v3 key of a
// JSON listing could have.
func (s *Store) checkPath(r *wire.V2Request) *Error {
	if len(r.Path) > limits.V2PathBytes || strings.Count(r.Path, "/") > limits.V2PathDepth {
		cause := fmt.Sprintf("a path of %d bytes and %d components: at most %d bytes and %d components are allowed",
			len(r.Path), strings.Count(r.Path, "/"), limits.V2PathBytes, limits.V2PathDepth)
		return NewError(CodeInvalidField, cause, s.head.index)
	}
	writes := r.Method == "PUT" || r.Method == "POST"
	if s.head.mode == Shared && writes && !utf8.ValidString(r.Path) {
		return NewError(CodeInvalidField, "the path is not valid UTF-8; in shared mode a path is also the name of a v3 key", s.head.index)
	}
	return nil
}

func refresh(r *wire.V2Request) bool { return r.Refresh != nil && *r.Refresh }

// set makes a node or replaces a file.
func (s *Store) set(r *wire.V2Request) (*Event, *Error) {
	p, value := Clean(r.Path), r.Val
	old, err := s.tree.find(p, s.head.index)
	if err != nil && (err.Code != CodeKeyNotFound || refresh(r)) {
		return nil, err
	}
	if refresh(r) {
		value = old.value
	}
	return s.place(&node{path: p, dir: r.Dir, value: value, expires: r.Expiration}, ActionSet, refresh(r))
}

// create makes a node where none is.
func (s *Store) create(r *wire.V2Request) (*Event, *Error) {
	return s.place(&node{path: Clean(r.Path), dir: r.Dir, value: r.Val, expires: r.Expiration}, ActionCreate, false)
}

// place puts a new node and the directories above it into the tree, by a set or a create.
func (s *Store) place(n *node, action string, refresh bool) (*Event, *Error) {
	if readOnly(n.path) {
		return nil, NewError(CodeRootReadOnly, "/", s.head.index)
	}
	if f := s.tree.blocked(n.path); f != nil {
		s.head.counts.SetsFail++ // also for a create, which counts its own failure besides: as in etcd
		return nil, NewError(CodeNotDir, f.path, s.head.index)
	}
	old := s.tree.at(n.path)
	switch {
	case old == nil:
	case action == ActionCreate:
		return nil, NewError(CodeNodeExist, n.path, s.head.index)
	case old.dir:
		return nil, NewError(CodeNotFile, n.path, s.head.index)
	}
	e := s.install(n, old, action)
	e.Refresh = refresh
	s.record(e)
	if old != nil && n.dir {
		s.reveal(n.path)
	}
	return e, nil
}

// install is place after everything was checked. The event is not recorded.
func (s *Store) install(n, old *node, action string) *Event {
	index := s.head.index + 1
	n.created, n.modified = index, index
	if n.expires < expiryMin {
		n.expires = 0
	}
	if n.dir {
		n.value = ""
	}
	s.parents(n.path, index)
	s.insert(n)
	e := &Event{Action: action, Node: n.shown(s.now), Index: index}
	if old != nil {
		e.Prev = old.shown(s.now)
	}
	return e
}

// parents makes the directories above p that are missing. Their paths share the memory of p.
func (s *Store) parents(p string, index uint64) {
	for i := strings.LastIndexByte(p, '/'); i > 0 && s.tree.at(p[:i]) == nil; i = strings.LastIndexByte(p[:i], '/') {
		s.insert(&node{path: p[:i], dir: true, created: index, modified: index})
	}
}

// lostError is a refusal that etcd counts as a success.
func (s *Store) lostError(code int, cause string) *Error {
	err := NewError(code, cause, s.head.index)
	err.lost = true
	return err
}

// update changes a file's value and time of expiration, or a directory's time of expiration.
func (s *Store) update(r *wire.V2Request) (*Event, *Error) {
	p := Clean(r.Path)
	if readOnly(p) {
		return nil, s.lostError(CodeRootReadOnly, "/")
	}
	old, err := s.tree.find(p, s.head.index)
	if err != nil {
		return nil, err
	}
	if old.dir && r.Val != "" {
		return nil, s.lostError(CodeNotFile, p)
	}
	value := r.Val
	if refresh(r) {
		value = old.value
	}
	return s.replace(old, ActionUpdate, value, r), nil
}

// replace changes a node in its place, keeping when it was created. A directory keeps its modified index too, though its event
// has the new one.
func (s *Store) replace(old *node, action, value string, r *wire.V2Request) *Event {
	n := *old
	n.expires = r.Expiration
	if !n.dir {
		n.value, n.modified = value, s.head.index+1
	}
	s.insert(&n)
	e := &Event{Action: action, Node: n.shown(s.now), Prev: old.shown(s.now), Index: s.head.index + 1, Refresh: refresh(r)}
	e.Node.Modified = e.Index
	return s.record(e)
}

// compare says why a file is not what the request expects, "" when it is.
func compare(n *node, r *wire.V2Request) string {
	value := r.PrevValue == "" || n.value == r.PrevValue
	index := r.PrevIndex == 0 || n.modified == r.PrevIndex
	values := fmt.Sprintf("[%s != %s]", r.PrevValue, n.value)
	indices := fmt.Sprintf("[%d != %d]", r.PrevIndex, n.modified)
	if canary.On(canary.V2IndexIgnored) && r.PrevValue != "" {
		index = true
	}
	switch {
	case value && index:
		return ""
	case value:
		return indices
	case index:
		return values
	}
	return values + " " + indices
}

func (s *Store) compareAndSwap(r *wire.V2Request) (*Event, *Error) {
	p := Clean(r.Path)
	if readOnly(p) {
		return nil, s.lostError(CodeRootReadOnly, "/")
	}
	old, err := s.tree.find(p, s.head.index)
	switch {
	case err != nil:
		return nil, err
	case old.dir:
		return nil, NewError(CodeNotFile, p, s.head.index)
	}
	if cause := compare(old, r); cause != "" {
		return nil, NewError(CodeTestFailed, cause, s.head.index)
	}
	value := r.Val
	if refresh(r) {
		value = old.value
	}
	return s.replace(old, ActionCompareAndSwap, value, r), nil
}

// remove deletes a file, an empty directory, or with recursive all there is below one.
func (s *Store) remove(r *wire.V2Request) (*Event, *Error) {
	p := Clean(r.Path)
	if readOnly(p) {
		return nil, s.lostError(CodeRootReadOnly, "/")
	}
	old, err := s.tree.find(p, s.head.index)
	switch {
	case err != nil:
		return nil, err
	case old.dir && !r.Dir && !r.Recursive:
		return nil, NewError(CodeNotFile, p, s.head.index)
	case old.dir && !r.Recursive && !s.tree.empty(p):
		return nil, NewError(CodeDirNotEmpty, p, s.head.index)
	}
	return s.takeAway(old, ActionDelete), nil
}

func (s *Store) compareAndDelete(r *wire.V2Request) (*Event, *Error) {
	p := Clean(r.Path)
	old, err := s.tree.find(p, s.head.index)
	switch {
	case err != nil:
		return nil, err
	case old.dir:
		return nil, s.lostError(CodeNotFile, p)
	}
	if cause := compare(old, r); cause != "" {
		return nil, s.lostError(CodeTestFailed, cause)
	}
	return s.takeAway(old, ActionCompareAndDelete), nil
}

// expire removes what has expired by a time, in order of expiration and then of paths, one event each.
func (s *Store) expire(now int64) {
	for {
		n, ok := s.due.Min()
		if !ok || n.expires > now {
			return
		}
		s.head.counts.ExpireCount++
		s.takeAway(n, ActionExpire)
	}
}

// takeAway removes a node and all below it, as one event, and shows the v3 keys for which it makes room.
func (s *Store) takeAway(n *node, action string) *Event {
	e := s.taken(n, action)
	s.record(e)
	s.reveal(n.path)
	return e
}

func (s *Store) taken(n *node, action string) *Event {
	gone := []*node{n}
	s.tree.below(n.path, func(c *node) bool { gone = append(gone, c); return true })
	slices.Reverse(gone)
	index := s.head.index + 1
	e := &Event{Action: action, Prev: n.shown(s.now), Index: index, Removed: make([]Removed, 0, len(gone))}
	e.Node = &Node{Key: n.path, Dir: n.dir, Modified: index, Created: n.created}
	for _, c := range gone {
		s.drop(c)
		e.Removed = append(e.Removed, Removed{Path: c.path, Dir: c.dir})
	}
	return e
}
