package server

import (
	"context"
	"strings"
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/httpapi"
	"quorate.dev/quorate/rpc"
)

// slowQueue is how many slow calls may wait to be logged; more are not logged.
const slowQueue = 64

// slowCalls is an observer that also logs unary calls slower than a limit. Calls that wait for something by design, those of
// locks and elections, are left out.
type slowCalls struct {
	rpc.Observer
	limit  time.Duration
	unary  map[string]bool
	queue  chan slowCall
	logger *zap.Logger
}

type slowCall struct {
	method string
	code   rpc.Code
	took   time.Duration
	ended  time.Time
}

// newSlowCalls starts the logging of slow calls; limit 0 or below logs none.
func (s *Server) newSlowCalls(next rpc.Observer, limit time.Duration) rpc.Observer {
	if limit <= 0 {
		return next
	}
	o := &slowCalls{Observer: next, limit: limit, unary: map[string]bool{}, queue: make(chan slowCall, slowQueue), logger: s.logger}
	for _, m := range methods() {
		o.unary[m.Name] = m.Type == httpapi.Unary && !strings.HasPrefix(m.Name, "/v3lockpb.") && !strings.HasPrefix(m.Name, "/v3electionpb.")
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		o.write(stop)
	}()
	s.onStop("slow call log", func(context.Context) error {
		close(stop)
		<-done
		return nil
	})
	return o
}

// Handled implements rpc.Observer. It may run with a connection locked, so the line is written elsewhere.
func (o *slowCalls) Handled(method string, code rpc.Code, took time.Duration) {
	o.Observer.Handled(method, code, took)
	if took < o.limit || !o.unary[method] {
		return
	}
	select {
	case o.queue <- slowCall{method, code, took, time.Now()}:
	default:
	}
}

// write logs slow calls until stop is closed.
func (o *slowCalls) write(stop <-chan struct{}) {
	for {
		select {
		case c := <-o.queue:
			o.logger.Warn("request stats", zap.Time("start time", c.ended.Add(-c.took)), zap.Duration("time spent", c.took),
				zap.String("method", c.method), zap.Stringer("code", c.code), zap.Duration("expected-duration", o.limit))
		case <-stop:
			return
		}
	}
}
