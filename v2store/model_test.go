package v2store_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

// model is the tree as one would write it first: directories with maps of children, and answers as maps.
type model struct {
	root  *leaf
	index uint64
}

type leaf struct {
	path              string
	value             string
	children          map[string]*leaf // nil for a file
	expires           int64
	created, modified uint64
}

func newModel() *model {
	dir := func(p string) *leaf { return &leaf{path: p, children: map[string]*leaf{}} }
	m := &model{root: dir("/")}
	m.root.children["0"], m.root.children["1"] = dir("/0"), dir("/1")
	return m
}

// refusal is a code, a cause and an index.
type refusal string

func (m *model) refuse(code int, cause string) refusal {
	return refusal(fmt.Sprintf("%d %s at %d", code, cause, m.index))
}

func names(p string) []string {
	if p = path.Clean("/" + p); p == "/" {
		return nil
	}
	return strings.Split(p[1:], "/")
}

func (m *model) find(p string) (*leaf, refusal) {
	at := m.root
	for _, name := range names(p) {
		if at.children == nil {
			return nil, m.refuse(104, at.path)
		}
		child := at.children[name]
		if child == nil {
			return nil, m.refuse(100, path.Join(at.path, name))
		}
		at = child
	}
	return at, ""
}

func locked(p string) bool { p = path.Clean("/" + p); return p == "/" || p == "/0" || p == "/1" }

func (l *leaf) show(now int64) map[string]any {
	out := map[string]any{"key": l.path}
	if l.children == nil {
		out["value"] = l.value
	} else {
		out["dir"] = true
	}
	if l.expires != 0 {
		out["expiration"] = time.Unix(0, l.expires).UTC()
		left := time.Duration(l.expires - now)
		ttl := int64(left / time.Second)
		if left%time.Second > 0 {
			ttl++
		}
		if ttl != 0 {
			out["ttl"] = ttl
		}
	}
	if l.modified != 0 {
		out["modifiedIndex"], out["createdIndex"] = l.modified, l.created
	}
	return out
}

func answer(action string, node, prev map[string]any) map[string]any {
	out := map[string]any{"action": action, "node": node}
	if prev != nil {
		out["prevNode"] = prev
	}
	return out
}

func (m *model) place(p, action string, r *wire.V2Request, value string) (map[string]any, refusal) {
	if locked(p) {
		return nil, m.refuse(107, "/")
	}
	parts := names(p)
	at, next := m.root, m.index+1
	for i, name := range parts[:len(parts)-1] {
		child := at.children[name]
		if child == nil {
			child = &leaf{path: "/" + strings.Join(parts[:i+1], "/"), children: map[string]*leaf{}, created: next, modified: next}
			at.children[name] = child
		}
		if child.children == nil {
			return nil, m.refuse(104, child.path)
		}
		at = child
	}
	last := parts[len(parts)-1]
	var prev map[string]any
	if old := at.children[last]; old != nil {
		if action == "create" {
			return nil, m.refuse(105, old.path)
		}
		if old.children != nil {
			return nil, m.refuse(102, old.path)
		}
		prev = old.show(r.Time)
	}
	l := &leaf{path: "/" + strings.Join(parts, "/"), value: value, expires: r.Expiration, created: next, modified: next}
	if time.Unix(0, l.expires).Year() < 2000 {
		l.expires = 0
	}
	if r.Dir {
		l.children, l.value = map[string]*leaf{}, ""
	}
	at.children[last] = l
	m.index = next
	return answer(action, l.show(r.Time), prev), ""
}

func (m *model) change(l *leaf, action string, r *wire.V2Request) map[string]any {
	prev := l.show(r.Time)
	m.index++
	if l.children == nil {
		l.modified = m.index
		if r.Refresh == nil || !*r.Refresh {
			l.value = r.Val
		}
	}
	l.expires = r.Expiration
	now := l.show(r.Time)
	now["modifiedIndex"], now["createdIndex"] = m.index, l.created
	return answer(action, now, prev)
}

func (m *model) compared(l *leaf, r *wire.V2Request) string {
	var causes []string
	if r.PrevValue != "" && r.PrevValue != l.value {
		causes = append(causes, fmt.Sprintf("[%s != %s]", r.PrevValue, l.value))
	}
	if r.PrevIndex != 0 && r.PrevIndex != l.modified {
		causes = append(causes, fmt.Sprintf("[%d != %d]", r.PrevIndex, l.modified))
	}
	return strings.Join(causes, " ")
}

func (m *model) drop(l *leaf, action string, now int64) map[string]any {
	m.index++
	parent, _ := m.find(path.Dir(l.path))
	delete(parent.children, path.Base(l.path))
	node := map[string]any{"key": l.path, "modifiedIndex": m.index, "createdIndex": l.created}
	if l.children != nil {
		node["dir"] = true
	}
	return answer(action, node, l.show(now))
}

func (m *model) put(r *wire.V2Request) (map[string]any, refusal) {
	compare := r.PrevIndex > 0 || r.PrevValue != ""
	if r.PrevExist != nil && !*r.PrevExist {
		return m.place(r.Path, "create", r, r.Val)
	}
	if !compare && r.PrevExist == nil {
		old, why := m.find(r.Path)
		refresh := r.Refresh != nil && *r.Refresh
		if why != "" && (!strings.HasPrefix(string(why), "100") || refresh) {
			return nil, why
		}
		if refresh {
			return m.place(r.Path, "set", r, old.value)
		}
		return m.place(r.Path, "set", r, r.Val)
	}
	if locked(r.Path) {
		return nil, m.refuse(107, "/")
	}
	old, why := m.find(r.Path)
	switch {
	case why != "":
		return nil, why
	case compare && old.children != nil, old.children != nil && r.Val != "":
		return nil, m.refuse(102, old.path)
	case !compare:
		return m.change(old, "update", r), ""
	}
	if cause := m.compared(old, r); cause != "" {
		return nil, m.refuse(101, cause)
	}
	return m.change(old, "compareAndSwap", r), ""
}

func (m *model) remove(r *wire.V2Request) (map[string]any, refusal) {
	compare := r.PrevIndex > 0 || r.PrevValue != ""
	if !compare && locked(r.Path) {
		return nil, m.refuse(107, "/")
	}
	old, why := m.find(r.Path)
	if why != "" {
		return nil, why
	}
	if compare {
		if old.children != nil {
			return nil, m.refuse(102, old.path)
		}
		if cause := m.compared(old, r); cause != "" {
			return nil, m.refuse(101, cause)
		}
		return m.drop(old, "compareAndDelete", r.Time), ""
	}
	switch {
	case old.children != nil && !r.Dir && !r.Recursive:
		return nil, m.refuse(102, old.path)
	case len(old.children) > 0 && !r.Recursive:
		return nil, m.refuse(108, old.path)
	}
	return m.drop(old, "delete", r.Time), ""
}

// each calls f with every node below l.
func (l *leaf) each(f func(*leaf)) {
	for _, child := range l.children {
		f(child)
		child.each(f)
	}
}

func (m *model) sync(now int64) (events []map[string]any) {
	for {
		var first *leaf
		m.root.each(func(l *leaf) {
			if l.expires == 0 || l.expires > now {
				return
			}
			if first == nil || l.expires < first.expires || l.expires == first.expires && l.path < first.path {
				first = l
			}
		})
		if first == nil {
			return events
		}
		events = append(events, m.drop(first, "expire", now))
	}
}

func (m *model) list(l *leaf, recursive bool, now int64) map[string]any {
	out := l.show(now)
	var nodes []any
	var children []string
	for name := range l.children {
		if !strings.HasPrefix(name, "_") {
			children = append(children, name)
		}
	}
	sort.Strings(children)
	for _, name := range children {
		child := l.children[name]
		if recursive {
			nodes = append(nodes, m.list(child, true, now))
		} else {
			nodes = append(nodes, child.show(now))
		}
	}
	if nodes != nil {
		out["nodes"] = nodes
	}
	return out
}

func randomRequest(r *rand.Rand, now int64) *wire.V2Request {
	flag := func() *bool { v := r.IntN(2) == 0; return []*bool{nil, nil, &v}[r.IntN(3)] }
	p := "/1"
	for range 1 + r.IntN(3) {
		p += "/" + []string{"a", "b", "_h", "a-b"}[r.IntN(4)]
	}
	req := &wire.V2Request{Method: "PUT", Path: p, Val: []string{"", "1", "2"}[r.IntN(3)], Time: now, PrevExist: flag(), Dir: r.IntN(5) == 0}
	switch r.IntN(12) {
	case 0, 1, 2:
		req.Method, req.Recursive = "DELETE", r.IntN(2) == 0
	case 3:
		req.Method = "POST"
	case 4:
		req.Path = []string{"/", "/0", "/1", "//1/./a/", "/1/a/../b"}[r.IntN(5)]
	case 5:
		req.Refresh = flag()
	}
	if r.IntN(4) == 0 {
		req.PrevValue = []string{"1", "2"}[r.IntN(2)]
	}
	if r.IntN(6) == 0 {
		req.PrevIndex = r.Uint64N(60)
	}
	if r.IntN(3) == 0 {
		req.Expiration = now + r.Int64N(9)*second/2
	} else if r.IntN(20) == 0 {
		req.Expiration = 12345
	}
	return req
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

// TestAgainstModel compares answers, refusals, events and listings of random requests with the model's. The store is written to an
// engine, and opened anew now and then.
func TestAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	engine, err := storage.Open("db", storage.Options{FS: vfs.NewMem(), MemTableBytes: 1 << 20})
	require.NoError(t, err)
	s, m, now := v2store.New(), newModel(), start
	for i := range 6000 {
		now += r.Int64N(2) * second / 2
		req := randomRequest(r, now)
		var want map[string]any
		var why refusal
		var expired []map[string]any
		switch {
		case r.IntN(15) == 0:
			req = &wire.V2Request{Method: "SYNC", Time: now}
			expired = m.sync(now)
		case req.Method == "DELETE":
			want, why = m.remove(req)
		case req.Method == "POST":
			want, why = m.place(fmt.Sprintf("%s/%020d", req.Path, m.index+1), "create", req, req.Val)
		default:
			want, why = m.put(req)
		}
		b := engine.NewBatch()
		e, err := s.Apply(b, req)
		events := s.Events()
		v := s.Publish()
		require.NoError(t, engine.Commit(b, storage.Mark{Index: 1, Term: 1}))
		require.Equal(t, m.index, v.Index(), "request %d %+v", i, req)
		switch {
		case req.Method == "SYNC":
			require.Len(t, events, len(expired))
			for k := range expired {
				require.JSONEq(t, asJSON(t, expired[k]), asJSON(t, events[k]))
			}
		case why != "":
			require.Error(t, err, "request %d %+v", i, req)
			f := err.(*v2store.Error)
			require.Equal(t, why, refusal(fmt.Sprintf("%d %s at %d", f.Code, f.Cause, f.Index)), "request %d %+v", i, req)
			require.Empty(t, events)
		default:
			require.NoError(t, err, "request %d %+v", i, req)
			require.JSONEq(t, asJSON(t, want), asJSON(t, e), "request %d %+v", i, req)
			require.Equal(t, []*v2store.Event{e}, events)
		}
		if r.IntN(20) == 0 {
			s = reopened(t, engine, v, now)
		}
		for _, p := range []string{"/1", "/1/a", "/1/b/_h"} {
			recursive := r.IntN(2) == 0
			got, err := v.Get(p, recursive, true, now)
			l, why := m.find(p)
			require.Equal(t, why == "", err == nil)
			if err == nil {
				require.JSONEq(t, asJSON(t, answer("get", m.list(l, recursive, now), nil)), asJSON(t, got))
			}
		}
	}
	require.NoError(t, engine.Close())
}

// reopened is a store read from the engine, which must be what was published.
func reopened(t *testing.T, engine *storage.Engine, want *v2store.View, now int64) *v2store.Store {
	t.Helper()
	s, err := v2store.Open(engine)
	require.NoError(t, err)
	v := s.Publish()
	require.Equal(t, want.Stats(), v.Stats())
	require.Equal(t, want.NextExpiry(), v.NextExpiry())
	require.Equal(t, want.Bytes(), v.Bytes())
	require.Len(t, v.History(), len(want.History()))
	for i, e := range want.History() {
		require.Equal(t, e.Index, v.History()[i].Index)
		require.Equal(t, e.Refresh, v.History()[i].Refresh)
		require.Equal(t, asJSON(t, e), asJSON(t, v.History()[i]))
	}
	a, err := want.Get("/", true, true, now)
	require.NoError(t, err)
	b, err := v.Get("/", true, true, now)
	require.NoError(t, err)
	require.Equal(t, asJSON(t, a), asJSON(t, b))
	return s
}
