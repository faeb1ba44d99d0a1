package auth

import (
	"bytes"
	"slices"
	"sort"
	"strings"

	"quorate.dev/quorate/wire"
)

// span is the keys from begin up to, not including, end. An end of "" is that of all keys.
type span struct{ begin, end string }

// spans are intervals of keys, ascending, not empty, and not touching each other, so that an interval that they contain
// together is contained in one of them.
type spans []span

// access is what somebody may read and write.
type access struct{ read, write spans }

var noAccess = &access{}

// spanOf is the interval of a key and a range end as requests and permissions have them. ok is false when it holds no key.
func spanOf(key, end []byte) (s span, ok bool) {
	switch {
	case len(key) == 0:
		return s, false
	case len(end) == 0:
		return span{string(key), string(key) + "\x00"}, true
	case openEnd(end):
		return span{string(key), ""}, true
	}
	return span{string(key), string(end)}, bytes.Compare(key, end) < 0
}

// merge makes spans of intervals in any order, which it may change.
func merge(list []span) spans {
	slices.SortFunc(list, func(a, b span) int { return strings.Compare(a.begin, b.begin) })
	var out spans
	for _, s := range list {
		if n := len(out); n > 0 && (out[n-1].end == "" || out[n-1].end >= s.begin) {
			if last := &out[n-1]; last.end != "" && (s.end == "" || s.end > last.end) {
				last.end = s.end
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// mergeRoles is what somebody may who has these roles.
func mergeRoles(roles []*Role) *access {
	var read, write []span
	for _, r := range roles {
		for i := range r.Permissions {
			p := &r.Permissions[i]
			s, ok := spanOf(p.Key, p.RangeEnd)
			if !ok {
				continue
			}
			if p.Type == wire.AuthRead || p.Type == wire.AuthReadWrite {
				read = append(read, s)
			}
			if p.Type == wire.AuthWrite || p.Type == wire.AuthReadWrite {
				write = append(write, s)
			}
		}
	}
	return &access{read: merge(read), write: merge(write)}
}

// at returns the interval that holds the key, nil when none does.
func (s spans) at(key string) *span {
	i := sort.Search(len(s), func(i int) bool { return s[i].begin > key })
	if i == 0 {
		return nil
	}
	if last := &s[i-1]; last.end == "" || key < last.end {
		return last
	}
	return nil
}

// hasKey says whether the key is in one of the intervals.
func (s spans) hasKey(key string) bool { return s.at(key) != nil }

// has says whether all keys of a request's interval are in the intervals. An interval that holds no key counts as its first
// key.
func (s spans) has(key, end []byte) bool {
	i := sort.Search(len(s), func(i int) bool { return s[i].begin > string(key) })
	if i == 0 {
		return false
	}
	last := &s[i-1]
	switch {
	case last.end == "":
		return true
	case string(key) >= last.end || openEnd(end):
		return false
	}
	return string(end) <= last.end // also an end of "", the one key
}
