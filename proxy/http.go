package proxy

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/proxy/upstream"
	"quorate.dev/quorate/rpc"
)

// The bounds of the HTTP endpoints.
const (
	healthTimeout      = time.Second      // of a read of the store
	watchTimeout       = 3 * time.Second  // of the watch of /proxy/health
	metricsTimeout     = 10 * time.Second // of fetching the store's metrics
	metricsBytesMax    = 64 << 20
	metricsContentType = "text/plain; version=0.0.4"
)

// front serves what is not gRPC.
type front struct {
	f       *forwarder
	pool    *upstream.Pool
	log     *zap.Logger
	metrics http.Handler // of the proxy itself
	tls     func() *tls.Config
	pprof   bool
}

// handler serves all the endpoints; debug says whether profiles are among them.
func (w *front) handler(debug bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", w.storeMetrics)
	mux.HandleFunc("/health", func(rw http.ResponseWriter, r *http.Request) { w.health(rw, r, w.readable) })
	mux.HandleFunc("/proxy/health", func(rw http.ResponseWriter, r *http.Request) { w.health(rw, r, w.watchable) })
	mux.Handle("/proxy/metrics", w.metrics)
	if debug {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// storeMetrics passes on the metrics of a member that serves.
func (w *front) storeMetrics(rw http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), metricsTimeout)
	defer cancel()
	body, err := w.fetch(ctx, w.pool.Endpoints()[0])
	if err != nil {
		w.log.Warn("cannot fetch the store's metrics", zap.Error(err))
		http.Error(rw, "Internal server error", http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Content-Type", metricsContentType)
	_, _ = rw.Write(body) // the client's end of the connection is its own concern
}

func (w *front) fetch(ctx context.Context, endpoint string) ([]byte, error) {
	url := endpoint
	if !strings.HasPrefix(url, "http") {
		url = "http://" + endpoint
		if w.tls != nil {
			url = "https://" + endpoint
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	if w.tls != nil {
		transport.TLSClientConfig = w.tls()
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", req.URL, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, metricsBytesMax))
}

// healthAnswer is the body of a health endpoint, as etcd's.
type healthAnswer struct {
	Health string `json:"health"`
	Reason string `json:"reason"`
}

// health answers with what check says, empty for healthy.
func (w *front) health(rw http.ResponseWriter, r *http.Request, check func(context.Context) string) {
	if r.Method != http.MethodGet {
		rw.Header().Set("Allow", http.MethodGet)
		http.Error(rw, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	answer := healthAnswer{Health: "true"}
	if reason := check(r.Context()); reason != "" {
		answer = healthAnswer{"false", reason}
	}
	text, err := json.Marshal(answer)
	if err != nil {
		panic("BUG: answer does not marshal: " + err.Error())
	}
	if answer.Health == "true" {
		_, _ = rw.Write(text) // the client's end of the connection is its own concern
		return
	}
	w.log.Warn("the health check fails", zap.String("path", r.URL.Path), zap.String("reason", answer.Reason))
	http.Error(rw, string(text), http.StatusServiceUnavailable)
}

// askedKey is read and watched to see whether that works. It need not exist, nor be permitted.
const askedKey = "a"

// readable is why the store cannot be read through this proxy, empty when it can. A refusal is an answer.
func (w *front) readable(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	msg, err := proto.Marshal(&etcdserverpb.RangeRequest{Key: []byte(askedKey), KeysOnly: true})
	if err != nil {
		panic("BUG: request does not marshal: " + err.Error())
	}
	_, bad := w.f.ask(ctx, methodRange, msg)
	if bad == nil {
		return ""
	}
	switch bad.Code {
	case rpc.Unavailable, rpc.DeadlineExceeded, rpc.Canceled, rpc.Unknown, rpc.Internal, rpc.DataLoss:
		return "GET ERROR:" + bad.Message
	}
	return ""
}

// watchable is why the store cannot be read and watched.
func (w *front) watchable(ctx context.Context) string {
	if reason := w.readable(ctx); reason != "" {
		return reason
	}
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	conn, err := w.pool.Pick(ctx)
	if err != nil {
		return "WATCH ERROR:" + err.Error()
	}
	create := &etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
		CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte(askedKey)}}}
	msg, err := proto.Marshal(create)
	if err != nil {
		panic("BUG: request does not marshal: " + err.Error())
	}
	heard := make(heard, 1)
	s, err := conn.Open(plainHeader(methodWatch), 0, lean.Free, heard)
	if err == nil {
		err = s.Send(raw(msg), false)
	}
	if err != nil {
		return "WATCH ERROR:" + err.Error()
	}
	conn.Kick()
	defer func() {
		s.Cancel()
		conn.Kick()
	}()
	select {
	case err := <-heard:
		if err != nil {
			return "WATCH ERROR:" + err.Error()
		}
		return ""
	case <-ctx.Done():
		return "WATCH TIMEOUT"
	}
}

// heard tells of the first thing that happens on a stream: a message, or its end with an error.
type heard chan error

// Message implements lean.Handler.
func (h heard) Message([]byte) {
	select {
	case h <- nil:
	default:
	}
}

// End implements lean.Handler.
func (h heard) End(err error) {
	select {
	case h <- err:
	default:
	}
}

// ask makes a call of the proxy's own, without credentials.
func (f *forwarder) ask(ctx context.Context, method string, msg []byte) ([]byte, *rpc.Status) {
	q := make(question, 1)
	e := &errand{f: f, header: plainHeader(method), msg: msg, to: q}
	e.deadline, _ = ctx.Deadline()
	e.start()
	select {
	case a := <-q:
		return a.body, a.bad
	case <-ctx.Done():
		e.cancel()
		return nil, &rpc.Status{Code: rpc.DeadlineExceeded, Message: ctx.Err().Error()}
	}
}

func plainHeader(method string) *lean.Header {
	h, err := lean.NewHeader(method)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return h
}

// question is a receiver for who waits.
type question chan struct {
	body []byte
	bad  *rpc.Status
}

// answered implements receiver.
func (q question) answered(body []byte, bad *rpc.Status) {
	q <- struct {
		body []byte
		bad  *rpc.Status
	}{append([]byte(nil), body...), bad}
}
