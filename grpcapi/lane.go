package grpcapi

import (
	"sync"

	"quorate.dev/quorate/fault"
)

// lane runs what takes longer than a connection's reader may, on a fixed number of goroutines and with a bounded queue.
type lane struct {
	mu     sync.RWMutex // held for writing only to close
	closed bool
	jobs   chan func()
	done   sync.WaitGroup
}

func newLane(workers, queue int) *lane {
	l := &lane{jobs: make(chan func(), queue)}
	for range workers {
		l.done.Go(func() {
			for job := range l.jobs {
				job()
			}
		})
	}
	return l
}

// add queues a job. Errors: fault.TooManyRequests when there is no room, fault.Stopped when the lane is closed.
func (l *lane) add(job func()) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return fault.Stopped
	}
	select {
	case l.jobs <- job:
		return nil
	default:
		return fault.TooManyRequests
	}
}

// close runs what is queued and ends the workers.
func (l *lane) close() {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.jobs)
	}
	l.mu.Unlock()
	l.done.Wait()
}
