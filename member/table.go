package member

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/storage"
)

// Names in the buckets meta and cluster, and the value of a removed id.
var (
	confStateKey      = storage.BucketKeyOf(storage.BucketMeta, []byte("confState"))
	storageVersionKey = storage.BucketKeyOf(storage.BucketMeta, []byte("storageVersion"))
	versionKey        = storage.BucketKeyOf(storage.BucketCluster, []byte("clusterVersion"))
	downgradeKey      = storage.BucketKeyOf(storage.BucketCluster, []byte("downgrade"))
	removedValue      = []byte("removed")
)

func memberKey(bucket byte, id ids.MemberID) []byte {
	return storage.BucketKeyOf(bucket, []byte(id.String()))
}

// MaxLearnersDefault is how many learners a cluster may have (etcd --max-learners).
const MaxLearnersDefault = 1

// View is the register at one moment. It is immutable and for any goroutine.
type View struct {
	members   []Member // ascending by id
	removed   []ids.MemberID
	voters    []uint64 // ascending
	learners  []uint64 // ascending
	version   string
	downgrade Downgrade
}

// Downgrade says whether the cluster is on its way to an older version.
type Downgrade struct {
	Target  string `json:"target-version"` // such as "3.6.0"; empty when not Enabled
	Enabled bool   `json:"enabled"`
}

// Members returns all members, ascending by id. It must not be changed.
func (v *View) Members() []Member { return v.members }

// Get returns the member with this id.
func (v *View) Get(id ids.MemberID) (Member, bool) {
	i, ok := v.find(id)
	if !ok {
		return Member{}, false
	}
	return v.members[i], true
}

func (v *View) find(id ids.MemberID) (int, bool) {
	return slices.BinarySearchFunc(v.members, id, func(m Member, id ids.MemberID) int {
		switch {
		case m.ID < id:
			return -1
		case m.ID > id:
			return 1
		}
		return 0
	})
}

// Removed says whether a member with this id was removed.
func (v *View) Removed(id ids.MemberID) bool {
	_, ok := slices.BinarySearch(v.removed, id)
	return ok
}

// RemovedCount is how many members were removed.
func (v *View) RemovedCount() int { return len(v.removed) }

// ConfState is raft's configuration after the last change, in new memory.
func (v *View) ConfState() *raftpb.ConfState {
	return &raftpb.ConfState{Voters: slices.Clone(v.voters), Learners: slices.Clone(v.learners), AutoLeave: proto.Bool(false)}
}

// Version is the cluster version, such as "3.7.0", empty before the first leader has set it.
func (v *View) Version() string { return v.version }

// Downgrade is the downgrade that is under way, the zero value when none is.
func (v *View) Downgrade() Downgrade { return v.downgrade }

// started counts voters that have published a name, and voters, leaving out one id.
func (v *View) started(except ids.MemberID) (started, voters int) {
	for i := range v.members {
		if m := &v.members[i]; !m.IsLearner && m.ID != except {
			voters++
			if m.Started() {
				started++
			}
		}
	}
	return started, voters
}

func quorum(voters int) int { return voters/2 + 1 }

// CheckReadyToAdd says whether enough voters have started for one more (etcd's --strict-reconfig-check): as many as the
// quorum of the larger cluster, or the only one of a cluster of one. The error is fault.MemberNotEnoughStarted.
func (v *View) CheckReadyToAdd() error {
	started, voters := v.started(0)
	if started == 1 && voters == 1 || started >= quorum(voters+1) {
		return nil
	}
	return fault.MemberNotEnoughStarted
}

// CheckReadyToRemove says whether the voters that remain without id have a quorum of started members. Learners may always
// go. The error is fault.MemberNotEnoughStarted.
func (v *View) CheckReadyToRemove(id ids.MemberID) error {
	if m, ok := v.Get(id); ok && m.IsLearner {
		return nil
	}
	if started, voters := v.started(id); started < quorum(voters) {
		return fault.MemberNotEnoughStarted
	}
	return nil
}

// CheckReadyToPromote says whether, with one learner more that counts as started, the voters have a quorum of started
// members. The error is fault.MemberNotEnoughStarted.
func (v *View) CheckReadyToPromote() error {
	if started, voters := v.started(0); started+1 < quorum(voters+1) {
		return fault.MemberNotEnoughStarted
	}
	return nil
}

// Table is the register for the one writer. Every change makes a new View: changes are rare and members few.
type Table struct {
	view        *View
	maxLearners int
}

// Open reads the register. maxLearners must be the same on every member; 0 means MaxLearnersDefault. Errors are failures of
// the disk or name the record that is damaged.
func Open(r storage.Reader, maxLearners int) (*Table, error) {
	if maxLearners == 0 {
		maxLearners = MaxLearnersDefault
	}
	v := &View{}
	err := each(r, storage.BucketMembers, func(id ids.MemberID, value []byte) error {
		var m Member
		if err := json.Unmarshal(value, &m); err != nil || m.ID != id {
			return damaged(fmt.Sprintf("member %s", id), value, err)
		}
		v.members = append(v.members, m)
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = each(r, storage.BucketRemoved, func(id ids.MemberID, _ []byte) error {
		v.removed = append(v.removed, id)
		return nil
	})
	if err != nil {
		return nil, err
	}
	// Keys are text, so their order is not that of the numbers.
	slices.SortFunc(v.members, byID)
	slices.Sort(v.removed)
	if err := v.readMeta(r); err != nil {
		return nil, err
	}
	return &Table{view: v, maxLearners: maxLearners}, nil
}

func byID(a, b Member) int {
	if a.ID < b.ID {
		return -1
	}
	return 1
}

// each calls f for every record of a bucket whose keys are member ids.
func each(r storage.Reader, bucket byte, f func(id ids.MemberID, value []byte) error) error {
	it, err := r.Iter(storage.BucketBounds(bucket))
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var id uint64
		if id, err = strconv.ParseUint(string(it.Key()[1:]), 16, 64); err != nil {
			err = damaged("a member's key", it.Key(), err)
		} else {
			err = f(ids.MemberID(id), it.Value())
		}
	}
	if closing := it.Close(); err == nil {
		err = closing
	}
	return err
}

func damaged(what string, value []byte, err error) error {
	return fmt.Errorf("member: the record of %s, %q, cannot be understood (%v): the store is damaged; restore it from a snapshot or another member", what, value, err)
}

// confState is the JSON of raftpb.ConfState as etcd stores it.
type confState struct {
	Voters    []uint64 `json:"voters,omitempty"`
	Learners  []uint64 `json:"learners,omitempty"`
	AutoLeave bool     `json:"auto_leave"`
}

func (v *View) readMeta(r storage.Reader) error {
	version, _, err := r.Get(versionKey)
	if err != nil {
		return err
	}
	v.version = string(version)
	down, ok, err := r.Get(downgradeKey)
	if err == nil && ok {
		if bad := json.Unmarshal(down, &v.downgrade); bad != nil {
			return damaged("the downgrade", down, bad)
		}
	}
	if err != nil {
		return err
	}
	conf, ok, err := r.Get(confStateKey)
	if err != nil || !ok {
		return err
	}
	var cs confState
	if bad := json.Unmarshal(conf, &cs); bad != nil {
		return damaged("raft's configuration", conf, bad)
	}
	v.voters, v.learners = cs.Voters, cs.Learners
	slices.Sort(v.voters)
	slices.Sort(v.learners)
	return nil
}

// View returns the register as it is now.
func (t *Table) View() *View { return t.view }

// next returns a copy of the view that may be changed, to become the next one. Members in it still share their slices.
func (t *Table) next() *View {
	v := *t.view
	v.members, v.removed = slices.Clone(v.members), slices.Clone(v.removed)
	v.voters, v.learners = slices.Clone(v.voters), slices.Clone(v.learners)
	return &v
}

// SetAttributes stores what a member publishes of itself when it has started. Unknown and removed ids are refused with
// fault.MemberNotFound. The URLs are copied.
func (t *Table) SetAttributes(b *storage.Batch, id ids.MemberID, name string, clientURLs []string) error {
	i, ok := t.view.find(id)
	if !ok {
		return fault.MemberNotFound
	}
	v := t.next()
	v.members[i].Name, v.members[i].ClientURLs = name, slices.Clone(clientURLs)
	v.save(b, i)
	t.view = v
	return nil
}

// save writes one member.
func (v *View) save(b *storage.Batch, i int) {
	b.Set(memberKey(storage.BucketMembers, v.members[i].ID), mustJSON(v.members[i]))
}

// SetVersion stores the cluster version, "major.minor.patch", and from 3.6 on the same as version of the stored data, which
// etcd brings to the cluster version too. Text of another form is refused with fault.WrongDowngradeVersionFormat, and unless a downgrade
// is under way an older version than that of the cluster with fault.InvalidDowngradeTargetVersion: a leader of an older release may have
// proposed it before it lost the leadership to a newer one.
func (t *Table) SetVersion(b *storage.Batch, version string) error {
	major, minor, ok := parseVersion(version)
	if !ok {
		return fmt.Errorf("%w: cluster version %q", fault.WrongDowngradeVersionFormat, version)
	}
	if nowMajor, nowMinor, set := parseVersion(t.view.version); set && !t.view.downgrade.Enabled && (major < nowMajor || major == nowMajor && minor < nowMinor) {
		return fmt.Errorf("%w: cluster version %s is below %s, and no downgrade is under way", fault.InvalidDowngradeTargetVersion, version, t.view.version)
	}
	v := t.next()
	v.version = version
	b.Set(versionKey, []byte(version))
	if major > 3 || major == 3 && minor >= 6 {
		b.Set(storageVersionKey, []byte(version))
	} else {
		b.Delete(storageVersionKey)
	}
	t.view = v
	return nil
}

// SetDowngrade stores that a downgrade to target is under way, or with enabled false that none is. A target of another form
// than "major.minor.patch" is refused with fault.WrongDowngradeVersionFormat.
func (t *Table) SetDowngrade(b *storage.Batch, enabled bool, target string) error {
	var d Downgrade
	if enabled {
		if _, _, ok := parseVersion(target); !ok {
			return fmt.Errorf("%w: downgrade target %q", fault.WrongDowngradeVersionFormat, target)
		}
		d = Downgrade{Target: target, Enabled: true}
	}
	v := t.next()
	v.downgrade = d
	b.Set(downgradeKey, mustJSON(d))
	t.view = v
	return nil
}

// parseVersion reads "major.minor.patch": decimal numbers without sign or leading zeros.
func parseVersion(s string) (major, minor uint64, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return 0, 0, false
	}
	var n [3]uint64
	for i, part := range parts {
		v, err := strconv.ParseUint(part, 10, 32)
		if err != nil || strconv.FormatUint(v, 10) != part {
			return 0, 0, false
		}
		n[i] = v
	}
	return n[0], n[1], true
}
