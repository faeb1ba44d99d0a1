package migrate

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/v2store"
)

// cluster is who belongs to it. etcd keeps that in the tree, so its changes take indices, and a change that it refuses takes none.
type cluster struct {
	members map[uint64]*clusterMember
	removed map[uint64]bool
}

type clusterMember struct {
	PeerURLs  []string `json:"peerURLs"`
	IsLearner bool     `json:"isLearner"`
}

// confContext is what comes with a change of the configuration.
type confContext struct {
	ID uint64 `json:"id"`
	clusterMember
	IsPromote bool `json:"isPromote"`
}

// maxLearners is etcd 3.4's.
const maxLearners = 1

// clusterOf reads it out of a tree.
func clusterOf(t *snapTree) (*cluster, error) {
	c := &cluster{members: map[uint64]*clusterMember{}, removed: map[uint64]bool{}}
	if t == nil {
		return c, nil
	}
	if members := t.at("0", "members"); members != nil {
		for name, n := range members.Children {
			id, err := strconv.ParseUint(name, 16, 64)
			attributes := n.Children["raftAttributes"]
			if err != nil || attributes == nil {
				return nil, fmt.Errorf("/0/members/%s in it is no member", name)
			}
			m := &clusterMember{}
			if err := json.Unmarshal([]byte(attributes.Value), m); err != nil {
				return nil, fmt.Errorf("/0/members/%s in it: %w", name, err)
			}
			c.members[id] = m
		}
	}
	if removed := t.at("0", "removed_members"); removed != nil {
		for name := range removed.Children {
			id, err := strconv.ParseUint(name, 16, 64)
			if err != nil {
				return nil, fmt.Errorf("/0/removed_members/%s in it is no member", name)
			}
			c.removed[id] = true
		}
	}
	return c, nil
}

// change applies a change of the configuration, as the servers did (source: etcd v3.4 etcdserver/api/membership/cluster.go,
// ValidateConfigurationChange), and returns what takes indices; nothing for a change that they refused.
func (c *cluster) change(cc *raftpb.ConfChange) ([]v2store.ClusterChange, error) {
	id := cc.GetNodeId()
	if c.removed[id] {
		return nil, nil
	}
	m := c.members[id]
	ctx := &confContext{}
	if kind := cc.GetType(); kind != raftpb.ConfChangeRemoveNode {
		if err := json.Unmarshal(cc.GetContext(), ctx); err != nil {
			return nil, fmt.Errorf("a change of the configuration has the context %q: %w", cc.GetContext(), err)
		}
	}
	switch cc.GetType() {
	case raftpb.ConfChangeAddNode, raftpb.ConfChangeAddLearnerNode:
		if ctx.IsPromote {
			if m == nil || !m.IsLearner {
				return nil, nil
			}
			m.IsLearner = false
			return []v2store.ClusterChange{v2store.MemberUpdated}, nil
		}
		if m != nil || c.taken(ctx.PeerURLs, id) || ctx.IsLearner && c.learners() >= maxLearners {
			return nil, nil
		}
		c.members[id] = &ctx.clusterMember
		return []v2store.ClusterChange{v2store.MemberAdded}, nil
	case raftpb.ConfChangeRemoveNode:
		if m == nil {
			return nil, nil
		}
		delete(c.members, id)
		c.removed[id] = true
		return []v2store.ClusterChange{v2store.MemberRemoved}, nil
	case raftpb.ConfChangeUpdateNode:
		if m == nil || c.taken(ctx.PeerURLs, id) {
			return nil, nil
		}
		*m = ctx.clusterMember
		return []v2store.ClusterChange{v2store.MemberUpdated}, nil
	}
	return nil, fmt.Errorf("a change of the configuration is of type %d, which no etcd writes", cc.GetType())
}

// taken says whether another member has one of the URLs.
func (c *cluster) taken(urls []string, except uint64) bool {
	for id, m := range c.members {
		if id != except && slices.ContainsFunc(urls, func(u string) bool { return slices.Contains(m.PeerURLs, u) }) {
			return true
		}
	}
	return false
}

func (c *cluster) learners() (n int) {
	for _, m := range c.members {
		if m.IsLearner {
			n++
		}
	}
	return n
}

// write takes a write into /0, which only members make. False says that it is none.
func (c *cluster) write(p, value string) (changes []v2store.ClusterChange, ok bool, err error) {
	dir, name := path.Split(path.Clean(p))
	switch {
	case dir+name == "/0/version":
		if tooNew(value) {
			return nil, true, fmt.Errorf("the cluster was set to version %s: etcd 3.5 and newer are not understood, whose v2 API is no longer what it was", value)
		}
		return []v2store.ClusterChange{v2store.VersionSet}, true, nil
	case name == "attributes" && strings.HasPrefix(dir, "/0/members/"):
		id, err := strconv.ParseUint(path.Base(dir), 16, 64)
		if err != nil {
			return nil, true, fmt.Errorf("the attributes of %q are of no member", p)
		}
		if c.members[id] == nil {
			return nil, true, nil // it was removed meanwhile
		}
		return []v2store.ClusterChange{v2store.MemberPublished}, true, nil
	}
	return nil, false, nil
}
