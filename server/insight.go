package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/config"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/insight"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/watch"
)

// insights is what this member tells operators beyond metrics.
type insights struct {
	desk    *insight.Desk
	started time.Time

	mu    sync.Mutex
	sizes []insight.Size // oldest first
}

// startInsights begins to remember how much the store holds.
func (s *Server) startInsights() {
	in := &s.core.insights
	in.desk, in.started = insight.NewDesk(clock.Real()), time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s.onStop("sizes of the past", func(context.Context) error { cancel(); <-done; return nil })
	go func() {
		defer close(done)
		tick := clock.Real().NewTicker(limits.SizeEvery)
		defer tick.Stop()
		for {
			s.rememberSize()
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
}

func (s *Server) rememberSize() {
	view, in := s.core.machine.View(), &s.core.insights
	now := insight.Size{Time: time.Now().Unix(), Retained: view.RetainedBytes(), Keys: view.Stats().Keys}
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.sizes) >= limits.Sizes {
		in.sizes = slices.Delete(in.sizes, 0, 1)
	}
	in.sizes = append(in.sizes, now)
}

// insightHandler serves what package insight describes, to those who may see it.
func (s *Server) insightHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+insight.PathReport, s.serveReport)
	mux.HandleFunc("GET "+insight.PathTop, s.serveTop)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.operator(r); err != nil {
			code := http.StatusForbidden
			if errors.Is(err, fault.InvalidAuthToken) || errors.Is(err, fault.UserEmpty) {
				code = http.StatusUnauthorized
			}
			http.Error(w, fmt.Sprintf("%v: %s is for users with the role root; pass a token of one in the header Authorization", err, r.URL.Path), code)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// operator says whether who asks may see what concerns all clients: nil when authentication is off, else as for a Defragment.
func (s *Server) operator(r *http.Request) error {
	for again := false; ; again = true {
		view := s.core.clients.view.Load()
		if !view.Auth.Enabled() {
			return nil
		}
		id, wait, err := s.core.clients.keeper.Identity(view.Auth, webCaller{r})
		if err == nil {
			return view.Auth.May(auth.Identity{User: id.User, Revision: id.Revision}, &auth.Request{Method: auth.MethodDefragment}, view.Leases)
		}
		if wait == 0 || again {
			return err
		}
		// The token is newer than what this member has applied.
		done := make(chan error, 1)
		s.core.host.Read(func(err error) { done <- err })
		select {
		case err := <-done:
			if err != nil {
				return err
			}
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
}

// webCaller is an HTTP request as authn sees it.
type webCaller struct{ r *http.Request }

// Metadata implements authn.Caller.
func (c webCaller) Metadata(key string) string { return c.r.Header.Get(key) }

// MetadataValues implements authn.Caller.
func (c webCaller) MetadataValues(key string) []string { return c.r.Header.Values(key) }

// TLS implements authn.Caller.
func (c webCaller) TLS() *tls.ConnectionState { return c.r.TLS }

func (s *Server) serveReport(w http.ResponseWriter, _ *http.Request) {
	core := &s.core
	r := insight.Report{
		Member: core.identity.member.String(), Name: s.cfg.Member.Name, Cluster: core.identity.cluster.String(), Started: core.insights.started.UnixNano(),
		Settings: settingsReport(s.cfg), Certificates: []insight.Certificate{},
	}
	for _, e := range s.expiries() {
		r.Certificates = append(r.Certificates, insight.Certificate{Side: e.Side, What: e.What, File: e.File, NotAfter: e.At.Unix()})
	}
	core.insights.mu.Lock()
	r.Sizes = slices.Clone(core.insights.sizes)
	core.insights.mu.Unlock()
	r.Time = time.Now().UnixNano() // last: who asks takes it for the time of the answer
	answerJSON(w, r)
}

// settingsReport lists the settings, and of those that were given what the member makes of them.
func settingsReport(c *config.Config) (all []insight.Setting) {
	rows := map[string]config.Setting{}
	for _, row := range config.Settings() {
		rows[row.Name] = row
	}
	for _, v := range c.Values() {
		out := insight.Setting{Name: v.Name, Value: v.Text, Origin: v.Origin}
		if row := rows[v.Name]; row.State != config.Active && v.Text != row.Default {
			out.State, out.Why = row.State.String(), row.Why
		}
		all = append(all, out)
	}
	return all
}

// The window of a look when the request does not say, and the parts of a key in a prefix.
const (
	topSeconds = 2.0
	topDepth   = 2
)

// serveTop answers /quorate/top?seconds=2&depth=2 after that time.
func (s *Server) serveTop(w http.ResponseWriter, r *http.Request) {
	seconds, depth := topSeconds, topDepth
	if text := r.URL.Query().Get("seconds"); text != "" {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || n < 0 || n > limits.TopSeconds {
			http.Error(w, fmt.Sprintf("seconds=%q: the window is 0 to %d seconds long", text, limits.TopSeconds), http.StatusBadRequest)
			return
		}
		seconds = n
	}
	if text := r.URL.Query().Get("depth"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > limits.TopDepth {
			http.Error(w, fmt.Sprintf("depth=%q: a prefix has 1 to %d parts of a key", text, limits.TopDepth), http.StatusBadRequest)
			return
		}
		depth = n
	}
	before := s.core.hub.Stats().Events
	top, err := s.core.insights.desk.Look(r.Context(), time.Duration(seconds*float64(time.Second)), depth)
	switch {
	case errors.Is(err, insight.ErrBusy):
		http.Error(w, err.Error(), http.StatusTooManyRequests)
		return
	case err != nil:
		return // the client went away
	}
	top.Member, top.Watch = s.core.identity.member.String(), s.watches(before)
	answerJSON(w, top)
}

// watches is the state of the watches; before is how many events there had been at the begin of the window.
func (s *Server) watches(before int64) insight.Watches {
	now := s.core.hub.Stats()
	out := insight.Watches{Streams: now.Streams, Watchers: now.Watchers, Slow: now.Slow, Events: uint64(now.Events - before), Behind: []insight.Watcher{}, Largest: []insight.Streams{}}
	behind, streams := s.core.hub.Look(limits.TopWatchers, limits.TopStreams)
	for _, b := range behind {
		out.Behind = append(out.Behind, insight.Watcher{Client: sinkClient(b.Sink), Key: b.Key, End: b.End, Lag: int64(b.Lag), Full: b.Full})
	}
	byClient := map[string]*insight.Streams{}
	for _, c := range streams {
		client := sinkClient(c.Sink)
		if byClient[client] == nil {
			byClient[client] = &insight.Streams{Client: client}
		}
		byClient[client].Streams++
		byClient[client].Watchers += c.Watchers
	}
	for _, c := range byClient {
		out.Largest = append(out.Largest, *c)
	}
	slices.SortFunc(out.Largest, insight.ByWatchers)
	out.Largest = out.Largest[:min(len(out.Largest), limits.TopRows)]
	return out
}

// sinkClient is the address of the client behind a watch stream.
func sinkClient(sink watch.Sink) string {
	p, ok := sink.(interface{ Peer() net.Addr })
	if !ok {
		return ""
	}
	if host, _, err := net.SplitHostPort(p.Peer().String()); err == nil {
		return host
	}
	return p.Peer().String()
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // the client went away: nobody to tell
}
