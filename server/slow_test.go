package server

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"quorate.dev/quorate/rpc"
)

// nobody observes and does nothing.
type nobody struct{ handled int }

func (*nobody) Started(string, bool)                      {}
func (n *nobody) Handled(string, rpc.Code, time.Duration) { n.handled++ }
func (*nobody) MessageReceived(string)                    {}
func (*nobody) MessageSent(string)                        {}
func (*nobody) Bytes(int, int)                            {}

func TestSlowCallsAreLogged(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	s, next := &Server{logger: zap.New(core)}, &nobody{}
	o := s.newSlowCalls(next, 300*time.Millisecond)
	o.Handled("/etcdserverpb.KV/Put", rpc.OK, 299*time.Millisecond)
	o.Handled("/etcdserverpb.Watch/Watch", rpc.OK, time.Hour)
	o.Handled("/v3lockpb.Lock/Lock", rpc.OK, time.Hour)
	o.Handled("/etcdserverpb.KV/Txn", rpc.Unavailable, 301*time.Millisecond)
	deadline := time.After(2 * time.Minute)
	for tick := time.NewTicker(time.Millisecond); logs.Len() == 0; {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("nothing was logged")
		}
	}
	for i := len(s.undo) - 1; i >= 0; i-- {
		if err := s.undo[i].stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
	lines := logs.All()
	if len(lines) != 1 || lines[0].Message != "request stats" || lines[0].ContextMap()["method"] != "/etcdserverpb.KV/Txn" || lines[0].ContextMap()["code"] != "Unavailable" {
		t.Errorf("logged %+v, want the one slow transaction", lines)
	}
	if next.handled != 4 {
		t.Errorf("%d calls were passed on, want 4", next.handled)
	}
	if o := s.newSlowCalls(next, 0); o != rpc.Observer(next) {
		t.Error("a limit of 0 must log nothing")
	}
}
