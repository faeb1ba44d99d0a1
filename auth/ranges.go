package auth

import (
	"bytes"
	"slices"
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

// at returns the last interval that begins at the key or before it, nil when there is none. Every decision on keys comes here,
// so it calls nobody back.
func at[K string | []byte](s spans, key K) *span {
	low, high := 0, len(s)
	for low < high {
		if mid := int(uint(low+high) >> 1); s[mid].begin > string(key) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	if low == 0 {
		return nil
	}
	return &s[low-1]
}

// hasKey says whether the key is in one of the intervals.
func (s spans) hasKey(key string) bool {
	last := at(s, key)
	return last != nil && (last.end == "" || key < last.end)
}

// has says whether all keys of a request's interval are in the intervals. An interval that holds no key counts as its first
// key.
func (s spans) has(key, end []byte) bool {
	last := at(s, key)
	switch {
	case last == nil:
		return false
	case last.end == "":
		return true
	case string(key) >= last.end || openEnd(end):
		return false
	}
	return string(end) <= last.end // also an end of "", the one key
}
