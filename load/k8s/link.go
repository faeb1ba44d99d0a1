package k8s

import (
	"context"
	"crypto/tls"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/load/lean"
)

// link is the connection of one API server for one resource. When it is lost it is dialled again, at the next endpoint first.
type link struct {
	d       *driver
	at      int // of the endpoints; the next one after a loss
	conn    atomic.Pointer[lean.Conn]
	watcher *watcher // nil for none
	idle    *idleWatch
	dirty   bool // of the driver: called and not flushed
}

// dial tries the endpoints in turn, once each, from the one after the last.
func (l *link) dial(ctx context.Context) error {
	t := &l.d.o.Target
	var err error
	for range t.Endpoints {
		address, secure, bad := t.Parse(t.Endpoints[l.at%len(t.Endpoints)])
		if bad != nil {
			return bad
		}
		l.at++
		cfg := lean.Config{Address: address, Timeout: t.Timeout}
		if secure {
			if cfg.TLS = t.TLS; cfg.TLS == nil {
				cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
			}
		}
		dialing, cancel := context.WithTimeout(ctx, dialTimeout)
		var conn *lean.Conn
		conn, err = lean.Dial(dialing, cfg)
		cancel()
		if err == nil {
			l.conn.Store(conn)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return err
}

// up is the connection if it takes calls, nil otherwise.
func (l *link) up() *lean.Conn {
	if conn := l.conn.Load(); conn != nil && conn.Err() == nil {
		return conn
	}
	return nil
}

// serve keeps the link connected until ctx ends.
func (l *link) serve(ctx context.Context) {
	for {
		conn := l.conn.Load()
		select {
		case <-ctx.Done():
			return
		case <-conn.Gone():
		}
		l.d.redials.Add(1)
		pause := redialFirst
		for l.dial(ctx) != nil {
			if !l.d.wait(ctx, pause) {
				return
			}
			pause = min(2*pause, redialMax)
		}
		if l.watcher != nil {
			l.watcher.resume()
		}
		if l.idle != nil {
			l.idle.open(l)
		}
	}
}

// wait is false when ctx ended before.
func (d *driver) wait(ctx context.Context, pause time.Duration) bool {
	timer := d.o.Clock.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
