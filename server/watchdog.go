package server

import (
	"context"
	"os"
	"strconv"
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/internal/clock"
)

// watchdogPeriod is how often the service manager is to be told that this process lives (sd_watchdog_enabled(3)), 0 for never.
func watchdogPeriod(getenv func(string) string, pid int) time.Duration {
	if whose := getenv("WATCHDOG_PID"); whose != "" && whose != strconv.Itoa(pid) {
		return 0
	}
	micros, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || micros <= 0 || micros > int64(24*time.Hour/time.Microsecond) {
		return 0
	}
	return time.Duration(micros) * time.Microsecond / 2
}

// guardLife tells the service manager that this process lives, as long as the member answers reads of its own data. That does not
// depend on other members or on the disk: a restart would not mend them. It ends as the first part of the member's stop.
func (s *Server) guardLife() {
	period := watchdogPeriod(os.Getenv, os.Getpid())
	if period == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s.onStop("watchdog", func(context.Context) error { cancel(); <-done; return nil })
	go func() {
		defer close(done)
		tick := clock.Real().NewTicker(period)
		defer tick.Stop()
		for {
			err := condition{s}.Read(ctx, true)
			if err == nil {
				_, err = notifyInit("WATCHDOG=1")
			}
			if err != nil {
				s.logger.Warn("the service manager's watchdog was not told that this process lives", zap.Error(err))
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
}
