package v2store

import (
	"path"
	"strings"

	"github.com/google/btree"
)

// The namespaces.
const (
	Cluster = "/0" // etcd's members and version; nothing is kept there
	Keys    = "/1" // what users see as /
	Auth    = "/2" // users and roles of v2 authentication
)

// node is a file or a directory in the tree. It is never changed, only replaced.
type node struct {
	path     string
	value    string
	dir      bool
	expires  int64 // Unix time in nanoseconds, 0 for never
	created  uint64
	modified uint64
}

// degree is of the B-trees: a copy of one node of them is some hundred bytes.
const degree = 16

func byPath(a, b *node) bool { return a.path < b.path }

func byExpiry(a, b *node) bool {
	if a.expires != b.expires {
		return a.expires < b.expires
	}
	return a.path < b.path
}

// nodes is an ordered map from paths to nodes.
type nodes struct{ *btree.BTreeG[*node] }

func newNodes() nodes { return nodes{btree.NewG(degree, byPath)} }

func (t nodes) at(p string) *node {
	n, _ := t.Get(&node{path: p})
	return n
}

// under is what the paths of all nodes below p begin with.
func under(p string) string {
	if p == "/" {
		return p
	}
	return p + "/"
}

// below calls f for every node below p, in order of paths, until it says no. The tree must not change meanwhile.
func (t nodes) below(p string, f func(*node) bool) {
	prefix := under(p)
	t.AscendGreaterOrEqual(&node{path: prefix}, func(n *node) bool {
		return strings.HasPrefix(n.path, prefix) && (n.path == prefix || f(n))
	})
}

// children calls f for every node directly below p, in order.
func (t nodes) children(p string, f func(*node)) {
	prefix := under(p)
	from := prefix
	for from != "" {
		at := from
		from = ""
		t.AscendGreaterOrEqual(&node{path: at}, func(n *node) bool {
			if !strings.HasPrefix(n.path, prefix) {
				return false
			}
			name := n.path[len(prefix):]
			slash := strings.IndexByte(name, '/')
			if slash >= 0 {
				from = prefix + name[:slash] + "0" // the first path behind all those below that child
				return false
			}
			if name != "" {
				f(n)
			}
			return true
		})
	}
}

func (t nodes) empty(p string) bool {
	is := true
	t.below(p, func(*node) bool { is = false; return false })
	return is
}

// find gives the node at a clean path, or why there is none, as etcd walks: the first component that is missing, or the first that
// is a file with something below it.
func (t nodes) find(p string, index uint64) (*node, *Error) {
	if n := t.at(p); n != nil {
		return n, nil
	}
	for i := 1; i < len(p); i++ {
		if p[i] != '/' {
			continue
		}
		n := t.at(p[:i])
		if n == nil {
			return nil, NewError(CodeKeyNotFound, p[:i], index)
		}
		if !n.dir {
			return nil, NewError(CodeNotDir, n.path, index)
		}
	}
	return nil, NewError(CodeKeyNotFound, p, index)
}

// blocked gives the first file that stands where a directory above p would have to be, nil when none does.
func (t nodes) blocked(p string) *node {
	for i := 1; i < len(p); i++ {
		if p[i] != '/' {
			continue
		}
		if n := t.at(p[:i]); n != nil && !n.dir {
			return n
		}
	}
	return nil
}

// Clean makes a path absolute, without empty, "." and ".." components and without a slash at its end.
func Clean(p string) string { return path.Clean("/" + p) }

// Hidden says whether the last component of a path begins with '_'. Directories do not list such nodes.
func Hidden(p string) bool {
	i := strings.LastIndexByte(p, '/')
	return i+1 < len(p) && p[i+1] == '_'
}

func readOnly(p string) bool { return p == "/" || p == Cluster || p == Keys }

// ttl is how many seconds are left of a node at a time, rounded up as etcd does.
func ttl(expires, now int64) int64 {
	if expires == 0 {
		return 0
	}
	left := expires - now
	seconds := left / nanosPerSecond
	if left%nanosPerSecond > 0 {
		seconds++
	}
	return seconds
}

// shown is the node as events show it, without children.
func (n *node) shown(now int64) *Node {
	s := &Node{Key: n.path, Dir: n.dir, Expiration: n.expires, TTL: ttl(n.expires, now), Modified: n.modified, Created: n.created}
	if !n.dir {
		s.Value = &n.value
	}
	return s
}

// bytes is what the quota counts for a node.
func (n *node) bytes() int64 { return int64(len(n.path) + len(n.value)) }

// IsDir says whether there is a directory at a clean path.
func (s *Store) IsDir(p string) bool { return s.tree.isDir(p) }

// IsDir says whether there is a directory at a clean path.
func (v *View) IsDir(p string) bool { return v.tree.isDir(p) }

func (t nodes) isDir(p string) bool {
	n := t.at(p)
	return n != nil && n.dir
}
