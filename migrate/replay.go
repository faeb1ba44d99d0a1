package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

// publishEvery is after how many entries the events are let go of.
const publishEvery = 1000

// reportEvery is after how many entries or records progress is told.
const reportEvery = 1000

// replayed is a tree after everything in the directory was applied.
type replayed struct {
	view    *v2store.View
	root    uint64 // index at which /1 was made; 0 when a snapshot has it already
	entries int64  // of the log, applied
	v2, v3  int64  // requests among them
}

// replayer applies entries to a tree.
type replayer struct {
	replayed
	store   *v2store.Store
	cluster *cluster
	fresh   bool // there was no snapshot, so /1 is made by the first write
}

// replay makes the tree.
func (s *Source) replay(ctx context.Context, progress func(Progress)) (*replayed, error) {
	r, err := s.begin()
	if err != nil {
		return nil, err
	}
	after := s.snap.GetMetadata().GetIndex()
	total := int64(s.survey.Last - after)
	progress(Progress{Stage: Reading, Total: total})
	err = s.log.Entries(ctx, after, func(e *raftpb.Entry) error {
		if err := r.entry(e); err != nil {
			return &RefusedError{Path: s.log.Dir(), Reason: fmt.Sprintf("entry %d of the log: %v", e.GetIndex(), err), Do: "only data of etcd 2.0 to 3.4 can be migrated; nothing was written"}
		}
		if r.entries++; r.entries%publishEvery == 0 {
			r.store.Publish()
			progress(Progress{Stage: Reading, Done: r.entries, Total: total})
		}
		return nil
	})
	if err != nil {
		var refused *RefusedError
		if errors.As(err, &refused) || ctx.Err() != nil {
			return nil, err
		}
		return nil, s.refused("the log", s.log.Dir(), err)
	}
	r.view = r.store.Publish()
	return &r.replayed, nil
}

// begin takes what the snapshot holds.
func (s *Source) begin() (*replayer, error) {
	r := &replayer{}
	if s.snap == nil {
		r.store, _ = v2store.Recover(0, func(func(*v2store.Node) bool) {})
		r.cluster, _ = clusterOf(nil)
		r.fresh = true
		return r, nil
	}
	refuse := func(err error) error {
		return &RefusedError{Path: s.path, Reason: err.Error(), Do: "only data of etcd 2.0 to 3.4 can be migrated; nothing was written"}
	}
	t, err := readTree(s.snap.GetData())
	if err != nil {
		return nil, refuse(err)
	}
	if v := t.at("0", "version"); v != nil && tooNew(v.Value) {
		return nil, refuse(fmt.Errorf("the cluster had version %s: etcd 3.5 and newer are not understood, whose v2 API is no longer what it was", v.Value))
	}
	if r.cluster, err = clusterOf(t); err != nil {
		return nil, refuse(err)
	}
	if r.store, err = v2store.Recover(t.CurrentIndex, t.nodes()); err != nil {
		return nil, refuse(err)
	}
	return r, nil
}

func (r *replayer) entry(e *raftpb.Entry) error {
	switch {
	case e.GetType() == raftpb.EntryConfChange:
		cc := &raftpb.ConfChange{}
		if err := proto.Unmarshal(e.GetData(), cc); err != nil {
			return fmt.Errorf("a change of the configuration cannot be decoded: %w", err)
		}
		changes, err := r.cluster.change(cc)
		r.tick(changes)
		return err
	case e.GetType() != raftpb.EntryNormal:
		return fmt.Errorf("it is of type %d, which no etcd up to 3.4 writes", e.GetType())
	case len(e.GetData()) == 0:
		return nil // of a new leader
	}
	req, err := request(e.GetData())
	if err != nil {
		return err
	}
	if req == nil {
		r.v3++
		return nil
	}
	r.v2++
	return r.apply(req)
}

func (r *replayer) tick(changes []v2store.ClusterChange) {
	for _, c := range changes {
		r.store.Tick(nil, c)
	}
}

// oldest are the fields of entries that came with etcd 3.5 and are about the cluster.
const firstNewField, lastNewField = wire.FieldClusterVersionSet, wire.FieldDowngradeInfoSet

// request decodes a request of the v2 API; nil for one of the v3 API.
func request(data []byte) (*wire.V2Request, error) {
	req := &wire.V2Request{}
	if legacy(data) {
		return req, req.Unmarshal(data)
	}
	var in wire.Internal
	if err := in.Unmarshal(data); err != nil {
		return nil, err
	}
	if in.Field >= firstNewField && in.Field <= lastNewField {
		return nil, fmt.Errorf("it holds a request (field %d) that etcd 3.5 or newer wrote, whose v2 API is no longer what it was", in.Field)
	}
	if in.Field != wire.FieldV2 {
		return nil, nil
	}
	return req, req.Unmarshal(in.Body)
}

// methods are those of requests in the log.
const methods = " PUT POST DELETE QGET SYNC GET "

// legacy says whether an entry is a bare request, as etcd 2 wrote them. Its field 2 is the method; in newer entries that field holds
// a message, and no message is encoded as the name of a method.
func legacy(data []byte) bool {
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return false
		}
		if num == 2 && typ == protowire.BytesType {
			v, m := protowire.ConsumeBytes(data[n:])
			return m >= 0 && len(v) > 0 && !strings.Contains(string(v), " ") && strings.Contains(methods, " "+string(v)+" ")
		}
		m := protowire.ConsumeFieldValue(num, typ, data[n:])
		if m < 0 {
			return false
		}
		data = data[n+m:]
	}
	return false
}

// apply executes a request. What the servers refused is refused again.
func (r *replayer) apply(req *wire.V2Request) error {
	switch req.Method {
	case "PUT", "POST", "DELETE", "QGET", "SYNC":
	default:
		return fmt.Errorf("it holds a request with the method %q, which no etcd writes", req.Method)
	}
	if req.Method == "PUT" && strings.HasPrefix(req.Path, "/0/") {
		changes, ok, err := r.cluster.write(req.Path, req.Val)
		r.tick(changes)
		if ok || err != nil {
			return err
		}
	}
	event, err := r.store.Apply(nil, req)
	var refused *v2store.Error
	switch {
	case errors.As(err, &refused) && refused.Code != v2store.CodeInvalidField && refused.Code != v2store.CodeRaftInternal:
		return nil
	case err != nil:
		return err // not one of etcd's store
	}
	if r.fresh && r.root == 0 && event.Node != nil && req.Method != "QGET" && strings.HasPrefix(event.Node.Key, v2store.Keys+"/") {
		r.root = event.Index
	}
	return nil
}
