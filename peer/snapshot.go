package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/snapshot"
)

// Snapshots is where snapshots for others come from and those of others go; *snapshot.Depot implements it.
type Snapshots interface {
	// Take describes a snapshot for a member that covers at least the entry least.
	Take(least ids.Index, to ids.MemberID) (manifest []byte, meta *raftpb.SnapshotMetadata, err error)
	// Serve writes a file of a snapshot from an offset on. What is not there is fs.ErrNotExist.
	Serve(w io.Writer, name, file string, from int64) error
	// Receive takes in a snapshot and returns when it is whole and durable.
	Receive(ctx context.Context, manifest []byte, fetch snapshot.Fetch) error
}

// headerSnapshot marks the announcement of a snapshot whose files are to be fetched. Etcd's own carry the data behind the
// message.
const headerSnapshot = "X-Quorate-Snapshot"

// snapshotIdle is how long a member that is to fetch a snapshot may ask for nothing.
const snapshotIdle = 30 * time.Second

const snapshotPath = "/quorate/snapshots/"

// SendSnapshot announces a snapshot of at least the message's index to its receiver, waits until that has fetched it, and calls
// done once, on another goroutine.
func (t *Transport) SendSnapshot(m *raftpb.Message, done func(error)) {
	r := t.remote(ids.MemberID(m.GetTo()))
	go func() {
		if r == nil {
			done(fmt.Errorf("peer: member %s is not known", ids.MemberID(m.GetTo())))
			return
		}
		end := r.tally.snapshotsOut.begin()
		err := r.sendSnapshot(m)
		end(err)
		if err != nil {
			r.tally.sendFailed.Add(1)
		}
		done(err)
	}()
}

func (r *remote) sendSnapshot(m *raftpb.Message) error {
	manifest, meta, err := r.t.cfg.Snapshots.Take(ids.Index(m.GetSnapshot().GetMetadata().GetIndex()), r.id)
	if err != nil {
		return err
	}
	announced := &raftpb.Message{
		Type: m.Type, To: m.To, From: m.From, Term: m.Term, Snapshot: &raftpb.Snapshot{Data: manifest, Metadata: meta},
	}
	body, err := proto.Marshal(announced)
	if err != nil {
		return fmt.Errorf("peer: encode a snapshot: %w", err)
	}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	go r.watchIdle(ctx, cancel)
	url := r.url()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/raft/snapshot", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("peer: the address %q of member %s: %w", url, r.id, err)
	}
	r.t.identify(req.Header)
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set(headerSnapshot, "1")
	began := r.t.cfg.Clock.Now()
	resp, err := r.t.calls.RoundTrip(req)
	if err != nil {
		r.avoid(url)
		return fmt.Errorf("peer: send a snapshot to member %s: %w", r.id, err)
	}
	if resp.StatusCode != http.StatusNoContent {
		return r.refused(resp)
	}
	took := r.t.cfg.Clock.Now().Sub(began)
	r.t.cfg.Observer.SnapshotSent(r.id, took)
	r.t.logger.Info("a member has fetched a snapshot", zapPeer(r.id), zap.Uint64("index", meta.GetIndex()), zap.Duration("took", took))
	return resp.Body.Close()
}

// watchIdle cancels the announcement of a snapshot that the member does not fetch, and when the member is removed.
func (r *remote) watchIdle(ctx context.Context, cancel func()) {
	defer cancel()
	r.fetched.Store(r.t.cfg.Clock.Now().UnixNano())
	ticker := r.t.cfg.Clock.NewTicker(snapshotIdle / 6)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			if now.Sub(time.Unix(0, r.fetched.Load())) > snapshotIdle {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// serveSnapshot takes the announcement of a snapshot, fetches it, and answers when it is durable.
func (t *Transport) serveSnapshot(w http.ResponseWriter, req *http.Request) {
	if req.Header.Get(headerSnapshot) == "" || t.cfg.Snapshots == nil {
		http.Error(w, "snapshots in etcd's format are not supported by this version", http.StatusNotImplemented)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, limits.PeerMessageBytes))
	m := &raftpb.Message{}
	if err == nil {
		err = proto.Unmarshal(body, m)
	}
	r := t.remote(ids.MemberID(m.GetFrom()))
	switch {
	case err != nil:
		http.Error(w, "error unmarshalling raft message", http.StatusBadRequest)
		return
	case m.GetType() != raftpb.MsgSnap:
		http.Error(w, "wrong raft message type", http.StatusBadRequest)
		return
	case t.cfg.Receiver.Removed(ids.MemberID(m.GetFrom())):
		forbid(w, removedText)
		return
	case m.GetTo() != uint64(t.cfg.Member):
		forbid(w, "cannot process message to mismatch member")
		return
	case r == nil:
		http.Error(w, "error sender not found", http.StatusNotFound)
		return
	}
	index := m.GetSnapshot().GetMetadata().GetIndex()
	t.logger.Info("receiving a snapshot", zapPeer(r.id), zap.Uint64("index", index))
	if err := t.receiveSnapshot(req.Context(), r, m.GetSnapshot()); err != nil {
		code := http.StatusInternalServerError
		if errors.Is(err, snapshot.ErrBusy) {
			code = http.StatusConflict
		}
		t.logger.Warn("could not receive a snapshot; what has arrived is kept", zapPeer(r.id), zap.Uint64("index", index), zap.Error(err))
		http.Error(w, err.Error(), code)
		return
	}
	m.Snapshot.Data = nil
	t.cfg.Receiver.Receive(m)
	w.WriteHeader(http.StatusNoContent)
}

// receiveSnapshot fetches what is missing of a snapshot.
func (t *Transport) receiveSnapshot(ctx context.Context, r *remote, s *raftpb.Snapshot) error {
	began := t.cfg.Clock.Now()
	arrived := r.tally.snapshotBytes.Load()
	end := r.tally.snapshotsIn.begin()
	err := t.cfg.Snapshots.Receive(ctx, s.GetData(), r.fetch)
	end(err)
	if err != nil {
		r.tally.receiveFailed.Add(1)
		return err
	}
	took := t.cfg.Clock.Now().Sub(began)
	t.cfg.Observer.SnapshotReceived(r.id, took)
	t.logger.Info("received a snapshot", zapPeer(r.id), zap.Uint64("index", s.GetMetadata().GetIndex()), zap.Duration("took", took),
		zap.Uint64("bytes-fetched", r.tally.snapshotBytes.Load()-arrived), zap.Int64("bytes", snapshot.Size(s.GetData())))
	return nil
}

// fetch asks the member for a file of its snapshot.
func (r *remote) fetch(ctx context.Context, name, file string, from int64) (io.ReadCloser, error) {
	address := fmt.Sprintf("%s%s%s/%s?from=%d", r.url(), snapshotPath, url.PathEscape(name), url.PathEscape(file), from)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("peer: the address %q of member %s: %w", address, r.id, err)
	}
	r.t.identify(req.Header)
	// On a connection that gives up when nothing comes.
	resp, err := r.t.streams.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("peer: fetch %s of snapshot %s from member %s: %w", file, name, r.id, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, r.refused(resp)
	}
	return counted{counted{resp.Body, &r.tally.received}, &r.tally.snapshotBytes}, nil
}

// serveFile writes a file of a snapshot.
func (t *Transport) serveFile(w http.ResponseWriter, req *http.Request) {
	name, file, ok := strings.Cut(strings.TrimPrefix(req.URL.Path, snapshotPath), "/")
	from, err := strconv.ParseInt(req.URL.Query().Get("from"), 10, 64)
	if !ok || err != nil || t.cfg.Snapshots == nil {
		http.Error(w, "invalid path", http.StatusNotFound)
		return
	}
	id, _ := strconv.ParseUint(req.Header.Get(headerFrom), 16, 64)
	x := &fileWriter{w: w, ctl: http.NewResponseController(w), t: t, fetched: new(atomic.Int64), sent: new(atomic.Uint64)}
	if r := t.remote(ids.MemberID(id)); r != nil {
		x.fetched, x.sent = &r.fetched, &r.tally.sent
	}
	err = t.cfg.Snapshots.Serve(x, name, file, from)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist) && !x.begun:
		http.Error(w, err.Error(), http.StatusNotFound)
	default:
		t.logger.Warn("could not send a file of a snapshot", zapPeer(ids.MemberID(id)), zap.String("snapshot", name), zap.String("file", file), zap.Error(err))
		panic(http.ErrAbortHandler) // the other side must not take this for the end
	}
}

// fileWriter notes that the member takes something, and gives up on one that does not.
type fileWriter struct {
	w       http.ResponseWriter
	ctl     *http.ResponseController
	t       *Transport
	fetched *atomic.Int64
	sent    *atomic.Uint64 // bytes
	begun   bool
}

// Write implements io.Writer.
func (x *fileWriter) Write(b []byte) (int, error) {
	x.begun = true
	now := x.t.now()
	x.fetched.Store(now.UnixNano())
	if err := x.ctl.SetWriteDeadline(now.Add(snapshotIdle)); err != nil {
		return 0, err
	}
	n, err := x.w.Write(b)
	x.sent.Add(uint64(n))
	return n, err
}
