package rpc_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"quorate.dev/quorate/rpc"
)

// heard is a witness that keeps what it hears.
type heard struct {
	mu      sync.Mutex
	replies int
	ends    []*rpc.Status
	took    time.Duration
	over    chan struct{} // closed by the first end
}

func (h *heard) Replied(rpc.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.replies++
}

func (h *heard) Ended(st *rpc.Status, took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ends, h.took = append(h.ends, st), took
	if len(h.ends) == 1 {
		close(h.over)
	}
}

// TestWitness: whatever becomes of a call or stream, its witness hears one end, with the status that counts.
func TestWitness(t *testing.T) {
	var h *heard
	release := make(chan struct{})
	var arrived atomic.Bool
	reply := rpc.RawMessage("reply")
	unary := map[string]func(*rpc.Call){
		"reply": func(c *rpc.Call) { c.Reply(reply) },
		"fail":  func(c *rpc.Call) { c.Fail(&rpc.Status{Code: rpc.NotFound, Message: "no"}) },
		"pieces": func(c *rpc.Call) {
			c.ReplyStream(5, func(dst []byte) ([]byte, bool) { return append(dst, reply...), false })
		},
		"late": func(c *rpc.Call) { arrived.Store(true); go func() { <-release; c.Reply(reply) }() },
	}
	server := start(t, rpc.Config{}, func(s *rpc.Server) {
		for name, answer := range unary {
			s.Unary("/t.T/"+name, func(c *rpc.Call, _ []byte) {
				c.SetWitness(h)
				if c.Witness() != rpc.Witness(h) {
					t.Error("another witness")
				}
				answer(c)
				if (name == "reply" || name == "fail") && c.Witness() != nil {
					t.Error("a call that is over has a witness")
				}
			})
		}
		s.Unary("/t.T/over", func(c *rpc.Call, _ []byte) {
			c.Fail(&rpc.Status{Code: rpc.NotFound})
			c.SetWitness(h)
		})
		s.Stream("/t.T/Watched", func(st *rpc.Stream) *rpc.Status {
			st.SetWitness(h)
			if err := st.Send(reply); err != nil {
				return asStatus(err)
			}
			_, err := st.Recv()
			return asStatus(err)
		})
	})
	for _, c := range []struct {
		method  string
		code    rpc.Code
		replies int
	}{
		{"reply", rpc.OK, 1}, {"fail", rpc.NotFound, 0}, {"pieces", rpc.OK, 0}, {"over", rpc.NotFound, 0},
	} {
		h = &heard{over: make(chan struct{})}
		_, _ = call(within(t), server.dial(t), "/t.T/"+c.method, nil)
		<-h.over
		h.check(t, c.method, []rpc.Code{c.code}, c.replies)
	}
	h = &heard{over: make(chan struct{})}
	for limit := 2 * time.Second; !arrived.Load() && limit < 10*time.Minute; limit *= 8 { // the call has to arrive before its deadline
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, _ = call(ctx, server.dial(t), "/t.T/late", nil)
		cancel()
	}
	<-h.over
	h.check(t, "late", []rpc.Code{rpc.DeadlineExceeded, rpc.Canceled}, 0) // client and server notice at the same time
	close(release)

	h = &heard{over: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	st, err := server.dial(t).NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/t.T/Watched")
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	if err := st.RecvMsg(&got); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-h.over
	h.check(t, "a stream whose client goes", []rpc.Code{rpc.Canceled}, 0)
}

func (h *heard) check(t *testing.T, what string, codes []rpc.Code, replies int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	got := rpc.OK
	if len(h.ends) > 0 && h.ends[0] != nil {
		got = h.ends[0].Code
	}
	if len(h.ends) != 1 || !slices.Contains(codes, got) || h.replies != replies || h.took <= 0 {
		t.Errorf("%s: %d ends, the first %v after %v, %d replies; want one end with %v and %d replies", what, len(h.ends), got, h.took, h.replies, codes, replies)
	}
}
