// Package v2hub tells watchers of the v2 API what happens in the tree.
//
// It does not keep the history, which is part of the store (v2store.View), and knows no HTTP.
//
// Data passes like this. The goroutine that applies calls Publish with the newest View and what happened, before any result is
// answered. Events go to the watchers whose paths they concern, found by the path of the event and of every directory above it,
// and by the paths of all that a delete took away. Watch looks for a matching event in the history of the View first, under the
// same lock, so that no event is missed between history and present.
//
// Invariants:
//   - Publish never waits: a watcher whose queue is full is closed (limits.V2WatcherEvents).
//   - A watcher without stream gets exactly one event.
//   - Which events a watcher gets, and how often, is as in etcd 3.4, its peculiarities included; see Watch.
package v2hub

import (
	"slices"
	"strings"
	"sync"

	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/v2store"
)

// Hub has the watchers. It is for any goroutine, but for Publish, which is for the one that applies.
type Hub struct {
	mu       sync.Mutex
	view     *v2store.View
	watchers map[string][]*Watcher // by path, in the order in which they came
	count    int
	closed   bool
}

// New makes a hub at a View.
func New(v *v2store.View) *Hub {
	return &Hub{view: v, watchers: make(map[string][]*Watcher)}
}

// Watcher gets events. It is made by Watch and for any goroutine.
type Watcher struct {
	hub       *Hub
	events    chan *v2store.Event
	path      string
	recursive bool
	stream    bool
	since     uint64
	start     uint64
	done      bool // guarded by the hub's lock: nothing is sent any more
}

// Events gets what happens. It is closed when the watcher was too slow, after what is queued, and when watcher or hub are closed.
func (w *Watcher) Events() <-chan *v2store.Event { return w.events }

// StartIndex is the store's index when the watcher was made.
func (w *Watcher) StartIndex() uint64 { return w.start }

// Close ends the watcher; it may be called more than once.
func (w *Watcher) Close() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.hub.remove(w)
	w.end()
}

// end closes the channel. The hub's lock is held.
func (w *Watcher) end() {
	if !w.done {
		w.done = true
		close(w.events)
	}
}

// Watch makes a watcher of a path, and with recursive of all below it. since is the index of the first event that counts; 0 means
// the next one. If the history has a matching event at or after since, a watcher without stream gets the first such event and
// no other; one with stream gets all of them and what follows. The error is a *v2store.Error when the history no longer has since.
//
// As in etcd, the history also gives a recursive watcher the events of hidden nodes, and gives the deletion of a directory to
// whoever watches a path that begins with the directory's, whether it lies in it or not; present events do neither.
func (h *Hub) Watch(path string, recursive, stream bool, since uint64) (*Watcher, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	index := h.view.Index()
	if since == 0 {
		since = index + 1
	}
	w := &Watcher{hub: h, path: v2store.Clean(path), recursive: recursive, stream: stream, since: since, start: index}
	past, err := h.past(w)
	if err != nil {
		return nil, err
	}
	room := 1 // a long poll gets one event
	if stream {
		room = limits.V2WatcherEvents
	}
	w.events = make(chan *v2store.Event, room+len(past))
	for _, e := range past {
		w.events <- e
	}
	switch {
	case h.closed:
		w.end()
	case stream || len(past) == 0:
		h.watchers[w.path] = append(h.watchers[w.path], w)
		h.count++
	}
	return w, nil
}

// past gives the events of the history that concern the watcher; only the first without stream.
func (h *Hub) past(w *Watcher) ([]*v2store.Event, error) {
	history := h.view.History()
	if len(history) == 0 || w.since > h.view.Index() || canary.On(canary.V2WatchNext) && w.since == h.view.Index() {
		return nil, nil
	}
	oldest := history[0].Index
	if w.since < oldest {
		return nil, v2store.HistoryCleared(oldest, w.since, h.view.Index())
	}
	var list []*v2store.Event
	for _, e := range history[w.since-oldest:] {
		if e.Refresh || !w.matches(e) {
			continue
		}
		list = append(list, e)
		if !w.stream {
			break
		}
	}
	return list, nil
}

// matches is how the history is looked through.
func (w *Watcher) matches(e *v2store.Event) bool {
	prefix := w.path
	if prefix != "/" {
		prefix += "/"
	}
	switch {
	case e.Node.Key == w.path, w.recursive && strings.HasPrefix(e.Node.Key, prefix):
		return true
	case e.Action != v2store.ActionDelete && e.Action != v2store.ActionExpire:
		return false
	}
	return e.Prev != nil && e.Prev.Dir && strings.HasPrefix(w.path, e.Prev.Key)
}

// Publish makes the View the newest one and sends what led to it. Events ascend.
func (h *Hub) Publish(v *v2store.View, events []*v2store.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.view = v
	if h.count == 0 {
		return
	}
	for _, e := range events {
		if !e.Refresh {
			h.send(e)
		}
	}
}

// send sends an event to the watchers of all nodes that it took away, and then to those of its path and of the directories above.
// A watcher with stream can be both, and gets it twice: as in etcd.
func (h *Hub) send(e *v2store.Event) {
	for _, r := range e.Removed {
		h.notify(e, r.Path, true)
	}
	h.notify(e, "/", false)
	for i := 1; i < len(e.Node.Key); i++ {
		if e.Node.Key[i] == '/' {
			h.notify(e, e.Node.Key[:i], false)
		}
	}
	if e.Node.Key != "/" {
		h.notify(e, e.Node.Key, false)
	}
}

// notify sends an event to the watchers of one path.
func (h *Hub) notify(e *v2store.Event, path string, removed bool) {
	list := h.watchers[path]
	if len(list) == 0 {
		return
	}
	own := e.Node.Key == path
	if !own && hidden(path, e.Node.Key) {
		return
	}
	for _, w := range slices.Clone(list) {
		if (w.recursive || own || removed) && e.Index >= w.since {
			h.deliver(w, e)
		}
	}
}

func (h *Hub) deliver(w *Watcher, e *v2store.Event) {
	select {
	case w.events <- e:
		if !w.stream {
			h.remove(w)
		}
	default:
		h.remove(w)
		w.end()
	}
}

// hidden says whether a key is hidden from a watcher of a path above it.
func hidden(watched, key string) bool {
	if len(watched) > len(key) {
		return false
	}
	return strings.Contains(v2store.Clean(key[len(watched):]), "/_")
}

// remove takes a watcher out of the table.
func (h *Hub) remove(w *Watcher) {
	list := h.watchers[w.path]
	i := slices.Index(list, w)
	if i < 0 {
		return
	}
	h.count--
	if len(list) == 1 {
		delete(h.watchers, w.path)
		return
	}
	h.watchers[w.path] = slices.Delete(list, i, i+1)
}

// Count is how many watchers wait.
func (h *Hub) Count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count
}

// Close closes all watchers, and those to come.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, list := range h.watchers {
		for _, w := range list {
			w.end()
		}
	}
	h.watchers, h.count = nil, 0
}
