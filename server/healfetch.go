package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/config"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/snapshot"
	"quorate.dev/quorate/wal"
)

// pathHeal is where a leader gives its state to a member that has thrown its own away.
const pathHeal = "/quorate/heal"

const (
	healManifest = 16 << 20         // a snapshot's description, bytes
	healIdle     = 30 * time.Second // a leader that sends nothing for that long is given up
	healRecheck  = 50 * time.Millisecond
)

// serveHeal makes a snapshot for a member that is healed, once this leader's state covers the end of that member's log. The
// files are then fetched like those of any snapshot.
func (s *Server) serveHeal(w http.ResponseWriter, req *http.Request) {
	cluster := s.core.identity.cluster.String()
	w.Header().Set("X-Etcd-Cluster-ID", cluster)
	if from := req.Header.Get("X-Etcd-Cluster-ID"); from != cluster {
		http.Error(w, "cluster ID mismatch", http.StatusPreconditionFailed)
		return
	}
	end, err := positionOf(req.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.awaitPosition(req.Context(), end); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	manifest, meta, err := s.core.peers.depot.Take(s.core.machine.View().Applied, 0)
	var answer []byte
	if err == nil {
		answer, err = proto.Marshal(&raftpb.Snapshot{Data: manifest, Metadata: meta})
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/protobuf")
	_, _ = w.Write(answer)
}

// awaitPosition waits until this member leads and its state covers the end of somebody's log.
func (s *Server) awaitPosition(ctx context.Context, end position) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout())
	defer cancel()
	tick := clock.Real().NewTicker(healRecheck)
	defer tick.Stop()
	for {
		st, view := s.core.host.Status(), s.core.machine.View()
		switch {
		case !st.Self:
			return fmt.Errorf("member %s does not lead; member %s does", s.core.identity.member, st.Leader)
		case view.Fenced(s.core.identity.member):
			return fmt.Errorf("member %s is fenced itself", s.core.identity.member)
		case end.covers(view.Applied, view.Term):
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the state of the leader at entry %d of term %d does not cover entry %d of term %d yet, which the member may have promised to keep: more has to be committed by the others",
				view.Applied, view.Term, max(end.Index, end.Least), end.Term)
		}
	}
}

func (p position) query() string {
	return url.Values{
		"index": {strconv.FormatUint(uint64(p.Index), 10)}, "term": {strconv.FormatUint(uint64(p.Term), 10)}, "least": {strconv.FormatUint(uint64(p.Least), 10)},
	}.Encode()
}

func positionOf(q url.Values) (p position, err error) {
	number := func(name string) uint64 {
		n, bad := strconv.ParseUint(q.Get(name), 10, 64)
		if bad != nil {
			err = errors.Join(err, fmt.Errorf("%s=%q is no number", name, q.Get(name)))
		}
		return n
	}
	p = position{Index: ids.Index(number("index")), Term: ids.Term(number("term")), Least: ids.Index(number("least"))}
	return p, err
}

// fetcher fetches the state of one member.
type fetcher struct {
	url    string
	me     wal.Metadata
	tls    *tls.Config
	client http.Client
}

// fetch has the member make a snapshot that covers end, and fetches it.
func (f *fetcher) fetch(ctx context.Context, depot *snapshot.Depot, end position) (*raftpb.SnapshotMetadata, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	transport := &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: f.tls, TLSHandshakeTimeout: joinTimeout, ResponseHeaderTimeout: healIdle, DisableCompression: true}
	defer transport.CloseIdleConnections()
	f.client.Transport = transport
	body, err := f.get(ctx, f.url+pathHeal+"?"+end.query())
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(body, healManifest))
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, err
	}
	var s raftpb.Snapshot
	if err := proto.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("what %s answers cannot be read: %w", f.url, err)
	}
	meta := s.GetMetadata()
	if !end.covers(ids.Index(meta.GetIndex()), ids.Term(meta.GetTerm())) {
		return nil, fmt.Errorf("%s offers its state at entry %d of term %d, which does not cover this member's log", f.url, meta.GetIndex(), meta.GetTerm())
	}
	err = depot.Receive(ctx, s.GetData(), func(ctx context.Context, name, file string, from int64) (io.ReadCloser, error) {
		return f.get(ctx, fmt.Sprintf("%s/quorate/snapshots/%s/%s?from=%d", f.url, url.PathEscape(name), url.PathEscape(file), from))
	})
	return meta, err
}

// get asks for something; the answer must go on arriving.
func (f *fetcher) get(ctx context.Context, address string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	for name, value := range map[string]string{
		"X-Server-From": f.me.Member.String(), "X-Etcd-Cluster-ID": f.me.Cluster.String(), "X-Server-Version": config.EtcdVersion, "X-Min-Cluster-Version": config.MinClusterVersion,
	} {
		req.Header.Set(name, value)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		cancel()
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		err := fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(text)))
		cancel()
		return nil, errors.Join(err, resp.Body.Close())
	}
	return &flowing{ReadCloser: resp.Body, cancel: cancel, idle: time.AfterFunc(healIdle, cancel)}, nil
}

// flowing is an answer that is given up when nothing of it arrives for too long.
type flowing struct {
	io.ReadCloser
	cancel func()
	idle   *time.Timer
}

// Read implements io.Reader.
func (r *flowing) Read(b []byte) (int, error) {
	r.idle.Reset(healIdle)
	return r.ReadCloser.Read(b)
}

// Close implements io.Closer.
func (r *flowing) Close() error {
	r.idle.Stop()
	r.cancel()
	return r.ReadCloser.Close()
}
