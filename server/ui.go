package server

import (
	"context"
	"net/http"
	"sync"
	"time"

	"quorate.dev/quorate/config"
	"quorate.dev/quorate/httpapi"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/node"
	"quorate.dev/quorate/ui"
)

// progressPatience is how long the web page's numbers wait for the raft host to say how far the other members are.
const progressPatience = 500 * time.Millisecond

// newUI makes the web page, nil when nobody shall have it.
func (s *Server) newUI() http.Handler {
	if s.cfg.HTTP.UI == config.UIOff {
		return nil
	}
	return ui.New(ui.Config{
		Access: ui.Access{Everywhere: s.cfg.HTTP.UI == config.UIOn},
		Stats:  func(ctx context.Context) any { return s.uiStats(ctx) },
		Past:   func() any { return s.past.read() },
	})
}

// uiPast keeps digests of the last minutes, so that a page that is opened now shows what came before.
type uiPast struct {
	mu  sync.Mutex
	all []httpapi.Digest // oldest first, at most limits.UIPast
}

func (p *uiPast) add(d httpapi.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.all) == limits.UIPast {
		p.all = append(p.all[:0], p.all[1:]...)
	}
	p.all = append(p.all, d)
}

// read returns a copy; the digests themselves are never changed.
func (p *uiPast) read() []httpapi.Digest {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]httpapi.Digest{}, p.all...)
}

// recordPast fills the past until the member stops.
func (s *Server) recordPast(context.Context) error {
	if s.cfg.HTTP.UI == config.UIOff {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s.onStop("record for the web page", func(context.Context) error { cancel(); <-done; return nil })
	go func() {
		defer close(done)
		tick := clock.Real().NewTicker(limits.UIPastEvery)
		defer tick.Stop()
		for {
			s.past.add(s.core.metrics.Digest(time.Now()))
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return nil
}

// uiStats are the numbers behind the web page.
type uiStats struct {
	httpapi.Digest
	Term        uint64            `json:"term"`
	Leader      string            `json:"leader"`       // "0" for none
	LeaderSince int64             `json:"leader_since"` // Unix time, milliseconds; 0 for none
	Behind      map[string]uint64 `json:"behind"`       // entries that members lack of the leader's log; empty unless this is the leader
	Disconnects uint64            `json:"disconnects"`  // of other members, since the start
	Warnings    []string          `json:"warnings"`
}

func (s *Server) uiStats(ctx context.Context) uiStats {
	now := time.Now()
	status := s.core.host.Status()
	out := uiStats{
		Digest: s.core.metrics.Digest(now), Term: uint64(status.Term), Leader: status.Leader.String(), Behind: map[string]uint64{}, Warnings: s.certificateWarnings(),
	}
	if !status.LeaderSince.IsZero() {
		out.LeaderSince = status.LeaderSince.UnixMilli()
	}
	for _, p := range out.Sample.Peers {
		out.Disconnects += p.Disconnects
	}
	if status.Self {
		s.behind(ctx, out.Behind)
	}
	return out
}

// behind asks how far the other members are. What is not known in time is left out.
func (s *Server) behind(ctx context.Context, out map[string]uint64) {
	ctx, cancel := context.WithTimeout(ctx, progressPatience)
	defer cancel()
	type answer struct {
		id     string
		behind uint64
		err    error
	}
	members := s.core.machine.View().Members.Members()
	answers := make(chan answer, len(members))
	for _, m := range members {
		s.core.host.Progress(m.ID, func(p node.Progress, err error) {
			answers <- answer{m.ID.String(), uint64(max(p.Leader, p.Match) - p.Match), err}
		})
	}
	for range members {
		select {
		case a := <-answers:
			if a.err == nil {
				out[a.id] = a.behind
			}
		case <-ctx.Done():
			return
		}
	}
}
