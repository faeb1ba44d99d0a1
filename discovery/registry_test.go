package discovery_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"quorate.dev/quorate/discovery"
	"quorate.dev/quorate/internal/clock"
)

// TestJoinGivesUp checks that a service that does not answer is asked again until the caller gives up, and is then named. What
// is found at a service that runs is tested in package server.
func TestJoinGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := make(chan error, 1)
	manual := clock.NewManual(time.Unix(0, 0))
	r := discovery.Registry{Endpoints: []string{"http://127.0.0.1:1"}, Token: "T", Clock: manual, Report: func(_, _ int, err error) { told <- err }}
	ended := make(chan error, 1)
	go func() {
		_, err := r.Join(ctx, "1", "m=http://127.0.0.1:2380")
		ended <- err
	}()
	if err := <-told; err == nil || !strings.Contains(err.Error(), "http://127.0.0.1:1") {
		t.Errorf("reported %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), `discovery token "T" at [http://127.0.0.1:1]`) {
		t.Errorf("ended with %v", err)
	}
}
