package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/ids"
)

func zapPeer(id ids.MemberID) zap.Field { return zap.Stringer("remote-peer-id", id) }

// read asks for a stream of the member again and again, and passes on what arrives on it.
func (r *remote) read(s stream) {
	wait := redialLeast
	failing, refused := false, false
	for {
		began := r.t.cfg.Clock.Now()
		err := r.readOnce(s)
		if errors.Is(err, ErrRemoved) {
			r.t.cfg.Receiver.Expelled(err)
			return
		}
		if r.t.cfg.Clock.Now().Sub(began) > readTimeout {
			wait, failing = redialLeast, false // it had worked
		}
		was := refused
		refused = errors.Is(err, errCluster) || errors.Is(err, errVersion)
		if !failing || refused && !was { // the first of a row is enough, but for the reason that an operator must know
			r.t.logger.Warn("lost the stream of a peer, asking for it again", zap.Stringer("stream", s), zapPeer(r.id), zap.Error(err))
		}
		failing = true
		if !r.pause(wait) {
			return
		}
		wait = min(2*wait, redialMost)
	}
}

// readOnce asks for the stream once and reads it until it ends, for a reason that it returns.
func (r *remote) readOnce(s stream) error {
	url := r.url()
	resp, err := r.ask(s, url)
	if err != nil {
		r.avoid(url)
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	defer r.linked()()
	r.t.logger.Info("established the stream of a peer", zap.Stringer("stream", s), zapPeer(r.id))
	b := bufio.NewReaderSize(counted{resp.Body, &r.tally.received}, 64<<10)
	var d decoder = &plainDecoder{r: b}
	if s == appends {
		d = &appendDecoder{r: b, from: uint64(r.id), to: uint64(r.t.cfg.Member)}
	}
	for {
		m, err := d.next()
		if err != nil {
			return err
		}
		if m == nil {
			continue
		}
		if m.GetTo() != uint64(r.t.cfg.Member) {
			r.t.logger.Warn("dropped a message that is not for this member", zap.Stringer("to", ids.MemberID(m.GetTo())), zapPeer(r.id))
			continue
		}
		r.t.cfg.Receiver.Receive(m)
	}
}

// ask sends the request for a stream and checks the answer.
func (r *remote) ask(s stream, url string) (*http.Response, error) {
	if url == "" {
		return nil, fmt.Errorf("peer: no address of member %s is known", r.id)
	}
	req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, fmt.Sprintf("%s/raft/stream/%s/%s", url, s, r.t.cfg.Member), nil)
	if err != nil {
		return nil, fmt.Errorf("peer: the address %q of member %s: %w", url, r.id, err)
	}
	r.t.identify(req.Header)
	req.Header.Set(headerTo, r.id.String())
	resp, err := r.t.streams.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("peer: ask member %s for its %s stream: %w", r.id, s, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	return nil, r.refused(resp)
}

// refused explains an answer that is a refusal, and closes it.
func (r *remote) refused(resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	text := strings.TrimSpace(string(body))
	switch {
	case resp.StatusCode == http.StatusGone:
		return ErrRemoved
	case resp.StatusCode == http.StatusPreconditionFailed && text == errVersion.Error():
		return fmt.Errorf("peer: member %s runs version %s, which does not work with %s: %w", r.id, resp.Header.Get(headerVersion), r.t.cfg.Version, errVersion)
	case resp.StatusCode == http.StatusPreconditionFailed && text == errCluster.Error():
		return fmt.Errorf("peer: member %s belongs to cluster %s and this member to %s; one of them has the data directory or --initial-cluster-token of another cluster: %w",
			r.id, resp.Header.Get(headerCluster), r.t.cfg.Cluster, errCluster)
	case resp.StatusCode == http.StatusNotFound:
		return fmt.Errorf("peer: member %s does not know this member yet: %s", r.id, text)
	}
	return fmt.Errorf("peer: member %s answered %s: %s", r.id, resp.Status, text)
}

// probe asks the member for its time again and again, to know how far away it is and how its clock stands.
func (r *remote) probe() {
	for r.pause(probeEvery) {
		if rtt, err := r.probeOnce(); err == nil {
			r.t.observeRTT(r.id, rtt)
		}
	}
}

func (r *remote) probeOnce() (time.Duration, error) {
	ctx, cancel := context.WithTimeout(r.ctx, probeEvery)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url()+"/raft/probing", nil)
	if err != nil {
		return 0, err
	}
	began := r.t.cfg.Clock.Now()
	resp, err := r.t.calls.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10))
	return r.t.cfg.Clock.Now().Sub(began), errors.Join(err, resp.Body.Close())
}
