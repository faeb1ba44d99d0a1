package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/proxy/upstream"
	"quorate.dev/quorate/rpc"
)

// stream is how a streaming method is passed on: message by message, each way as fast as the other side takes it. A client
// that does not read holds its stream of the store back, and no other.
func (f *forwarder) stream(method string) rpc.StreamHandler {
	there, back := f.space.rewriting(method)
	return func(s *rpc.Stream) *rpc.Status {
		o := originOf(s)
		if o.bad != nil {
			return o.bad
		}
		p := &passage{f: f, client: s, there: there, back: back, news: make(chan struct{}, 1)}
		return p.run(o.header)
	}
}

// passage is one stream of a client and its stream of the store.
type passage struct {
	f           *forwarder
	client      *rpc.Stream
	conn        *upstream.Conn
	store       *lean.Stream
	there, back rewriter

	news  chan struct{} // holds a token when queue or ended changed
	mu    sync.Mutex
	queue [][]byte // messages of the store; bounded by its window, which is given back when one was sent on
	ended bool
	end   error
	heads []lean.Field // headers that were not sent on yet
}

func (p *passage) run(h *lean.Header) *rpc.Status {
	ctx := p.client.Context()
	if bad := p.open(ctx, h); bad != nil {
		return bad
	}
	uploaded := make(chan *rpc.Status, 1)
	p.f.work.Go(func() { p.upload(uploaded) })
	defer p.cancel()
	for {
		select {
		case bad := <-uploaded:
			if bad != nil {
				return bad
			}
		case <-p.news:
			if done, st := p.download(); done {
				return st
			}
		case <-ctx.Done():
			return statusCanceled
		case <-p.f.ctx.Done():
			return statusStopping
		}
	}
}

var statusCanceled = &rpc.Status{Code: rpc.Canceled, Message: "context canceled"}

func (p *passage) open(ctx context.Context, h *lean.Header) *rpc.Status {
	waiting, cancel := context.WithTimeout(ctx, p.f.wait)
	defer cancel()
	var avoid *upstream.Conn
	for range triesMax {
		conn, err := p.f.pool.PickOther(waiting, avoid)
		if err != nil {
			return statusNone
		}
		var timeout time.Duration
		if at, ok := p.client.Deadline(); ok {
			timeout = max(at.Sub(p.f.clock.Now()), time.Millisecond)
		}
		// The callbacks of the stream may run before store is set; they do not look at it.
		if p.store, err = conn.Open(h, timeout, lean.Paced, p); err == nil {
			p.conn = conn
			conn.Kick()
			return nil
		}
		avoid = conn
	}
	return statusNone
}

// upload sends the client's messages on until there are no more.
func (p *passage) upload(done chan<- *rpc.Status) {
	for {
		msg, err := p.client.Recv()
		if errors.Is(err, io.EOF) {
			p.store.CloseSend()
			p.conn.Kick()
			return
		}
		var bad *rpc.Status
		if err != nil {
			if !errors.As(err, &bad) {
				bad = statusCanceled
			}
			done <- bad
			return
		}
		if p.there != nil {
			msg, bad = p.there(msg)
		}
		if bad == nil && len(msg) > p.f.limits.Send {
			bad = tooLargeToSend(len(msg), p.f.limits.Send)
		}
		if bad == nil {
			err := p.store.Send(raw(msg), false)
			if err == nil {
				p.conn.Kick()
				continue
			}
			if errors.Is(err, lean.ErrEnded) {
				return // its end is on the way to download
			}
			bad = &rpc.Status{Code: rpc.ResourceExhausted, Message: err.Error()}
		}
		done <- bad
		return
	}
}

// download sends the store's messages on, and reports whether the stream is at its end.
func (p *passage) download() (bool, *rpc.Status) {
	for {
		p.mu.Lock()
		queue, heads := p.queue, p.heads
		p.queue, p.heads = nil, nil
		ended, end := p.ended, p.end
		p.mu.Unlock()
		for _, h := range heads {
			p.client.SetHeader(h.Name, h.Value)
		}
		for _, msg := range queue {
			size := len(msg)
			if size > p.f.limits.Recv {
				return true, tooLargeToReceive(size, p.f.limits.Recv)
			}
			if p.back != nil {
				var bad *rpc.Status
				if msg, bad = p.back(msg); bad != nil {
					return true, bad
				}
			}
			if err := p.client.Send(rpc.RawMessage(msg)); err != nil {
				return true, statusCanceled
			}
			p.store.Credit(size)
			p.conn.Kick()
		}
		switch {
		case len(queue) > 0: // there may be more by now
		case ended && end == nil:
			return true, nil
		case ended:
			return true, p.f.statusOf(end)
		default:
			return false, nil
		}
	}
}

func (p *passage) cancel() {
	p.store.Cancel()
	p.conn.Kick()
}

// Headers implements lean.HeaderReceiver.
func (p *passage) Headers(metadata []lean.Field, trailers bool) {
	if trailers {
		return
	}
	p.mu.Lock()
	p.heads = append(p.heads, metadata...)
	p.mu.Unlock()
}

// Message implements lean.Handler.
func (p *passage) Message(body []byte) {
	p.mu.Lock()
	p.queue = append(p.queue, bytes.Clone(body))
	p.mu.Unlock()
	notify(p.news)
}

// End implements lean.Handler.
func (p *passage) End(err error) {
	p.mu.Lock()
	p.ended, p.end = true, err
	p.mu.Unlock()
	notify(p.news)
}
