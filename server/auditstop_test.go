package server

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"quorate.dev/quorate/audit"
)

// stuckFile takes nothing until the test ends.
type stuckFile struct{ end chan struct{} }

func (f stuckFile) Write(p []byte) (int, error) { <-f.end; return len(p), nil }
func (f stuckFile) Close() error                { return nil }

// TestStuckAuditLogDoesNotHoldUpTheStop: the stop goes on, and says what is missing.
func TestStuckAuditLogDoesNotHoldUpTheStop(t *testing.T) {
	end := make(chan struct{})
	l, err := audit.Start(audit.Options{Out: stuckFile{end}})
	if err != nil {
		t.Fatal(err)
	}
	l.Record(l.Entry())
	core, logs := observer.New(zap.InfoLevel)
	s := &Server{logger: zap.New(core), audit: l}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := s.closeAudit(ctx); err != nil || ctx.Err() != nil {
		t.Errorf("%v, %v", err, ctx.Err())
	}
	if logs.FilterMessage("audit log not complete").Len() != 1 {
		t.Errorf("logged %v", logs.All())
	}
	close(end)
	if err := l.Close(ctx); err != nil {
		t.Error(err)
	}
}
