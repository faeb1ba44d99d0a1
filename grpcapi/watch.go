package grpcapi

import (
	"context"
	"errors"
	"io"

	"quorate.dev/quorate/audit"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/wire"
)

func (v *Services) registerWatch(s *rpc.Server) {
	v.stream(s, "etcdserverpb.Watch", "Watch", v.handleWatch)
}

// handleWatch passes a client's requests to the hub, which writes the responses. When the client has said its last word
// the stream goes on until it is cancelled, as etcd's does.
func (v *Services) handleWatch(st *rpc.Stream) *rpc.Status {
	hs := v.Hub.Open(st)
	defer hs.Close()
	// Closing at once when the client goes, and not when the next request would have come, also frees a Create that waits
	// for room.
	defer context.AfterFunc(st.Context(), hs.Close)()
	seen := witnessOf(st)
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
			seen.watch(audit.Create, req.Create.WatchID, req.Create.Key, req.Create.RangeEnd, "")
			hs.Create(req.Create, "")
		case req.Cancel != nil:
			seen.watch(audit.Cancel, *req.Cancel, nil, nil, "")
			hs.Cancel(*req.Cancel)
		case req.Progress:
			hs.Progress()
		}
	}
}

// watchEnding is the status of a watch stream that its client or the connection ended.
func watchEnding(err error) *rpc.Status {
	s := statusOf(err)
	if s.Code == rpc.Canceled {
		return statusOf(fault.WatchCanceled)
	}
	return s
}
