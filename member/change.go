package member

import (
	"encoding/json"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/storage"
)

// ChangeKind says what happened to a member.
type ChangeKind uint8

// The kinds of changes.
const (
	Added    ChangeKind = iota + 1 // also as a learner
	Promoted                       // a learner became a voter
	Updated                        // other peer URLs
	Removed
)

// Change is a change of membership that was applied.
type Change struct {
	Kind   ChangeKind
	Member Member // as it is now; of a removed one, as it was
}

// proposal is a decoded ConfChange.
type proposal struct {
	kind    raftpb.ConfChangeType
	id      ids.MemberID
	member  Member // from the context
	promote bool
}

// decode reads the bytes of a raftpb.ConfChange. Its errors are not faults: no member proposes such bytes.
func decode(data []byte) (proposal, error) {
	var cc raftpb.ConfChange
	if err := proto.Unmarshal(data, &cc); err != nil {
		// The library's text is not the same in every build, so it must not become part of a result.
		return proposal{}, fmt.Errorf("member: an entry of %d bytes is no change of membership", len(data))
	}
	p := proposal{kind: cc.GetType(), id: ids.MemberID(cc.GetNodeId())}
	switch p.kind {
	case raftpb.ConfChangeRemoveNode:
		return p, nil
	case raftpb.ConfChangeAddNode, raftpb.ConfChangeAddLearnerNode, raftpb.ConfChangeUpdateNode:
	default:
		return p, fmt.Errorf("member: a change of membership of the unknown type %d", int32(p.kind))
	}
	var promote struct {
		IsPromote bool `json:"isPromote"`
	}
	err := json.Unmarshal(cc.GetContext(), &p.member)
	if err == nil {
		err = json.Unmarshal(cc.GetContext(), &promote)
	}
	if err != nil {
		return p, fmt.Errorf("member: the context %q of a change of member %s is no member: %w", cc.GetContext(), p.id, err)
	}
	p.promote = promote.IsPromote && p.kind != raftpb.ConfChangeUpdateNode
	if p.member.ID != p.id || p.id == 0 {
		return p, fmt.Errorf("member: a change of member %s has the context of member %s", p.id, p.member.ID)
	}
	if p.promote && p.kind != raftpb.ConfChangeAddNode {
		return p, fmt.Errorf("member: a promotion of member %s adds a learner", p.id)
	}
	return p, nil
}

// ApplyConfChange applies a committed change, given as raftpb.ConfChange bytes. A change that is not valid any more is
// refused with fault.MemberNotFound, MemberExist, PeerURLExist, MemberNotLearner, TooManyLearners or, for the last voter,
// MemberNotEnoughStarted; raft must then be told of a change of no node.
func (t *Table) ApplyConfChange(b *storage.Batch, data []byte) (Change, error) {
	p, err := decode(data)
	if err != nil {
		return Change{}, err
	}
	if err := t.check(&p); err != nil {
		return Change{}, err
	}
	v := t.next()
	c := v.apply(b, &p)
	b.Set(confStateKey, mustJSON(confState{Voters: v.voters, Learners: v.learners}))
	t.view = v
	return c, nil
}

// check validates a change against the register.
func (t *Table) check(p *proposal) error {
	v := t.view
	if v.Removed(p.id) {
		return fault.MemberNotFound
	}
	old, exists := v.Get(p.id)
	adds := !p.promote && (p.kind == raftpb.ConfChangeAddNode || p.kind == raftpb.ConfChangeAddLearnerNode)
	switch {
	case adds && exists:
		return fault.MemberExist
	case !adds && !exists:
		return fault.MemberNotFound
	case p.promote && !old.IsLearner:
		return fault.MemberNotLearner
	case p.kind == raftpb.ConfChangeRemoveNode && len(v.voters) == 1 && v.voters[0] == uint64(p.id):
		return fault.MemberNotEnoughStarted
	}
	if adds || p.kind == raftpb.ConfChangeUpdateNode {
		if err := v.checkURLs(p.id, p.member.PeerURLs); err != nil {
			return err
		}
	}
	if p.kind == raftpb.ConfChangeAddLearnerNode && len(v.learners) >= t.maxLearners {
		return fault.TooManyLearners
	}
	return nil
}

// checkURLs says whether a peer URL belongs to another member.
func (v *View) checkURLs(id ids.MemberID, urls []string) error {
	for i := range v.members {
		if v.members[i].ID == id {
			continue
		}
		for _, u := range urls {
			if slices.Contains(v.members[i].PeerURLs, u) {
				return fmt.Errorf("%w: %s is a peer URL of member %s", fault.PeerURLExist, u, v.members[i].ID)
			}
		}
	}
	return nil
}

// apply makes a valid change.
func (v *View) apply(b *storage.Batch, p *proposal) Change {
	i, _ := v.find(p.id)
	switch {
	case p.kind == raftpb.ConfChangeRemoveNode:
		gone := v.members[i]
		v.members = slices.Delete(v.members, i, i+1)
		if at, _ := slices.BinarySearch(v.removed, p.id); !canary.On(canary.RemovedServes) {
			v.removed = slices.Insert(v.removed, at, p.id)
			b.Set(memberKey(storage.BucketRemoved, p.id), removedValue)
		}
		v.voters, v.learners = without(v.voters, p.id), without(v.learners, p.id)
		b.Delete(memberKey(storage.BucketMembers, p.id))
		return Change{Removed, gone}
	case p.kind == raftpb.ConfChangeUpdateNode:
		v.members[i].PeerURLs = p.member.PeerURLs
		v.save(b, i)
		return Change{Updated, v.members[i]}
	case p.promote:
		v.members[i].IsLearner = false
		v.learners = without(v.learners, p.id)
		v.voters = with(v.voters, p.id)
		if !canary.On(canary.PromoteLost) {
			v.save(b, i)
		}
		return Change{Promoted, v.members[i]}
	}
	p.member.IsLearner = p.kind == raftpb.ConfChangeAddLearnerNode
	v.members = slices.Insert(v.members, i, p.member)
	if p.member.IsLearner {
		v.learners = with(v.learners, p.id)
	} else {
		v.voters = with(v.voters, p.id)
	}
	v.save(b, i)
	return Change{Added, v.members[i]}
}

func with(list []uint64, id ids.MemberID) []uint64 {
	i, found := slices.BinarySearch(list, uint64(id))
	if found {
		return list
	}
	return slices.Insert(list, i, uint64(id))
}

func without(list []uint64, id ids.MemberID) []uint64 {
	i, found := slices.BinarySearch(list, uint64(id))
	if !found {
		return list
	}
	return slices.Delete(list, i, i+1)
}

// Proposal is the change as raft carries it: the type of a ConfChange, and its context, which a removal has none of. Of a
// promotion only the id counts.
func (c Change) Proposal() (kind raftpb.ConfChangeType, context []byte) {
	switch c.Kind {
	case Removed:
		return raftpb.ConfChangeRemoveNode, nil
	case Updated:
		return raftpb.ConfChangeUpdateNode, c.Member.JSON()
	case Promoted:
		return raftpb.ConfChangeAddNode, PromoteContext(Member{ID: c.Member.ID})
	}
	if c.Member.IsLearner {
		return raftpb.ConfChangeAddLearnerNode, c.Member.JSON()
	}
	return raftpb.ConfChangeAddNode, c.Member.JSON()
}

// String names the kind for messages.
func (k ChangeKind) String() string {
	if k < Added || k > Removed {
		return fmt.Sprintf("change %d", uint8(k))
	}
	return [...]string{"added", "promoted", "updated", "removed"}[k-Added]
}
