package v2http

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"quorate.dev/quorate/v2store"
)

// A value as a parameter takes three bytes for one at most; formRoom is for the others.
const (
	formFactor = 3
	formRoom   = 64 << 10
)

func (h *handler) serveKeys(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, http.MethodHead, http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete) {
		return
	}
	h.named(w)
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.Timeout)
	defer cancel()
	bound(w, r, formFactor*int64(h.cfg.RequestBytes)+formRoom)
	if err := r.ParseForm(); err != nil {
		text, _ := bodyError(err)
		h.failKey(w, refusal(v2store.CodeInvalidForm, text))
		return
	}
	key := strings.TrimPrefix(r.URL.Path, pathKeys)
	q, wrong := parseKey(r.Method, key, r.Form, h.cfg.Clock.Now())
	if wrong != nil {
		h.failKey(w, wrong)
		return
	}
	err := h.answerKey(ctx, w, r, q, key)
	if err != nil {
		h.failKey(w, err)
	}
}

// answerKey finds out who asks, and does what is asked.
func (h *handler) answerKey(ctx context.Context, w http.ResponseWriter, r *http.Request, q *keyRequest, key string) error {
	quorum := q.Method == http.MethodGet && q.quorum
	if quorum {
		q.Method = methodQuorumGet
	}
	reading := q.Method == http.MethodGet || q.Method == http.MethodHead
	who, err := h.admit(ctx, r, key, q.Recursive)
	if err != nil {
		return err
	}
	if q.Method == http.MethodGet && q.wait {
		return h.watch(w, r, q, key, who)
	}
	var ev *v2store.Event
	if reading {
		ev, err = h.read(q, key, who)
	} else {
		ev, err = h.write(ctx, r, q, key, who)
	}
	if err != nil {
		return err
	}
	h.writeEvent(w, ev, q.noValue)
	return nil
}

// methodQuorumGet is a read that goes through the log.
const methodQuorumGet = "QGET"

// read answers from what this member has applied.
func (h *handler) read(q *keyRequest, key string, who asker) (*v2store.Event, error) {
	tree, may := h.cfg.Backend.Store.View()
	ev, err := h.get(tree, q.Path, q.Recursive, q.Sorted)
	if who.v3 {
		// The names and values of one level below a directory are in the answer of the directory.
		below := q.Recursive || ev != nil && ev.Node.Dir
		if denied := may(who.identity, key, below); denied != nil {
			return nil, denied
		}
	}
	return ev, err
}

// get reads the tree, and counts it.
func (h *handler) get(tree *v2store.View, path string, recursive, sorted bool) (*v2store.Event, error) {
	ev, err := tree.Get(path, recursive, sorted, h.cfg.Clock.Now().UnixNano())
	if err != nil {
		h.misses.Add(1)
		return nil, err
	}
	h.reads.Add(1)
	return ev, nil
}

// write proposes. A user's request that permissions have changed under is proposed once more, under what holds now.
func (h *handler) write(ctx context.Context, r *http.Request, q *keyRequest, key string, who asker) (*v2store.Event, error) {
	ev, err := h.cfg.Backend.Store.Propose(ctx, &q.V2Request, who.identity)
	if who.v3 && isOld(err) {
		if who, err = h.admit(ctx, r, key, q.Recursive); err != nil {
			return nil, err
		}
		ev, err = h.cfg.Backend.Store.Propose(ctx, &q.V2Request, who.identity)
	}
	if !who.v3 || q.Method == methodQuorumGet {
		return ev, err
	}
	return h.withoutPast(ev, err, q, key, who)
}

// withoutPast takes what was there before a write out of its answer when the user may write the key and not read it.
func (h *handler) withoutPast(ev *v2store.Event, err error, q *keyRequest, key string, who asker) (*v2store.Event, error) {
	_, may := h.cfg.Backend.Store.View()
	if may(who.identity, key, false) == nil {
		return ev, err
	}
	if e, ok := asRefusal(err); ok && e.Code == v2store.CodeTestFailed {
		return nil, &v2store.Error{Code: e.Code, Message: e.Message, Index: e.Index}
	}
	if err != nil {
		return nil, err
	}
	own := *ev
	own.Prev = withoutValue(ev.Prev)
	if q.Refresh != nil && *q.Refresh { // the value stays what it was
		own.Node = withoutValue(ev.Node)
	}
	return &own, nil
}

func withoutValue(n *v2store.Node) *v2store.Node {
	if n == nil {
		return nil
	}
	own := *n
	own.Value = nil
	return &own
}

// writeEvent answers a read or a write.
func (h *handler) writeEvent(w http.ResponseWriter, ev *v2store.Event, noValue bool) {
	h.raftHeaders(w, ev.Index)
	if ev.Created() {
		w.WriteHeader(http.StatusCreated)
	}
	out := trimmed(ev)
	if noValue {
		switch ev.Action {
		case v2store.ActionSet, v2store.ActionCompareAndSwap, v2store.ActionCreate, v2store.ActionUpdate:
			out.Node, out.Prev = nil, nil
		}
	}
	_ = json.NewEncoder(w).Encode(out) // a client that went away is its own affair
}

func (h *handler) raftHeaders(w http.ResponseWriter, index uint64) {
	commit, term := h.cfg.Backend.Store.Raft()
	head := w.Header()
	head.Set(contentType, typeJSON)
	head.Set(headerIndex, strconv.FormatUint(index, 10))
	head.Set(headerCommit, strconv.FormatUint(uint64(commit), 10))
	head.Set(headerTerm, strconv.FormatUint(uint64(term), 10))
}

// trimmed is an event as clients see it: keys without the namespace, nothing of what only the store needs.
func trimmed(ev *v2store.Event) *v2store.Event {
	return &v2store.Event{Action: ev.Action, Node: trim(ev.Node), Prev: trim(ev.Prev), Index: ev.Index}
}

func trim(n *v2store.Node) *v2store.Node {
	if n == nil {
		return nil
	}
	own := *n
	own.Key = strings.TrimPrefix(own.Key, keySpace)
	if n.Nodes != nil {
		own.Nodes = make([]*v2store.Node, len(n.Nodes))
		for i, c := range n.Nodes {
			own.Nodes[i] = trim(c)
		}
	}
	return &own
}
