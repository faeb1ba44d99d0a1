package v2store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/storage"
)

// The kinds of rows: the byte after the bucket's.
const (
	rowEvent  = 'e' // 8 bytes big-endian index -> event
	rowHead   = 'h' // -> head
	rowNode   = 'n' // path -> node
	rowShadow = 's' // path -> value of a v3 key that cannot be shown
)

// headVersion is the first byte of the head's row.
const headVersion = 1

// Flags of nodes.
const (
	flagDir = 1 << iota
	flagValue
	flagRefresh
	flagPrev
	flagMirrored
)

var actions = [...]string{
	1: ActionCreate, 2: ActionSet, 3: ActionUpdate, 4: ActionDelete, 5: ActionCompareAndSwap, 6: ActionCompareAndDelete, 7: ActionExpire,
}

func rowKey(kind byte, name string) []byte {
	return append([]byte{storage.BucketV2, kind}, name...)
}

func eventKey(index uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{storage.BucketV2, rowEvent}, index)
}

func (s *Store) saveHead() {
	if s.batch == nil {
		return
	}
	b := []byte{headVersion, byte(s.head.mode)}
	b = binary.AppendUvarint(b, s.head.index)
	b = binary.AppendVarint(b, s.head.now)
	for _, c := range s.head.counts.all() {
		b = binary.AppendUvarint(b, *c)
	}
	s.batch.Set(rowKey(rowHead, ""), b)
}

func (s *Store) saveNode(n *node) {
	if s.batch == nil {
		return
	}
	var flags byte
	if n.dir {
		flags |= flagDir
	}
	b := []byte{flags}
	b = binary.AppendUvarint(b, n.created)
	b = binary.AppendUvarint(b, n.modified)
	b = binary.AppendVarint(b, n.expires)
	s.batch.Set(rowKey(rowNode, n.path), append(b, n.value...))
}

func (s *Store) saveShadow(n *node) {
	if s.batch != nil {
		s.batch.Set(rowKey(rowShadow, n.path), []byte(n.value))
	}
}

func (s *Store) dropRow(kind byte, path string) {
	if s.batch != nil {
		s.batch.Delete(rowKey(kind, path))
	}
}

func (s *Store) dropEvent(index uint64) {
	if s.batch != nil && s.started {
		s.batch.Delete(eventKey(index))
	}
}

func (s *Store) saveEvent(e *Event) {
	if s.batch == nil || !s.started {
		return
	}
	var flags byte
	if e.Refresh {
		flags |= flagRefresh
	}
	if e.Prev != nil {
		flags |= flagPrev
	}
	if e.Mirrored {
		flags |= flagMirrored
	}
	b := []byte{actionNumber(e.Action), flags}
	b = appendNode(b, e.Node)
	if e.Prev != nil {
		b = appendNode(b, e.Prev)
	}
	s.batch.Set(eventKey(e.Index), b)
}

func actionNumber(action string) byte {
	for i, a := range actions {
		if a == action && a != "" {
			return byte(i)
		}
	}
	panic("BUG: the action " + action + " has no number")
}

func appendNode(b []byte, n *Node) []byte {
	var flags byte
	value := ""
	if n.Dir {
		flags |= flagDir
	}
	if n.Value != nil {
		flags |= flagValue
		value = *n.Value
	}
	b = append(b, flags)
	for _, text := range [...]string{n.Key, value} {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	b = binary.AppendVarint(b, n.Expiration)
	b = binary.AppendVarint(b, n.TTL)
	b = binary.AppendUvarint(b, n.Modified)
	return binary.AppendUvarint(b, n.Created)
}

// reader takes a row apart. After the first failure it gives zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) octet() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	return taken(r, v, n)
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	return taken(r, v, n)
}

func taken[T uint64 | int64](r *reader, v T, n int) T {
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) text() string {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) node() *Node {
	flags := r.octet()
	n := &Node{Dir: flags&flagDir != 0, Key: r.text()}
	value := r.text()
	if flags&flagValue != 0 {
		n.Value = &value
	}
	n.Expiration, n.TTL, n.Modified, n.Created = r.int(), r.int(), r.uint(), r.uint()
	return n
}

var errRow = errors.New("it cannot be read")

func decodeEvent(index uint64, b []byte) (*Event, error) {
	r := reader{b: b}
	number, flags := r.octet(), r.octet()
	if number == 0 || int(number) >= len(actions) {
		return nil, fmt.Errorf("its action %d is not known", number)
	}
	e := &Event{Action: actions[number], Index: index, Refresh: flags&flagRefresh != 0, Mirrored: flags&flagMirrored != 0, Node: r.node()}
	if flags&flagPrev != 0 {
		e.Prev = r.node()
	}
	if r.bad || len(r.b) > 0 {
		return nil, errRow
	}
	return e, nil
}

func decodeNode(path string, b []byte) (*node, error) {
	r := reader{b: b}
	n := &node{path: path, dir: r.octet()&flagDir != 0, created: r.uint(), modified: r.uint(), expires: r.int()}
	n.value = string(r.b)
	if r.bad || n.dir && n.value != "" {
		return nil, errRow
	}
	return n, nil
}

func decodeHead(b []byte) (h head, err error) {
	r := reader{b: b}
	if v := r.octet(); v != headVersion {
		return h, fmt.Errorf("its version %d is not known to this release", v)
	}
	h.mode, h.index, h.now = Mode(r.octet()), r.uint(), r.int()
	for _, c := range h.counts.all() {
		*c = r.uint()
	}
	if r.bad || len(r.b) > 0 || h.mode > Shared {
		return h, errRow
	}
	return h, nil
}

// Open reads the store from its rows. Errors are failures of the disk or name a row that is damaged.
func Open(e storage.Reader) (*Store, error) {
	s := New()
	lower, upper := storage.BucketBounds(storage.BucketV2)
	it, err := e.Iter(lower, upper)
	if err != nil {
		return nil, err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		if err = s.load(it.Key()[1:], it.Value()); err != nil {
			err = fmt.Errorf("v2store: row %q is damaged: %w: restore the store from a snapshot or another member", it.Key(), err)
		}
	}
	if err = errors.Join(err, it.Close()); err != nil {
		return nil, err
	}
	if err = s.check(); err != nil {
		return nil, fmt.Errorf("v2store: the rows do not fit together: %w: restore the store from a snapshot or another member", err)
	}
	if canary.On(canary.V2HistoryLost) {
		s.events = nil
	}
	return s, nil
}

// load takes one row. Nodes come after their parents and after the head.
func (s *Store) load(key, value []byte) (err error) {
	if len(key) == 0 {
		return errRow
	}
	name := string(key[1:])
	switch key[0] {
	case rowHead:
		s.started = true
		s.head, err = decodeHead(value)
	case rowEvent:
		var e *Event
		if len(name) != 8 {
			return errRow
		}
		if e, err = decodeEvent(binary.BigEndian.Uint64(key[1:]), value); err == nil {
			s.events = append(s.events, e)
		}
	case rowNode:
		var n *node
		if n, err = decodeNode(name, value); err == nil {
			err = s.checkNode(n)
		}
		if err == nil {
			s.insert(n)
		}
	case rowShadow:
		s.hide(&node{path: name, value: string(value)})
	default:
		err = errRow
	}
	return err
}

func (s *Store) checkNode(n *node) error {
	i := strings.LastIndexByte(n.path, '/')
	if i < 0 || Clean(n.path) != n.path || readOnly(n.path) {
		return errors.New("its path is none of a node")
	}
	if parent := s.tree.at(n.path[:max(i, 1)]); parent == nil || !parent.dir {
		return errors.New("it lies in no directory")
	}
	return nil
}

// check compares the rows with each other.
func (s *Store) check() error {
	if !s.started {
		if s.tree.Len() > permanent || len(s.events) > 0 || s.shadow.Len() > 0 {
			return errors.New("the head is missing")
		}
		return nil
	}
	want := min(s.head.index, limits.V2HistoryEvents)
	if uint64(len(s.events)) != want {
		return fmt.Errorf("%d events are there at index %d", len(s.events), s.head.index)
	}
	for i, e := range s.events {
		if index := s.head.index - want + uint64(i) + 1; e.Index != index {
			return fmt.Errorf("event %d is where %d belongs", e.Index, index)
		}
	}
	return nil
}
