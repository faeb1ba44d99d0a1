package transfer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/storage"
)

// takeMembers remembers the outcome.
func (s *Source) takeMembers(engine *storage.Engine, table *member.Table) error {
	s.Members = table.View().Members()
	s.facts.removed = nil
	it, err := engine.Iter(storage.BucketBounds(storage.BucketRemoved))
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		id, err := strconv.ParseUint(string(it.Key()[1:]), 16, 64)
		if err != nil {
			return errors.Join(err, it.Close())
		}
		s.facts.removed = append(s.facts.removed, ids.MemberID(id))
	}
	if err := it.Close(); err != nil {
		return err
	}
	return s.checkSelf()
}

var errEnough = errors.New("transfer: enough")

// maxLearners lets every change that etcd has made be made again.
const maxLearners = 1 << 20

// attributes are the two parts of a member in the tree.
type attributes struct {
	PeerURLs   []string `json:"peerURLs"`
	IsLearner  bool     `json:"isLearner"`
	Name       string   `json:"name"`
	ClientURLs []string `json:"clientURLs"`
}

// seed writes the members that a tree holds.
func seed(b *storage.Batch, tree *v2Node) error {
	var conf struct {
		Voters    []uint64 `json:"voters"`
		Learners  []uint64 `json:"learners,omitempty"`
		AutoLeave bool     `json:"auto_leave"`
	}
	for name, node := range tree.child("members").children() {
		id, err := strconv.ParseUint(name, 16, 64)
		if err != nil {
			return fmt.Errorf("%q is no member's id", name)
		}
		var a attributes
		for _, part := range []string{"raftAttributes", "attributes"} {
			if n := node.child(part); n != nil {
				if err := json.Unmarshal([]byte(n.Value), &a); err != nil {
					return fmt.Errorf("the %s of member %s, %q, cannot be understood: %w", part, name, n.Value, err)
				}
			}
		}
		m := member.Member{ID: ids.MemberID(id), Name: a.Name, PeerURLs: a.PeerURLs, ClientURLs: a.ClientURLs, IsLearner: a.IsLearner}
		b.Set(storage.BucketKeyOf(storage.BucketMembers, []byte(m.ID.String())), m.JSON())
		if m.IsLearner {
			conf.Learners = append(conf.Learners, id)
		} else {
			conf.Voters = append(conf.Voters, id)
		}
	}
	for name := range tree.child("removed_members").children() {
		id, err := strconv.ParseUint(name, 16, 64)
		if err != nil {
			return fmt.Errorf("%q is no member's id", name)
		}
		b.Set(storage.BucketKeyOf(storage.BucketRemoved, []byte(ids.MemberID(id).String())), []byte("removed"))
	}
	text, err := json.Marshal(conf)
	if err != nil {
		return err
	}
	if v := tree.child("version"); v != nil {
		b.Set(storage.BucketKeyOf(storage.BucketCluster, []byte("clusterVersion")), []byte(v.Value))
	}
	b.Set(storage.BucketKeyOf(storage.BucketMeta, []byte("confState")), text)
	return nil
}

func memberID(id uint64) ids.MemberID { return ids.MemberID(id) }
