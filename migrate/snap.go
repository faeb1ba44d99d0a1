package migrate

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"quorate.dev/quorate/v2store"
)

// snapTree is the tree as a .snap file has it (source: etcd v3.4 etcdserver/api/v2store, store.go and node.go).
type snapTree struct {
	Root           *snapNode
	CurrentIndex   uint64
	CurrentVersion int
}

type snapNode struct {
	Path          string
	CreatedIndex  uint64
	ModifiedIndex uint64
	ExpireTime    time.Time
	Value         string
	Children      map[string]*snapNode // nil for a file
}

// snapVersion is the only one that etcd 2 and 3 write.
const snapVersion = 2

// readTree decodes the data of a snapshot. Errors are reasons, without the name of the file.
func readTree(data []byte) (*snapTree, error) {
	t := &snapTree{}
	if err := json.Unmarshal(data, t); err != nil {
		return nil, fmt.Errorf("the tree of the v2 API in it cannot be decoded: %w", err)
	}
	switch {
	case t.Root == nil || t.Root.Children == nil:
		return nil, fmt.Errorf("the tree of the v2 API in it has no root")
	case t.CurrentVersion != snapVersion:
		return nil, fmt.Errorf("the tree of the v2 API in it is of version %d, and etcd 2 and 3 write version %d", t.CurrentVersion, snapVersion)
	}
	return t, nil
}

// nodes visits the tree, directories before what is in them.
func (t *snapTree) nodes() iter.Seq[*v2store.Node] {
	return func(yield func(*v2store.Node) bool) { t.Root.visit("/", yield) }
}

func (n *snapNode) visit(at string, yield func(*v2store.Node) bool) bool {
	out := &v2store.Node{Key: at, Dir: n.Children != nil, Created: n.CreatedIndex, Modified: n.ModifiedIndex}
	if !out.Dir {
		out.Value = &n.Value
	}
	if !n.ExpireTime.IsZero() {
		out.Expiration = n.ExpireTime.UnixNano()
	}
	if !yield(out) {
		return false
	}
	for _, name := range slices.Sorted(maps.Keys(n.Children)) {
		if !n.Children[name].visit(path.Join(at, name), yield) {
			return false
		}
	}
	return true
}

// at finds a node by the names above it; nil when there is none.
func (t *snapTree) at(names ...string) *snapNode {
	n := t.Root
	for _, name := range names {
		if n == nil {
			return nil
		}
		n = n.Children[name]
	}
	return n
}

// newestVersion of a cluster whose directories are understood.
const newestMajor, newestMinor = 3, 4

// tooNew says whether a version of a cluster is above that; what is no version is not.
func tooNew(version string) bool {
	var major, minor int
	if n, err := fmt.Sscanf(strings.TrimSpace(version), "%d.%d", &major, &minor); n != 2 || err != nil {
		return false
	}
	return major > newestMajor || major == newestMajor && minor > newestMinor
}
