package peer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
)

// removedText is what a message from a removed member is refused with.
const removedText = "cannot process message from removed member"

// Handler serves what other members ask for: /raft, everything below, and the files of snapshots.
func (t *Transport) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/raft", t.checked(t.serveMessage))
	mux.HandleFunc("/raft/stream/", t.checked(t.serveStream))
	mux.HandleFunc("/raft/snapshot", t.checked(t.serveSnapshot))
	mux.HandleFunc(snapshotPath, t.checked(t.serveFile))
	mux.HandleFunc("/raft/probing", t.serveProbe)
	return mux
}

// checked refuses members of other clusters and of versions that do not work together with this one.
func (t *Transport) checked(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set(headerCluster, t.cfg.Cluster.String())
		w.Header().Set(headerVersion, t.cfg.Version)
		method := http.MethodGet
		if req.URL.Path == "/raft" || req.URL.Path == "/raft/snapshot" {
			method = http.MethodPost
		}
		if req.Method != method {
			w.Header().Set("Allow", method)
			http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
			return
		}
		if err := t.cfg.check(req.Header); err != nil {
			t.logger.Warn("refused a peer", zap.String("remote-peer-id", req.Header.Get(headerFrom)), zap.String("remote-peer-version", req.Header.Get(headerVersion)),
				zap.String("remote-cluster-id", req.Header.Get(headerCluster)), zap.Error(err))
			http.Error(w, err.Error(), http.StatusPreconditionFailed)
			return
		}
		next(w, req)
	}
}

// serveMessage takes one message by POST.
func (t *Transport) serveMessage(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, limits.PeerMessageBytes))
	if err != nil {
		http.Error(w, "error reading raft message", http.StatusBadRequest)
		return
	}
	m := &raftpb.Message{}
	if err := proto.Unmarshal(body, m); err != nil {
		http.Error(w, "error unmarshalling raft message", http.StatusBadRequest)
		return
	}
	switch {
	case t.cfg.Receiver.Removed(ids.MemberID(m.GetFrom())):
		forbid(w, removedText)
	case m.GetTo() != uint64(t.cfg.Member):
		forbid(w, "cannot process message to mismatch member")
	case m.GetType() == raftpb.MsgSnap:
		http.Error(w, "wrong raft message type", http.StatusBadRequest)
	default:
		t.meet(ids.MemberID(m.GetFrom()), req.Header)
		t.cfg.Receiver.Receive(m)
		w.WriteHeader(http.StatusNoContent)
	}
}

// meet adds a member of this cluster that this one does not know yet, as one that has just joined knows nobody, so that it
// gets answers.
func (t *Transport) meet(from ids.MemberID, h http.Header) {
	if urls := h.Get(headerURLs); urls != "" && from != 0 && t.remote(from) == nil {
		t.Add(from, strings.Split(urls, ","))
	}
}

// forbid answers as etcd's HTTP errors are.
func forbid(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusForbidden)
	_ = json.NewEncoder(w).Encode(struct {
		Message string `json:"message"`
	}{text})
}

// serveStream writes a stream to the member that asks for it, until that asks again or goes away.
func (t *Transport) serveStream(w http.ResponseWriter, req *http.Request) {
	s, from, err := parseStream(req.URL.Path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	if t.cfg.Receiver.Removed(from) {
		t.logger.Warn("refused the stream of a member that was removed", zapPeer(from))
		http.Error(w, "removed member", http.StatusGone)
		return
	}
	t.meet(from, req.Header)
	r := t.remote(from)
	switch to := req.Header.Get(headerTo); {
	case r == nil:
		http.Error(w, "error sender not found", http.StatusNotFound)
		return
	case to != t.cfg.Member.String():
		t.logger.Warn("refused a stream that is meant for another member", zap.String("to", to), zapPeer(from))
		http.Error(w, "to field mismatch", http.StatusPreconditionFailed)
		return
	}
	r.serve(s, w, req)
}

// parseStream reads the kind of stream and who asks from a path.
func parseStream(path string) (stream, ids.MemberID, error) {
	kind, from, ok := strings.Cut(strings.TrimPrefix(path, "/raft/stream/"), "/")
	s := stream(0)
	for s < streams && s.String() != kind {
		s++
	}
	if !ok || s == streams {
		return 0, 0, errors.New("invalid path")
	}
	id, err := strconv.ParseUint(from, 16, 64)
	if err != nil {
		return 0, 0, errors.New("invalid from")
	}
	return s, ids.MemberID(id), nil
}

// flushBytes is from how many bytes on what is encoded is written before the rest is.
const flushBytes = 256 << 10

// serve writes a stream's messages, many in one piece when they come fast.
func (r *remote) serve(s stream, w http.ResponseWriter, req *http.Request) {
	end := r.out[s].serve()
	defer r.linked()()
	defer func() {
		if r.out[s].leave(end) {
			r.t.cfg.Receiver.Unreachable(r.id) // what waited is lost
		}
	}()
	x := &writer{now: r.t.now, w: w, sent: &r.tally.sent, ctl: http.NewResponseController(w), enc: s.encoder()}
	w.WriteHeader(http.StatusOK)
	life := r.t.cfg.Clock.NewTicker(heartbeat)
	defer life.Stop()
	err := x.flush()
	for err == nil {
		select {
		case <-r.out[s].wake:
			err = x.messages(r.out[s].take())
		case <-life.C:
			err = x.heartbeat()
		case <-end:
			return
		case <-r.ctx.Done():
			return
		case <-req.Context().Done():
			return
		}
	}
	r.tally.sendFailed.Add(1)
	r.t.logger.Warn("lost the stream to a peer", zap.Stringer("stream", s), zapPeer(r.id), zap.Error(err))
}

// writer writes frames to one connection.
type writer struct {
	now  func() time.Time
	w    http.ResponseWriter
	ctl  *http.ResponseController
	sent *atomic.Uint64 // bytes
	enc  encoder
	b    []byte
}

func (x *writer) messages(all []*raftpb.Message) error {
	for _, m := range all {
		var err error
		if x.b, err = x.enc.message(x.b, m); err != nil {
			return err
		}
		if len(x.b) >= flushBytes {
			if err := x.write(); err != nil {
				return err
			}
		}
	}
	return x.flush()
}

func (x *writer) heartbeat() error {
	x.b = x.enc.heartbeat(x.b)
	return x.flush()
}

func (x *writer) write() error {
	if err := x.ctl.SetWriteDeadline(x.now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("peer: set the time a write may take: %w", err)
	}
	n, err := x.w.Write(x.b)
	x.sent.Add(uint64(n))
	if x.b = x.b[:0]; cap(x.b) > 4*flushBytes {
		x.b = nil
	}
	return err
}

func (x *writer) flush() error {
	if err := x.write(); err != nil {
		return err
	}
	return x.ctl.Flush()
}

// serveProbe says what time it is.
func (t *Transport) serveProbe(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(struct {
		OK  bool
		Now time.Time
	}{true, t.now()})
}
