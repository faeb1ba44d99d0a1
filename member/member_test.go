package member

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/storage"
)

// cluster is a register on an engine; every step commits.
type cluster struct {
	*testing.T
	engine *storage.Engine
	table  *Table
	batch  *storage.Batch
	index  ids.Index
}

func newCluster(t *testing.T) *cluster {
	e, err := storage.Open("db", storage.Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	c := &cluster{T: t, engine: e, batch: e.NewBatch()}
	c.open()
	return c
}

func (c *cluster) open() {
	c.Helper()
	var err error
	c.table, err = Open(c.engine, 0)
	require.NoError(c, err)
}

func (c *cluster) commit() {
	c.Helper()
	c.index++
	require.NoError(c, c.engine.Commit(c.batch, storage.Mark{Index: c.index, Term: 1}))
	c.batch.Reset()
}

// change applies a ConfChange and, whatever came of it, checks that reading the register again gives the same.
func (c *cluster) change(kind raftpb.ConfChangeType, id ids.MemberID, context []byte) (Change, error) {
	c.Helper()
	data, err := proto.Marshal(&raftpb.ConfChange{Type: kind.Enum(), NodeId: proto.Uint64(uint64(id)), Context: context})
	require.NoError(c, err)
	return c.apply(data)
}

func (c *cluster) apply(data []byte) (Change, error) {
	c.Helper()
	before := c.table.View()
	done, err := c.table.ApplyConfChange(c.batch, data)
	if err != nil {
		require.Zero(c, c.batch.Len(), "a refused change writes")
		require.Same(c, before, c.table.View(), "a refused change shows")
	}
	c.commit()
	view := c.table.View()
	c.open()
	require.Equal(c, view.Members(), c.table.View().Members())
	require.Equal(c, view.ConfState().String(), c.table.View().ConfState().String())
	require.Equal(c, view.removed, c.table.View().removed)
	return done, err
}

func (c *cluster) stored(key string) string {
	c.Helper()
	v, ok, err := c.engine.Get([]byte(key))
	require.NoError(c, err)
	if !ok {
		return "(none)"
	}
	return string(v)
}

func TestLifeOfACluster(t *testing.T) {
	c := newCluster(t)
	one := Member{ID: 0xa1, PeerURLs: []string{"http://a:2380"}, Name: "one"}
	done, err := c.change(raftpb.ConfChangeAddNode, one.ID, one.JSON())
	require.NoError(t, err)
	require.Equal(t, Change{Added, one}, done)
	require.Equal(t, `{"id":161,"peerURLs":["http://a:2380"],"name":"one"}`, c.stored("Ma1"))
	require.Equal(t, `{"voters":[161],"auto_leave":false}`, c.stored("mconfState"))

	require.NoError(t, c.table.SetAttributes(c.batch, 0xa1, "one", []string{"http://a:2379"}))
	c.commit()
	require.Equal(t, `{"id":161,"peerURLs":["http://a:2380"],"name":"one","clientURLs":["http://a:2379"]}`, c.stored("Ma1"))

	two := Member{ID: 0xfffffffffffffff1, PeerURLs: []string{"http://b:2380"}, IsLearner: true}
	_, err = c.change(raftpb.ConfChangeAddLearnerNode, two.ID, two.JSON())
	require.NoError(t, err)
	require.Equal(t, `{"id":18446744073709551601,"peerURLs":["http://b:2380"],"isLearner":true}`, c.stored("Mfffffffffffffff1"))
	require.Equal(t, `{"voters":[161],"learners":[18446744073709551601],"auto_leave":false}`, c.stored("mconfState"))
	require.NoError(t, c.table.View().CheckReadyToRemove(two.ID))

	done, err = c.change(raftpb.ConfChangeAddNode, two.ID, PromoteContext(two))
	require.NoError(t, err)
	require.Equal(t, Promoted, done.Kind)
	require.False(t, done.Member.IsLearner)
	require.Equal(t, `{"voters":[161,18446744073709551601],"auto_leave":false}`, c.stored("mconfState"))

	two.PeerURLs = []string{"http://b2:2380"}
	_, err = c.change(raftpb.ConfChangeUpdateNode, two.ID, two.JSON())
	require.NoError(t, err)
	require.Equal(t, `{"id":18446744073709551601,"peerURLs":["http://b2:2380"]}`, c.stored("Mfffffffffffffff1"))

	done, err = c.change(raftpb.ConfChangeRemoveNode, one.ID, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"http://a:2379"}, done.Member.ClientURLs)
	require.Equal(t, "(none)", c.stored("Ma1"))
	require.Equal(t, "removed", c.stored("Ra1"))
	require.Equal(t, `{"voters":[18446744073709551601],"auto_leave":false}`, c.stored("mconfState"))
	require.True(t, c.table.View().Removed(one.ID))
	_, there := c.table.View().Get(one.ID)
	require.False(t, there)
}

// TestContextsAreEtcds decodes our contexts with the fields that etcd's ConfigChangeContext has.
func TestContextsAreEtcds(t *testing.T) {
	m := Member{ID: 5, PeerURLs: []string{"http://x?a=1&b=2"}, IsLearner: true}
	require.Equal(t, `{"id":5,"peerURLs":["http://x?a=1\u0026b=2"],"isLearner":true}`, string(m.JSON()))
	require.Equal(t, `{"id":5,"peerURLs":["http://x?a=1\u0026b=2"],"isLearner":true,"isPromote":true}`, string(PromoteContext(m)))
	var back Member
	require.NoError(t, json.Unmarshal(PromoteContext(m), &back))
	require.Equal(t, m, back)
}

func TestRefusedChanges(t *testing.T) {
	c := newCluster(t)
	add := raftpb.ConfChangeAddNode
	member := func(id ids.MemberID, url string) Member { return Member{ID: id, PeerURLs: []string{url}} }
	for _, m := range []Member{member(1, "http://1:1"), member(2, "http://2:1"), member(3, "http://3:1")} {
		_, err := c.change(add, m.ID, m.JSON())
		require.NoError(t, err)
	}
	_, err := c.change(raftpb.ConfChangeRemoveNode, 3, nil)
	require.NoError(t, err)
	_, err = c.change(raftpb.ConfChangeAddLearnerNode, 4, member(4, "http://4:1").JSON())
	require.NoError(t, err)
	for _, x := range []struct {
		name    string
		kind    raftpb.ConfChangeType
		id      ids.MemberID
		context []byte
		want    *fault.Error // nil: an error that is no fault
	}{
		{"id exists", add, 1, member(1, "http://9:1").JSON(), fault.MemberExist},
		{"learner of an id that exists", raftpb.ConfChangeAddLearnerNode, 1, member(1, "http://9:1").JSON(), fault.MemberExist},
		{"removed id", add, 3, member(3, "http://3:1").JSON(), fault.MemberNotFound},
		{"URL in use", add, 9, member(9, "http://2:1").JSON(), fault.PeerURLExist},
		{"second learner", raftpb.ConfChangeAddLearnerNode, 9, member(9, "http://9:1").JSON(), fault.TooManyLearners},
		{"promotion of nobody", add, 9, PromoteContext(member(9, "http://9:1")), fault.MemberNotFound},
		{"promotion of a voter", add, 1, PromoteContext(member(1, "http://1:1")), fault.MemberNotLearner},
		{"promotion as learner", raftpb.ConfChangeAddLearnerNode, 4, PromoteContext(member(4, "http://4:1")), nil},
		{"removal of nobody", raftpb.ConfChangeRemoveNode, 9, nil, fault.MemberNotFound},
		{"removal again", raftpb.ConfChangeRemoveNode, 3, nil, fault.MemberNotFound},
		{"update of nobody", raftpb.ConfChangeUpdateNode, 9, member(9, "http://9:1").JSON(), fault.MemberNotFound},
		{"update to a URL in use", raftpb.ConfChangeUpdateNode, 1, member(1, "http://2:1").JSON(), fault.PeerURLExist},
		{"no context", add, 9, nil, nil},
		{"context of another", add, 9, member(8, "http://9:1").JSON(), nil},
		{"context of null", add, 9, []byte("null"), nil},
		{"id 0", add, 0, member(0, "http://9:1").JSON(), nil},
		{"removal of id 0", raftpb.ConfChangeRemoveNode, 0, nil, fault.MemberNotFound},
		{"unknown type", raftpb.ConfChangeType(17), 9, member(9, "http://9:1").JSON(), nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			_, err := c.change(x.kind, x.id, x.context)
			require.Error(t, err)
			var f *fault.Error
			if x.want == nil {
				require.False(t, errors.As(err, &f), "%v", err)
			} else {
				require.ErrorIs(t, err, x.want)
			}
		})
	}
	_, err = c.apply([]byte{0xff})
	require.ErrorContains(t, err, "no change of membership")

	_, err = c.change(raftpb.ConfChangeRemoveNode, 1, nil)
	require.NoError(t, err)
	_, err = c.change(raftpb.ConfChangeRemoveNode, 2, nil)
	require.ErrorIs(t, err, fault.MemberNotEnoughStarted, "the last voter")
	_, err = c.change(raftpb.ConfChangeUpdateNode, 2, member(2, "http://2:1").JSON())
	require.NoError(t, err, "an update may keep its own URL")
}

func TestViewsDoNotChange(t *testing.T) {
	c := newCluster(t)
	m := Member{ID: 1, PeerURLs: []string{"http://1:1"}}
	_, err := c.change(raftpb.ConfChangeAddNode, 1, m.JSON())
	require.NoError(t, err)
	before := c.table.View()
	require.NoError(t, c.table.SetAttributes(c.batch, 1, "n", []string{"http://c"}))
	m.ID, m.PeerURLs = 2, []string{"http://2:1"}
	_, err = c.change(raftpb.ConfChangeAddNode, 2, m.JSON())
	require.NoError(t, err)
	_, err = c.change(raftpb.ConfChangeRemoveNode, 1, nil)
	require.NoError(t, err)
	require.Equal(t, []Member{{ID: 1, PeerURLs: []string{"http://1:1"}}}, before.Members())
	require.Equal(t, []uint64{1}, before.ConfState().GetVoters())
	require.False(t, before.Removed(1))
	require.ErrorIs(t, c.table.SetAttributes(c.batch, 1, "n", nil), fault.MemberNotFound)
}

// TestOrderIsOfNumbers adds members whose keys sort otherwise than their ids; change compares with what Open reads.
func TestOrderIsOfNumbers(t *testing.T) {
	c := newCluster(t)
	for _, id := range []ids.MemberID{0x100, 0x9, 0x10} {
		_, err := c.change(raftpb.ConfChangeAddNode, id, Member{ID: id, PeerURLs: []string{"http://" + id.String() + ":1"}}.JSON())
		require.NoError(t, err)
	}
	for _, id := range []ids.MemberID{0x100, 0x9} {
		_, err := c.change(raftpb.ConfChangeRemoveNode, id, nil)
		require.NoError(t, err)
	}
	require.Equal(t, []ids.MemberID{0x9, 0x100}, c.table.View().removed)
	require.True(t, c.table.View().Removed(0x9) && c.table.View().Removed(0x100))
}

func TestVersions(t *testing.T) {
	c := newCluster(t)
	for _, bad := range []string{"", "3", "3.7", "3.7.x", "03.7.0", "3.7.0.0", "-3.7.0", "3.7.0-rc", "3..0", "99999999999.0.0"} {
		require.ErrorIs(t, c.table.SetVersion(c.batch, bad), fault.WrongDowngradeVersionFormat, bad)
		require.ErrorIs(t, c.table.SetDowngrade(c.batch, true, bad), fault.WrongDowngradeVersionFormat, bad)
	}
	require.Zero(t, c.batch.Len())
	require.NoError(t, c.table.SetVersion(c.batch, "3.6.0"))
	require.NoError(t, c.table.SetVersion(c.batch, "3.7.0"))
	c.commit()
	for _, below := range []string{"3.6.0", "2.8.0"} {
		require.ErrorIs(t, c.table.SetVersion(c.batch, below), fault.InvalidDowngradeTargetVersion, "a leader of an older release proposed it")
	}
	require.Zero(t, c.batch.Len())
	require.Equal(t, "3.7.0", c.table.View().Version())
	require.NoError(t, c.table.SetDowngrade(c.batch, true, "3.6.0"))
	c.commit()
	require.Equal(t, []string{"3.7.0", "3.7.0", `{"target-version":"3.6.0","enabled":true}`},
		[]string{c.stored("cclusterVersion"), c.stored("mstorageVersion"), c.stored("cdowngrade")})
	c.open()
	require.Equal(t, "3.7.0", c.table.View().Version())
	require.Equal(t, Downgrade{"3.6.0", true}, c.table.View().Downgrade())
	require.NoError(t, c.table.SetVersion(c.batch, "3.5.0"))
	require.NoError(t, c.table.SetDowngrade(c.batch, false, "3.6.0"))
	c.commit()
	require.Equal(t, []string{"3.5.0", "(none)", `{"target-version":"","enabled":false}`},
		[]string{c.stored("cclusterVersion"), c.stored("mstorageVersion"), c.stored("cdowngrade")})
	require.Equal(t, Downgrade{}, c.table.View().Downgrade())
}

// TestIDs uses ids that real clusters have: those of etcd's own documents and logs.
func TestIDs(t *testing.T) {
	id := IDOf([]string{"http://localhost:2380"}, "etcd-cluster")
	require.Equal(t, "8e9e05c52164694d", id.String())
	require.Equal(t, "cdf818194e3a8c32", ClusterIDOf([]ids.MemberID{id}).String())
	require.Equal(t, IDOf([]string{"http://b:1", "http://a:1"}, "t"), IDOf([]string{"http://a:1", "http://b:1"}, "t"))
	require.Equal(t, ClusterIDOf([]ids.MemberID{2, 1}), ClusterIDOf([]ids.MemberID{1, 2}))
	require.Equal(t, IDOf([]string{"http://a:1"}, "1700000000"), IDOfAdded([]string{"http://a:1"}, 1700000000))
}

func TestCheckURLs(t *testing.T) {
	require.NoError(t, CheckURLs([]string{"http://a:1", "https://[::1]:2380", "unix://x:1", "unixs:///tmp/s", "http://:2380", " http://a:1 "}))
	for _, bad := range []string{"", "a:1", "http://a", "http://a:1/", "ftp://a:1", "http://[::1]", "http://::1:2380", "http://a:b:c", "http://%zz:1", "\x7f"} {
		require.ErrorIs(t, CheckURLs([]string{bad}), fault.MemberBadURLs, bad)
	}
	require.ErrorIs(t, CheckURLs(nil), fault.MemberBadURLs)
}

func TestQuorumOfStartedMembers(t *testing.T) {
	for _, x := range []struct {
		members                      string // S started voter, u unstarted voter, L learner
		add, removeFirst, promoteOne bool
	}{
		{"S", true, false, true},
		{"SS", true, true, true},
		{"Su", false, false, true},
		{"uS", false, true, true},
		{"SSu", false, false, true},
		{"uSS", false, true, true},
		{"Suu", false, false, false},
		{"SSS", true, true, true},
		{"LSu", false, true, true},
		{"SSSu", true, true, true},
	} {
		v := &View{}
		for i, kind := range x.members {
			m := Member{ID: ids.MemberID(i + 1), IsLearner: kind == 'L'}
			if kind != 'u' {
				m.Name = "n"
			}
			v.members = append(v.members, m)
		}
		require.Equal(t, []bool{x.add, x.removeFirst, x.promoteOne},
			[]bool{v.CheckReadyToAdd() == nil, v.CheckReadyToRemove(1) == nil, v.CheckReadyToPromote() == nil}, x.members)
	}
}

func TestOpenRefusesDamage(t *testing.T) {
	for name, rec := range map[string][2]string{
		"key":        {"Mxyz", `{"id":1}`},
		"json":       {"M1", `{"id":`},
		"other id":   {"M1", `{"id":2}`},
		"removed":    {"R-", "removed"},
		"conf state": {"mconfState", "{"},
		"downgrade":  {"cdowngrade", "{"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.batch.Set([]byte(rec[0]), []byte(rec[1]))
			c.commit()
			_, err := Open(c.engine, 0)
			require.ErrorContains(t, err, "the store is damaged")
		})
	}
}

func FuzzApplyConfChange(f *testing.F) {
	m := Member{ID: 1, PeerURLs: []string{"http://1:1"}}
	for _, kind := range []raftpb.ConfChangeType{0, 1, 2, 3} {
		data, err := proto.Marshal(&raftpb.ConfChange{Type: kind.Enum(), NodeId: proto.Uint64(1), Context: m.JSON()})
		require.NoError(f, err)
		f.Add(data)
	}
	e, err := storage.Open("db", storage.Options{FS: vfs.NewMem()})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, data []byte) {
		var got [2]string
		for i := range got {
			b, table := e.NewBatch(), &Table{view: &View{members: []Member{m}, voters: []uint64{1}}, maxLearners: 1}
			c, err := table.ApplyConfChange(b, data)
			shown := string(mustJSON([]any{c.Kind, c.Member, err != nil, table.view.members, table.view.voters, b.Len()}))
			got[i] = shown
		}
		require.Equal(t, got[0], got[1])
	})
}
