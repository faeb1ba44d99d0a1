package grpcapi

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"quorate.dev/quorate/audit"
	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/wire"
)

func (v *Services) registerWatch(s *rpc.Server) {
	v.stream(s, "etcdserverpb.Watch", "Watch", v.handleWatch)
}

// handleWatch passes a client's requests to the hub, which writes the responses. When the client has said its last word
// the stream goes on until it is cancelled, as etcd's does.
func (v *Services) handleWatch(st *rpc.Stream, d *door) *rpc.Status {
	g := &guard{door: d, seen: witnessOf(st)}
	hs := v.Hub.OpenGuarded(watchSink{st}, g)
	defer hs.Close()
	// Closing at once when the client goes, and not when the next request would have come, also frees a Create that waits
	// for room.
	defer context.AfterFunc(st.Context(), hs.Close)()
	for {
		msg, err := st.Recv()
		if errors.Is(err, io.EOF) {
			<-st.Context().Done()
			err = st.Context().Err()
		}
		if err != nil {
			return watchEnding(err)
		}
		var req wire.WatchRequest
		if err := req.Unmarshal(msg); err != nil {
			return malformed(err)
		}
		switch {
		case req.Create != nil:
			refusal := g.refused(st, req.Create)
			g.seen.watch(audit.Create, &req.Create.WatchID, req.Create.Key, req.Create.RangeEnd, refusal)
			hs.Create(req.Create, refusal)
		case req.Cancel != nil:
			g.seen.watch(audit.Cancel, req.Cancel, nil, nil, "")
			hs.Cancel(*req.Cancel)
		case req.Progress:
			hs.Progress()
		}
	}
}

// watchSink is a client's stream as the hub writes to it.
type watchSink struct{ *rpc.Stream }

// Fail implements watch.Sink.
func (s watchSink) Fail(err error) { s.Abort(statusOf(err)) }

// guard decides about the watches of one stream, when they are made and whenever users or roles change.
type guard struct {
	door *door
	user atomic.Pointer[string] // who was proved last; nil for nobody
	seen *witness               // nil without an audit log
}

// refused is why a watch is not made, "" when it may be. What it proves is what the watches of the stream count by from then on.
func (g *guard) refused(st *rpc.Stream, req *wire.WatchCreateRequest) string {
	if req.StartRevision < 0 {
		return "" // which the hub refuses first, as etcd does
	}
	who := g.door.proveStream(st)
	g.know(&who)
	return watchRefusal(who.may(g.door.services.Store.View(), &auth.Request{Ops: []auth.Op{auth.OfWatch(req.Key, req.RangeEnd)}}))
}

// know keeps who was proved. A token that has expired since takes nothing away: the user may still have the permission.
func (g *guard) know(who *asker) {
	if old := g.user.Load(); who.id.User != "" && (old == nil || *old != who.id.User) {
		name := who.id.User
		g.user.Store(&name)
	}
}

// Refusal implements watch.Guard.
func (g *guard) Refusal(key, end []byte) string {
	view := g.door.services.Store.View()
	if !view.Auth.Enabled() {
		return ""
	}
	who := asker{door: g.door}
	if user := g.user.Load(); user != nil {
		who.id = auth.Identity{User: *user, Revision: view.Auth.Revision()}
	}
	refusal := watchRefusal(who.may(view, &auth.Request{Ops: []auth.Op{auth.OfWatch(key, end)}}))
	if refusal != "" {
		g.seen.watch(audit.Cancel, nil, key, end, refusal)
	}
	return refusal
}

// watchEnding is the status of a watch stream that its client or the connection ended.
func watchEnding(err error) *rpc.Status {
	s := statusOf(err)
	if s.Code == rpc.Canceled {
		return statusOf(fault.WatchCanceled)
	}
	return s
}
