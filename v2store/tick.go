package v2store

import "quorate.dev/quorate/storage"

// ClusterChange is what happened to the cluster. etcd keeps its members and version in the tree, so each takes an index and a
// place in the history.
type ClusterChange uint8

// The changes.
const (
	MemberAdded     ClusterChange = iota + 1
	MemberUpdated                 // its peer URLs, or a learner became a voter
	MemberPublished               // its name and client URLs
	MemberRemoved                 // it takes two indices: it goes from one list to another
	VersionSet
)

// Tick takes a change of the cluster into account. A store that was not started has no rows for it: see Assume.
func (s *Store) Tick(b *storage.Batch, what ClusterChange) {
	if !s.started {
		return
	}
	s.begin(b)
	s.tick(what)
	s.saveHead()
}

func (s *Store) tick(what ClusterChange) {
	counts := &s.head.counts
	switch what {
	case MemberAdded:
		counts.CreateSuccess++
		s.clusterEvent(ActionCreate, "/0/members")
	case MemberUpdated:
		counts.UpdateSuccess++
		s.clusterEvent(ActionUpdate, "/0/members")
	case MemberPublished:
		counts.SetsSuccess++
		s.clusterEvent(ActionSet, "/0/members")
	case MemberRemoved:
		counts.DeleteSuccess++
		s.clusterEvent(ActionDelete, "/0/members")
		counts.CreateSuccess++
		s.clusterEvent(ActionCreate, "/0/removed_members")
	case VersionSet:
		counts.SetsSuccess++
		s.clusterEvent(ActionSet, "/0/version")
	}
}

func (s *Store) clusterEvent(action, path string) {
	index := s.head.index + 1
	s.record(&Event{Action: action, Node: &Node{Key: path, Modified: index, Created: index}, Index: index})
}

// Founding is what the index of a store follows from that was not started.
type Founding struct {
	Members   int  // that are in the cluster
	Published int  // of those, how many have told their names
	Removed   int  // that were in the cluster
	Version   bool // the cluster has one
}

// Assume sets the index of a store that was not started to what etcd's would be in a cluster that came to be in the shortest way, and
// fills the history accordingly. It does nothing to one that was started.
func (s *Store) Assume(f Founding) {
	if s.started {
		return
	}
	s.head, s.events, s.view = head{}, nil, nil
	again := func(n int, what ...ClusterChange) {
		for range n {
			for _, w := range what {
				s.tick(w)
			}
		}
	}
	again(f.Removed, MemberAdded, MemberPublished, MemberRemoved)
	again(f.Members, MemberAdded)
	again(f.Published, MemberPublished)
	if f.Version {
		s.tick(VersionSet)
	}
	s.fresh = nil
}
