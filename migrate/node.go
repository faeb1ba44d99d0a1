package migrate

import (
	"unicode/utf8"

	"quorate.dev/quorate/v2store"
)

// item is one node on its way to the transformer.
type item struct {
	*v2store.Node       // with the key that users know, without children
	ends          int64 // when it is gone, with a directory above it perhaps: Unix time in nanoseconds, 0 for never
}

// listing is what a tree holds.
type listing struct {
	items []item
	files int64 // among the items
	odd   int64 // among the files, with a key or value that is no UTF-8
	ttl   int64 // among the files, with a time of their own
	below int64 // among the files, without one, in a directory that has one
	gone  int64 // among the files, whose time was over already

	hidden      int64    // files that no listing shows, not among the items
	hiddenNames []string // the first of them
	auth        int64    // users and roles
}

// namesShown is how many names of hidden keys a report has.
const namesShown = 10

// list gathers the nodes in the order in which transformers get them. now is Unix time in nanoseconds.
func (r *replayed) list(now int64) *listing {
	l := &listing{}
	hidden := ""                 // the hidden node that the walk is below
	ends := []directory{{"", 0}} // above the node that the walk is at
	r.view.Walk(v2store.Keys, now, func(n *v2store.Node) bool {
		n.Key = n.Key[len(v2store.Keys):]
		if hidden != "" && within(n.Key, hidden) || v2store.Hidden(n.Key) {
			if hidden == "" || !within(n.Key, hidden) {
				hidden = n.Key
			}
			l.hide(n)
			return true
		}
		for len(ends) > 1 && !within(n.Key, ends[len(ends)-1].key) {
			ends = ends[:len(ends)-1]
		}
		above := ends[len(ends)-1].ends
		it := item{Node: n, ends: sooner(above, n.Expiration)}
		if n.Key == "" {
			n.Key, n.Created, n.Modified = "/", max(n.Created, r.root), max(n.Modified, r.root)
		} else if n.Dir {
			ends = append(ends, directory{n.Key, it.ends})
		}
		l.add(it, now)
		return true
	})
	for _, dir := range []string{"/users", "/roles"} {
		r.view.Files(v2store.Auth+dir, func(string, string) bool { l.auth++; return true })
	}
	return l
}

type directory struct {
	key  string
	ends int64
}

// within says whether a key is that of a node or of something below it.
func within(key, above string) bool {
	return len(key) >= len(above) && key[:len(above)] == above && (len(key) == len(above) || key[len(above)] == '/')
}

// sooner is the earlier of two times, of which 0 is never.
func sooner(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func (l *listing) hide(n *v2store.Node) {
	if n.Dir {
		return
	}
	if l.hidden++; len(l.hiddenNames) < namesShown {
		l.hiddenNames = append(l.hiddenNames, n.Key)
	}
}

func (l *listing) add(it item, now int64) {
	l.items = append(l.items, it)
	if it.Dir {
		return
	}
	l.files++
	if !utf8.ValidString(it.Key) || !utf8.ValidString(*it.Value) {
		l.odd++
	}
	switch {
	case it.Expiration != 0:
		l.ttl++
	case it.ends != 0:
		l.below++
	}
	if it.ends != 0 && it.ends <= now {
		l.gone++
	}
}
