package check

import (
	"slices"
	"strings"
)

// V2Session is one request of a watcher of the v2 API.
type V2Session struct {
	Name      string // of the watcher
	Via       string // the life of a member that serves it
	Path      string
	Recursive bool
	Stream    bool   // it gets all that comes, and not the first alone
	Since     uint64 // waitIndex; 0: the next event
	Start     uint64 // the index that the member had
	Events    []V2Event
	Refusal   *V2Refusal
	Complete  bool // it goes on, and has got all that its member had to send
}

// V2Watches checks watchers against all events. A watcher from an index on gets the first matching event at or after it, and a stream
// all of them, once and in their order, or is told that the history is gone, if it is. Two peculiarities of etcd make some events
// optional: the history does not hide what hidden nodes do from watchers above them, and gives the removal of a directory to whoever
// watches a path that begins like it; what is sent as it happens does neither. And a stream may get the removal of what
// it watches twice. Rules: "v2 watch" (a wrong event), "v2 watch, reliable" (one is missing), "v2 watch, unique", "v2 watch, history"
// (a refusal without cause, or none where one must be). kept is how many events the history has.
func V2Watches(sessions []V2Session, truth *V2Truth, kept uint64) Report {
	var r Report
	r.Operations = len(sessions)
	for i := range sessions {
		truth.watched(&sessions[i], kept, &r)
	}
	return r
}

func (t *V2Truth) watched(s *V2Session, kept uint64, r *Report) {
	next := s.Since
	if next == 0 {
		next = s.Start + 1
	}
	if no := s.Refusal; no != nil {
		if no.Code != 401 || s.Since == 0 || s.Since+kept > no.Index {
			r.add("v2 watch, history", "%s at %s from index %d was refused with %v, and the history has %d events", s.Name, s.Via, s.Since, no, kept)
		}
		return
	}
	if s.Since != 0 && s.Since+kept <= s.Start {
		r.add("v2 watch, history", "%s at %s from index %d was served at index %d, and the history has %d events", s.Name, s.Via, s.Since, s.Start, kept)
		return
	}
	repeated := false
	for i := range s.Events {
		e := &s.Events[i]
		if twice := i > 0 && e.Index == s.Events[i-1].Index && !repeated; twice && s.Stream && strings.HasSuffix(e.Action, "elete") || twice && s.Stream && e.Action == "expire" {
			repeated = true
			continue
		}
		repeated = false
		known := t.event(e.Index)
		switch {
		case e.Index < next:
			r.add("v2 watch, unique", "%s at %s of %s from index %d got %v when it waited for index %d", s.Name, s.Via, s.Path, s.Since, e, next)
			return
		case e.Index <= t.base:
		case known == nil || known.String() != e.String():
			r.add("v2 watch", "%s at %s of %s got %v; what happened is %v", s.Name, s.Via, s.Path, e, known)
			return
		case !t.may(s, known):
			r.add("v2 watch", "%s at %s of %s got %v, which does not concern it", s.Name, s.Via, s.Path, e)
			return
		}
		if lost := t.first(s, next, e.Index); lost != nil {
			r.add("v2 watch, reliable", "%s at %s of %s from index %d got %v before %v", s.Name, s.Via, s.Path, s.Since, e, lost)
			return
		}
		next = e.Index + 1
		if !s.Stream && i > 0 {
			r.add("v2 watch, unique", "%s at %s of %s from index %d is no stream and got %v after the first", s.Name, s.Via, s.Path, s.Since, e)
			return
		}
	}
	if lost := t.first(s, next, t.Last()+1); s.Complete && (s.Stream || len(s.Events) == 0) && lost != nil {
		r.add("v2 watch, reliable", "%s at %s of %s from index %d waits for index %d in the end, and did not get %v", s.Name, s.Via, s.Path, s.Since, next, lost)
	}
}

// first is the first event from one index up to another, without that, which the watcher has to get.
func (t *V2Truth) first(s *V2Session, from, to uint64) *V2Event {
	for index := max(from, t.base+1); index < min(to, t.Last()+1); index++ {
		if e := t.event(index); t.must(s, e) {
			return e
		}
	}
	return nil
}

// under reports whether a path lies below another one, and whether something hidden is on the way.
func under(p, dir string) (is, hidden bool) {
	prefix := strings.TrimSuffix(dir, "/") + "/"
	if !strings.HasPrefix(p, prefix) {
		return false, false
	}
	return true, strings.Contains(p[len(prefix)-1:], "/_")
}

func removes(e *V2Event) bool {
	return e.Action == "delete" || e.Action == "expire" || e.Action == "compareAndDelete"
}

// must reports whether an event has to be sent.
func (t *V2Truth) must(s *V2Session, e *V2Event) bool {
	if e.Refresh {
		return false
	}
	if e.Node.Key == s.Path {
		return true
	}
	if below, hidden := under(e.Node.Key, s.Path); s.Recursive && below && !hidden {
		return true
	}
	if above, _ := under(s.Path, e.Node.Key); above && removes(e) {
		_, there := t.was[e.Index-t.base-1].get(s.Path)
		return there
	}
	return false
}

// may reports whether an event can be sent.
func (t *V2Truth) may(s *V2Session, e *V2Event) bool {
	if e.Refresh {
		return false
	}
	below, _ := under(e.Node.Key, s.Path)
	return t.must(s, e) || s.Recursive && below || removes(e) && e.Prev != nil && e.Prev.Dir && strings.HasPrefix(s.Path, e.Node.Key)
}

// V2Sample is the index that a member had at an instant.
type V2Sample struct {
	Via      string // the life of a member
	From, To int64  // it had the index at some instant in between
	Index    uint64
}

// V2Indices checks that the index of a member never goes back while it lives. Rule: "v2 index goes back".
func V2Indices(samples []V2Sample) Report {
	var r Report
	r.Operations = len(samples)
	byMember := map[string][]V2Sample{}
	var names []string
	for _, s := range samples {
		if byMember[s.Via] == nil {
			names = append(names, s.Via)
		}
		byMember[s.Via] = append(byMember[s.Via], s)
	}
	for _, name := range names {
		list := byMember[name]
		ended := slices.Clone(list)
		slices.SortStableFunc(list, func(a, b V2Sample) int { return compare(a.From, b.From) })
		slices.SortStableFunc(ended, func(a, b V2Sample) int { return compare(a.To, b.To) })
		var highest V2Sample
		at := 0
		for _, s := range list {
			for ; at < len(ended) && ended[at].To < s.From; at++ {
				if ended[at].Index > highest.Index {
					highest = ended[at]
				}
			}
			if s.Index < highest.Index {
				r.add("v2 index goes back", "%s had index %d at %d, and at %d it had %d", name, highest.Index, highest.To, s.From, s.Index)
			}
		}
	}
	return r
}

// V2Content is all files that a member has at an index.
type V2Content struct {
	Member string
	Index  uint64
	Files  map[string]string // by path
}

// V2Contents checks what members hold against the log. Rule: "v2 content".
func V2Contents(contents []V2Content, truth *V2Truth) Report {
	var r Report
	r.Operations = len(contents)
	for _, c := range contents {
		s := truth.at(c.Index)
		if s == nil {
			if len(truth.states) > 0 && c.Index > truth.base {
				r.add("v2 content", "%s is at index %d, and the last is %d", c.Member, c.Index, truth.Last())
			}
			continue
		}
		files := map[string]string{}
		s.nodes.each("", "", true, func(p string, n v2node) {
			if !n.dir {
				files[p] = n.value
			}
		})
		if p, what := differing(files, c.Files); what != "" {
			r.add("v2 content", "%s at index %d: the file %s %s", c.Member, c.Index, p, what)
		}
	}
	return r
}

// differing names the first path at which two sets of files differ.
func differing(want, got map[string]string) (p, what string) {
	for _, p := range sortedKeys(want) {
		switch value, ok := got[p]; {
		case !ok:
			return p, "is missing"
		case value != want[p]:
			return p, "has the value " + short(value) + " instead of " + short(want[p])
		}
	}
	for _, p := range sortedKeys(got) {
		if _, ok := want[p]; !ok {
			return p, "must not be there"
		}
	}
	return "", ""
}

// V2Shared checks, in shared mode, what a member holds at one instant: files and the v3 keys that can be shown must be the same. keys are
// all that begin with a slash; files and dirs those below /1. Rule: "v2 shared".
func V2Shared(member string, keys, files map[string]string, dirs []string) Report {
	var r Report
	isDir := map[string]bool{}
	for _, d := range dirs {
		isDir[d] = true
	}
	for _, p := range sortedKeys(files) {
		value, ok := keys[keyOf(p)]
		if !ok || value != files[p] {
			r.add("v2 shared", "%s has the file %s=%q and the v3 key %q, %t", member, p, short(files[p]), short(value), ok)
		}
	}
	for _, key := range sortedKeys(keys) {
		p := v2pathOf(key)
		if _, ok := files[p]; p == "" || ok || isDir[p] {
			continue
		}
		if !slices.ContainsFunc(above(p), func(dir string) bool { _, file := files[dir]; return file }) {
			r.add("v2 shared", "%s has the v3 key %q=%q, and no file, though nothing is in its way", member, key, short(keys[key]))
		}
	}
	return r
}
