package v2store

import (
	"fmt"
	"iter"
	"path"
	"strings"

	"quorate.dev/quorate/limits"
)

// Recover returns a store in memory that goes on after what another store held: its index, and its nodes, each with its path in
// Key and after the directory it lies in. The history is not known then and begins empty. An index above the store's, a path that
// is not clean or beyond bounds, and a node without a directory to lie in are errors.
func Recover(index uint64, nodes iter.Seq[*Node]) (*Store, error) {
	s := New()
	s.started = true // indices are counted from here on
	s.head.index = index
	for n := range nodes {
		if err := s.recoverable(n); err != nil {
			return nil, err
		}
		kept := &node{path: n.Key, dir: n.Dir, expires: n.Expiration, created: n.Created, modified: n.Modified}
		if n.Value != nil && !n.Dir {
			kept.value = *n.Value
		}
		s.insert(kept)
	}
	return s, nil
}

func (s *Store) recoverable(n *Node) error {
	switch parent := s.tree.at(path.Dir(n.Key)); {
	case Clean(n.Key) != n.Key:
		return fmt.Errorf("v2store: %q is no clean path", n.Key)
	case len(n.Key) > limits.V2PathBytes || strings.Count(n.Key, "/") > limits.V2PathDepth:
		return fmt.Errorf("v2store: the path %.100q... has %d bytes and %d components: at most %d bytes and %d components are allowed",
			n.Key, len(n.Key), strings.Count(n.Key, "/"), limits.V2PathBytes, limits.V2PathDepth)
	case parent == nil || !parent.dir:
		return fmt.Errorf("v2store: there is no directory for %q to lie in", n.Key)
	case n.Created > s.head.index || n.Modified > s.head.index:
		return fmt.Errorf("v2store: %q was created at index %d and modified at index %d, and the store's index is %d", n.Key, n.Created, n.Modified, s.head.index)
	case readOnly(n.Key) && !n.Dir:
		return fmt.Errorf("v2store: %q is a file, and has to be a directory", n.Key)
	}
	return nil
}

// Walk calls visit with the node at a path and then with everything below it, hidden nodes too: depth first, each directory before
// what is in it and names in order, until it says no. Nodes come without children. Nothing at the path is nothing to visit. now is
// Unix time in nanoseconds, for TTLs.
func (v *View) Walk(p string, now int64, visit func(*Node) bool) {
	if n := v.tree.at(Clean(p)); n != nil {
		v.walk(n, now, visit)
	}
}

func (v *View) walk(n *node, now int64, visit func(*Node) bool) bool {
	more := visit(n.shown(now))
	if more && n.dir {
		v.tree.children(n.path, func(child *node) { more = more && v.walk(child, now, visit) })
	}
	return more
}
