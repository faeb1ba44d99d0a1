package transfer

import (
	"encoding/json"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/internal/etcdwal"
	"quorate.dev/quorate/member"
)

// etcd 3.6 still reads who its members are from a .snap file, a tree of the v2 API in JSON.

// treeNode is a node of it.
type treeNode struct {
	Path          string
	CreatedIndex  uint64
	ModifiedIndex uint64
	ExpireTime    string
	Value         string
	Children      map[string]*treeNode // null in a file, not in a directory
}

const (
	noExpiry     = "0001-01-01T00:00:00Z"
	historyRoom  = 1000 // events that etcd keeps
	treeVersion  = 2
	treeMembers  = "members"
	treeRemoved  = "removed_members"
	treeSystem   = "0"
	treeUserKeys = "1"
)

// treeMaker counts as the tree does.
type treeMaker struct{ index uint64 }

func directory(path string, at uint64) *treeNode {
	return &treeNode{Path: path, CreatedIndex: at, ModifiedIndex: at, ExpireTime: noExpiry, Children: map[string]*treeNode{}}
}

func (d *treeNode) path(name string) string {
	if d.Path == "/" {
		return "/" + name
	}
	return d.Path + "/" + name
}

func (d *treeNode) dir(name string, at uint64) *treeNode {
	if d.Children[name] == nil {
		d.Children[name] = directory(d.path(name), at)
	}
	return d.Children[name]
}

// put makes a file.
func (t *treeMaker) put(d *treeNode, name, value string) {
	d.Children[name] = &treeNode{Path: d.path(name), CreatedIndex: t.index, ModifiedIndex: t.index, ExpireTime: noExpiry, Value: value}
}

// tree is the content of a .snap file.
func tree(members []member.Member, removed []string, version string) ([]byte, error) {
	t := &treeMaker{}
	root := directory("/", 0)
	system := root.dir(treeSystem, 0)
	root.dir(treeUserKeys, 0)
	for _, m := range members {
		t.index++
		d := system.dir(treeMembers, t.index).dir(m.ID.String(), t.index)
		raft, err := json.Marshal(struct {
			PeerURLs  []string `json:"peerURLs"`
			IsLearner bool     `json:"isLearner,omitempty"`
		}{m.PeerURLs, m.IsLearner})
		if err != nil {
			return nil, err
		}
		t.put(d, "raftAttributes", string(raft))
		if m.Name == "" && len(m.ClientURLs) == 0 {
			continue
		}
		own, err := json.Marshal(struct {
			Name       string   `json:"name,omitempty"`
			ClientURLs []string `json:"clientURLs,omitempty"`
		}{m.Name, m.ClientURLs})
		if err != nil {
			return nil, err
		}
		t.index++
		t.put(d, "attributes", string(own))
	}
	for _, id := range removed {
		t.index++
		t.put(system.dir(treeRemoved, t.index), id, "")
	}
	if version != "" {
		t.index++
		t.put(system, "version", version)
	}
	return t.encode(root)
}

// encode adds what belongs to a tree besides the nodes: an empty history, and no statistics.
func (t *treeMaker) encode(root *treeNode) ([]byte, error) {
	var out struct {
		Root       *treeNode
		WatcherHub struct {
			EventHistory struct {
				Queue struct {
					Events                      []*struct{}
					Size, Front, Back, Capacity int
				}
				StartIndex, LastIndex uint64
			}
		}
		CurrentIndex   uint64
		Stats          map[string]int
		CurrentVersion int
	}
	out.Root, out.CurrentIndex, out.CurrentVersion, out.Stats = root, t.index, treeVersion, map[string]int{}
	history := &out.WatcherHub.EventHistory
	history.Queue.Events, history.Queue.Capacity = make([]*struct{}, historyRoom), historyRoom
	history.LastIndex = t.index
	return json.Marshal(out)
}

// writeLog writes the log and the .snap file.
func (x *exporter) writeLog() error {
	conf := &raftpb.ConfState{AutoLeave: proto.Bool(false)}
	for _, m := range x.members {
		if m.IsLearner {
			conf.Learners = append(conf.Learners, uint64(m.ID))
		} else {
			conf.Voters = append(conf.Voters, uint64(m.ID))
		}
	}
	w, err := etcdwal.Create(x.path("wal"), uint64(x.self), uint64(x.cluster))
	if err != nil {
		return err
	}
	if x.mark.Index > 0 {
		w.Snapshot(etcdwal.Snapshot{Index: uint64(x.mark.Index), Term: uint64(x.mark.Term), ConfState: conf})
	}
	if err := w.Entries(x.entries); err != nil {
		return err
	}
	w.State(x.hard)
	if err := w.Close(); err != nil || x.mark.Index == 0 {
		return err
	}
	var removed []string
	for _, id := range x.removed {
		removed = append(removed, id.String())
	}
	data, err := tree(x.members, removed, x.version)
	if err != nil {
		return fmt.Errorf("transfer: encode the members: %w", err)
	}
	return etcdwal.WriteSnap(x.path("snap"), &raftpb.Snapshot{Data: data, Metadata: &raftpb.SnapshotMetadata{
		ConfState: conf, Index: proto.Uint64(uint64(x.mark.Index)), Term: proto.Uint64(uint64(x.mark.Term)),
	}})
}
