package load

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/load/lean"
)

// line is one connection of a run, with the slots that use it. When the connection is lost and errors are allowed, it is dialled
// again; slots that lost their request wait here.
type line struct {
	r    *run
	cfg  lean.Config
	conn atomic.Pointer[lean.Conn]
	rec  recorder

	mu     sync.Mutex
	parked []*slot
	dirty  bool // of the pacer: called and not flushed
}

// dial connects; the error names the endpoint.
func (l *line) dial(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.r.o.Target.DialTimeout)
	defer cancel()
	conn, err := lean.Dial(ctx, l.cfg)
	if err != nil {
		return err
	}
	l.conn.Store(conn)
	return nil
}

func (l *line) park(s *slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.parked = append(l.parked, s)
}

func (l *line) unpark() []*slot {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.parked
	l.parked = nil
	return list
}

// serve starts the parked slots of a closed loop, and again after each loss of the connection, until ctx ends. Slots are parked
// only here and by callbacks, and Gone comes after the last callback: none is left behind.
func (l *line) serve(ctx context.Context) {
	defer func() {
		for _, s := range l.unpark() {
			s.retire()
		}
	}()
	for {
		for _, s := range l.unpark() {
			s.loop(l.r.now())
		}
		conn := l.conn.Load()
		_ = conn.Flush() // a failure ends the connection, which Gone says
		select {
		case <-ctx.Done():
			return
		case <-conn.Gone():
		}
		if !l.r.failed(conn.Err()) || !l.redial(ctx) {
			return
		}
	}
}

// redial tries until it succeeds or the run is over.
func (l *line) redial(ctx context.Context) bool {
	pause := RedialFirst
	for {
		if l.dial(ctx) == nil {
			return true
		}
		timer := l.r.o.Clock.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false
		}
		if !l.r.open && l.r.over(l.r.now()) {
			return false
		}
		pause = min(2*pause, RedialMax)
	}
}

// close ends the connection and waits until all of its requests have completed.
func (l *line) close() {
	if conn := l.conn.Load(); conn != nil {
		conn.Close()
	}
}

// authenticate gets a token for the user of o, "" when there is none.
func (r *run) authenticate(ctx context.Context) (string, error) {
	if r.o.Target.User == "" {
		return "", nil
	}
	body, err := r.ask(ctx, r.lines[0], lean.Authenticate, credentials{r.o.Target.User, r.o.Target.Password})
	if err != nil {
		return "", err
	}
	return tokenOf(body)
}

// ask makes one call and waits for its answer, which is a copy.
func (r *run) ask(ctx context.Context, l *line, m lean.Method, req lean.Message) ([]byte, error) {
	a := &asked{answer: make(chan struct{})}
	conn := l.conn.Load()
	if err := conn.Call(m, req, a); err != nil {
		return nil, err
	}
	if err := conn.Flush(); err != nil {
		return nil, err
	}
	select {
	case <-a.answer:
		return a.body, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type asked struct {
	answer chan struct{}
	body   []byte
	err    error
}

// Done implements lean.Completion.
func (a *asked) Done(body []byte, err error) {
	a.body, a.err = append([]byte(nil), body...), err
	close(a.answer)
}

// now is the present as an instant since the begin of measuring: negative during the warm-up.
func (r *run) now() time.Duration { return r.o.Clock.Now().Sub(r.epoch) - r.o.Shape.Warmup }
