package v2store

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/storage"
)

// Restore is Recover with rows: a store that goes on after what another store held, its history included, written to a batch. Nodes
// of the namespace that is only counted are passed over. Events are ascending by index; where there is none for an index, its place
// is taken by one that no watcher is shown. The same errors, and an event of an unknown action.
func Restore(b *storage.Batch, index uint64, nodes iter.Seq[*Node], events []*Event) (*Store, error) {
	s := New()
	s.started, s.batch = true, b
	s.head.index = index
	for n := range nodes {
		if readOnly(n.Key) || strings.HasPrefix(n.Key, Cluster+"/") {
			continue
		}
		if err := s.recoverable(n); err != nil {
			return nil, err
		}
		kept := &node{path: n.Key, dir: n.Dir, expires: n.Expiration, created: n.Created, modified: n.Modified}
		if n.Value != nil && !n.Dir {
			kept.value = *n.Value
		}
		s.insert(kept)
	}
	known := map[uint64]*Event{}
	for _, e := range events {
		if e.Action == "" || !slices.Contains(actions[:], e.Action) || e.Node == nil {
			return nil, fmt.Errorf("v2store: event %d is of the unknown action %q, or has no node", e.Index, e.Action)
		}
		known[e.Index] = e
	}
	for at := index - min(index, limits.V2HistoryEvents) + 1; at <= index; at++ {
		e := known[at]
		if e == nil {
			e = &Event{Action: ActionSet, Node: &Node{Key: Cluster + "/version", Modified: at, Created: at}, Index: at}
		}
		s.events = append(s.events, e)
		s.saveEvent(e)
	}
	s.saveHead()
	return s, nil
}
