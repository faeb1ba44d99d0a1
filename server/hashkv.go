package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/mvcc"
)

// What members ask each other to compare their data (source: etcdserver's corrupt.go).
const (
	pathHashKV    = "/members/hashkv"
	hashKVBytes   = 64 << 10 // a request or an answer, bytes
	textCompacted = "mvcc: required revision has been compacted"
	textFuture    = "mvcc: required revision is a future revision"
)

// hashAt is the hash of this member's keys at a revision, 0 meaning the current one: the one taken at a compaction if there was
// one at that revision. It reads the whole store else.
func (s *Server) hashAt(rev ids.Revision) (mvcc.Hash, error) {
	if h, ok := s.core.compacts.log.Hash(rev); ok && rev > 0 {
		return h, nil
	}
	image := s.core.machine.Image()
	defer func() { _ = image.Close() }()
	return mvcc.HashKV(image.Frozen, rev)
}

// serveHashKV answers other members' questions about this one's hash.
func (s *Server) serveHashKV(w http.ResponseWriter, req *http.Request) {
	cluster := s.core.identity.cluster.String()
	w.Header().Set("X-Etcd-Cluster-ID", cluster)
	if req.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	if from := req.Header.Get("X-Etcd-Cluster-ID"); from != "" && from != cluster {
		http.Error(w, "cluster ID mismatch", http.StatusPreconditionFailed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, hashKVBytes))
	if err != nil {
		http.Error(w, "error reading body", http.StatusBadRequest)
		return
	}
	var asked etcdserverpb.HashKVRequest
	if err := json.Unmarshal(body, &asked); err != nil {
		http.Error(w, "error unmarshalling request", http.StatusBadRequest)
		return
	}
	h, err := s.hashAt(ids.Revision(asked.Revision))
	switch {
	case errors.Is(err, fault.Compacted):
		http.Error(w, textCompacted, http.StatusBadRequest)
		return
	case errors.Is(err, fault.FutureRev):
		http.Error(w, textFuture, http.StatusBadRequest)
		return
	case err != nil:
		s.logger.Warn("failed to get hashKV", zap.Int64("requested-revision", asked.Revision), zap.Error(err))
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := json.Marshal(&etcdserverpb.HashKVResponse{
		Header: &etcdserverpb.ResponseHeader{Revision: int64(s.core.machine.View().Revision())},
		Hash:   h.Hash, CompactRevision: int64(h.Compacted), HashRevision: int64(h.Revision),
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(answer)
}

// peerHash is what a member answers when it is asked for its hash.
type peerHash struct {
	member  ids.MemberID
	hash    mvcc.Hash
	current ids.Revision // of the member
	err     error        // it did not answer with a hash; fault.Compacted or fault.FutureRev when it has none of that revision
}

// askHashes asks all other members at the same time.
func (s *Server) askHashes(ctx context.Context, rev ids.Revision) []peerHash {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout())
	defer cancel()
	var out []peerHash
	for _, m := range s.core.machine.View().Members.Members() {
		if m.ID != s.core.identity.member {
			out = append(out, peerHash{member: m.ID})
		}
	}
	var all sync.WaitGroup
	for i := range out {
		all.Go(func() {
			p := &out[i]
			if p.err = s.askHash(ctx, p, rev); p.err != nil {
				s.logger.Warn("failed hash kv request", zap.Stringer("local-member-id", s.core.identity.member), zap.Int64("requested-revision", int64(rev)),
					zap.Stringer("remote-peer-id", p.member), zap.Error(p.err))
			}
		})
	}
	all.Wait()
	return out
}

func (s *Server) askHash(ctx context.Context, p *peerHash, rev ids.Revision) error {
	body, err := json.Marshal(&etcdserverpb.HashKVRequest{Revision: int64(rev)})
	if err != nil {
		return err
	}
	status, answer, err := s.core.peers.Ask(ctx, http.MethodGet, p.member, pathHashKV, "application/json", body, hashKVBytes)
	switch text := string(answer); {
	case err != nil:
		return err
	case status == http.StatusBadRequest && strings.Contains(text, textCompacted):
		return fault.Compacted
	case status == http.StatusBadRequest && strings.Contains(text, textFuture):
		return fault.FutureRev
	case status != http.StatusOK:
		return fmt.Errorf("member %s answered %d to %s: %s", p.member, status, pathHashKV, strings.TrimSpace(text))
	}
	var resp etcdserverpb.HashKVResponse
	if err := json.Unmarshal(answer, &resp); err != nil {
		return fmt.Errorf("member %s answered to %s what cannot be read: %w", p.member, pathHashKV, err)
	}
	p.hash = mvcc.Hash{Hash: resp.Hash, Compacted: ids.Revision(resp.CompactRevision), Revision: ids.Revision(resp.HashRevision)}
	p.current = ids.Revision(resp.GetHeader().GetRevision())
	return nil
}
