package v2store

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// PathOf gives the path at which a v3 key is shown in shared mode; ok is false for a key that has none. Those have one that are
// absolute paths without empty, "." and ".." components, valid UTF-8, and within the bounds of paths.
func PathOf(key []byte) (path string, ok bool) {
	if len(key) < 2 || key[0] != '/' || len(Keys)+len(key) > limits.V2PathBytes {
		return "", false
	}
	p := Keys + string(key)
	return p, Clean(p) == p && utf8.ValidString(p) && strings.Count(p, "/") <= limits.V2PathDepth
}

// KeyOf gives the v3 key of a path, "" when it is not below /1.
func KeyOf(path string) string {
	if !strings.HasPrefix(path, Keys+"/") {
		return ""
	}
	return path[len(Keys):]
}

// KeyChange is what a v2 request does to a v3 key in shared mode.
type KeyChange struct {
	Key   string
	Value *string // nil to delete it
}

// KeyChanges lists what the event does to v3 keys. It is empty for an event that follows from them.
func (e *Event) KeyChanges() []KeyChange {
	if e.Mirrored || e.Node == nil || e.Action == ActionGet {
		return nil
	}
	if e.Refresh && (!e.Node.Dir || e.Prev == nil || e.Prev.Dir) { // one that makes a directory of a file takes its value away
		return nil
	}
	var list []KeyChange
	for _, r := range e.Removed {
		if key := KeyOf(r.Path); key != "" && !r.Dir {
			list = append(list, KeyChange{Key: key})
		}
	}
	key := KeyOf(e.Node.Key)
	switch {
	case key == "" || e.Removed != nil:
	case e.Node.Value != nil:
		list = append(list, KeyChange{Key: key, Value: e.Node.Value})
	case e.Prev != nil && !e.Prev.Dir: // a directory in the place of a file
		list = append(list, KeyChange{Key: key})
	}
	return list
}

// KeyPut follows a put of a v3 key, in shared mode.
func (s *Store) KeyPut(b *storage.Batch, key, value []byte) {
	p, ok := PathOf(key)
	if !ok {
		return
	}
	s.begin(b)
	s.now = s.head.now
	s.keyPut(p, string(value))
	s.saveHead()
}

func (s *Store) keyPut(p, value string) {
	n := &node{path: p, value: value}
	if !s.show(n) {
		s.hide(n)
	}
}

// KeyDeleted follows the deletion of a v3 key, in shared mode.
func (s *Store) KeyDeleted(b *storage.Batch, key []byte) {
	p, ok := PathOf(key)
	if !ok {
		return
	}
	s.begin(b)
	s.now = s.head.now
	if n := s.tree.at(p); n != nil && !n.dir {
		e := s.taken(n, ActionDelete)
		e.Mirrored = true
		s.record(e)
		s.reveal(p)
	} else {
		s.unhide(p)
	}
	s.saveHead()
}

// show makes a v3 key a file, if nothing is in its way.
func (s *Store) show(n *node) bool {
	old := s.tree.at(n.path)
	if old != nil && old.dir || s.tree.blocked(n.path) != nil {
		return false
	}
	e := s.install(n, old, ActionSet)
	e.Mirrored = true
	s.record(e)
	return true
}

func (s *Store) hide(n *node) {
	s.unhide(n.path)
	s.shadow.ReplaceOrInsert(n)
	s.bytes += n.bytes()
	s.saveShadow(n)
}

func (s *Store) unhide(p string) {
	if old, ok := s.shadow.Delete(&node{path: p}); ok {
		s.bytes -= old.bytes()
		s.dropRow(rowShadow, p)
	}
}

// reveal shows the v3 keys at and below a path that something kept from being shown, as far as nothing else does.
func (s *Store) reveal(p string) {
	if s.shadow.Len() == 0 || canary.On(canary.V2ShadowLost) {
		return
	}
	var list []*node
	if n := s.shadow.at(p); n != nil {
		list = append(list, n)
	}
	s.shadow.below(p, func(n *node) bool { list = append(list, n); return true })
	for _, n := range list {
		if s.show(&node{path: n.path, value: n.value}) {
			s.unhide(n.path)
		}
	}
}

// separate ends shared mode. Files stay as they are, and so do the v3 keys; from here on they go their own ways.
func (s *Store) separate(r *wire.V2Request) (*Event, *Error) {
	if r.Val != modeSeparate {
		return nil, NewError(CodeInvalidField, fmt.Sprintf("the mode %q is not known: it must be %s or %s", r.Val, modeSeparate, modeShared), s.head.index)
	}
	var hidden []*node
	s.shadow.Ascend(func(n *node) bool { hidden = append(hidden, n); return true })
	for _, n := range hidden {
		s.unhide(n.path)
	}
	s.head.mode = Separate
	return &Event{Action: "mode", Index: s.head.index}, nil
}

// SharedKeys is what Share needs to know of the v3 keys.
type SharedKeys interface {
	// Value is that of a key; ok says whether there is one.
	Value(key string) (value string, ok bool, err error)
	// Each calls f with every key, in order.
	Each(f func(key, value []byte)) error
}

// Share begins shared mode: v3 keys that have a path become files, and files become the v3 keys that are returned. It is refused
// while a file and a key of the same name differ, or a file's path cannot be a key's. A second time it does nothing. An error
// that is no *Error is one of keys.
func (s *Store) Share(b *storage.Batch, keys SharedKeys) ([]KeyChange, error) {
	s.begin(b)
	defer s.saveHead()
	s.now = s.head.now
	if s.head.mode == Shared {
		return nil, nil
	}
	missing, err := s.missing(keys)
	if err != nil {
		return nil, err
	}
	err = keys.Each(func(key, value []byte) {
		p, ok := PathOf(key)
		if !ok {
			return
		}
		if n := s.tree.at(p); n == nil || n.dir {
			s.keyPut(p, string(value))
		}
	})
	s.head.mode = Shared
	return missing, err
}

// missing lists the files that are no v3 keys yet.
func (s *Store) missing(keys SharedKeys) (list []KeyChange, err error) {
	s.tree.below(Keys, func(n *node) bool {
		if n.dir {
			return true
		}
		value, ok, failed := keys.Value(KeyOf(n.path))
		_, fit := PathOf([]byte(KeyOf(n.path)))
		switch {
		case failed != nil:
			err = failed
		case !fit:
			err = NewError(CodeInvalidField, fmt.Sprintf("the v2 file %q cannot be a v3 key of shared mode: remove it first", n.path), s.head.index)
		case ok && value != n.value:
			err = NewError(CodeTestFailed, fmt.Sprintf("the v2 file and the v3 key %q have different values: make them equal or remove one", KeyOf(n.path)), s.head.index)
		case !ok:
			list = append(list, KeyChange{Key: KeyOf(n.path), Value: &n.value})
		}
		return err == nil
	})
	return list, err
}

// Target is the clean path that a request is about: of a POST, that of the node which it would make.
func (s *Store) Target(r *wire.V2Request) string {
	if r.Method == "POST" {
		return Clean(unique(r.Path, s.head.index+1))
	}
	return Clean(r.Path)
}

// Readable says whether a clean path is of the users' namespace, /1 itself included.
func Readable(path string) bool { return path == Keys || strings.HasPrefix(path, Keys+"/") }

// KeyRanges gives the ranges of v3 keys, first and end as in a RangeRequest, that a clean path of the users' namespace is about:
// its own key, and with below all those under it.
func KeyRanges(path string, below bool) [][2][]byte {
	key := KeyOf(path)
	var list [][2][]byte
	if key != "" {
		list = append(list, [2][]byte{[]byte(key)})
	}
	if below || key == "" {
		list = append(list, [2][]byte{[]byte(key + "/"), []byte(key + "0")})
	}
	return list
}
