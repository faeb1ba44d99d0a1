package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/ids"
)

// post sends messages by POST, one request each.
func (r *remote) post() {
	for {
		select {
		case m := <-r.posts:
			err := r.postOnce(m)
			switch {
			case errors.Is(err, ErrRemoved):
				r.t.cfg.Receiver.Expelled(err)
			case err != nil:
				r.t.count(&r.t.counts.failed)
				r.tally.sendFailed.Add(1)
				r.t.logger.Debug("could not send a message to a peer", zapPeer(r.id), zap.Error(err))
				r.t.cfg.Receiver.Unreachable(r.id)
			}
		case <-r.ctx.Done():
			return
		}
	}
}

func (r *remote) postOnce(m *raftpb.Message) error {
	body, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("peer: encode a %s: %w", m.GetType(), err)
	}
	ctx, cancel := context.WithTimeout(r.ctx, postTimeout)
	defer cancel()
	url := r.url()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/raft", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("peer: the address %q of member %s: %w", url, r.id, err)
	}
	r.t.identify(req.Header)
	req.Header.Set("Content-Type", "application/protobuf")
	resp, err := r.t.calls.RoundTrip(req)
	if err != nil {
		r.avoid(url)
		return fmt.Errorf("peer: send a message to member %s: %w", r.id, err)
	}
	if resp.StatusCode == http.StatusNoContent {
		r.tally.sent.Add(uint64(len(body)))
		return resp.Body.Close()
	}
	err = r.refused(resp)
	if resp.StatusCode == http.StatusForbidden && strings.Contains(err.Error(), removedText) {
		return ErrRemoved
	}
	return err
}

// Post sends a request of another kind to a member. The caller closes the answer's body.
func (t *Transport) Post(ctx context.Context, to ids.MemberID, path string, body []byte) (*http.Response, error) {
	r := t.remote(to)
	if r == nil {
		return nil, fmt.Errorf("peer: member %s is not known", to)
	}
	url := r.url()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("peer: the address %q of member %s: %w", url, to, err)
	}
	t.identify(req.Header)
	req.Header.Set("Content-Type", "application/protobuf")
	resp, err := t.calls.RoundTrip(req)
	if err != nil {
		r.avoid(url)
		return nil, fmt.Errorf("peer: ask member %s for %s: %w", to, path, err)
	}
	return resp, nil
}
