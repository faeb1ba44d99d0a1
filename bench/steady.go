package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
)

// steadyClients are enough that puts by schedule wait for the server and not for a client.
const (
	steadyClients = 2000
	steadyConns   = 50
)

// steadyPuts runs puts by schedule. A server under another load at the same time may refuse some; a quiet one may not.
func (w *workbench) steadyPuts(cs conns, op operation, d time.Duration, loaded bool) (*outcome, error) {
	return w.s.drive(cs, &workload{clients: steadyClients, rate: float64(w.sizes.steady), d: d, grace: 5 * time.Second, crowded: loaded, op: op})
}

// p99 of what keep admits, ms; refusals count with the time they took.
func p99(o *outcome, keep func(sample) bool) float64 {
	return quantile(latencies(o.samples, keep), 0.99)
}

// putWatched writes under the prefix that is watched.
func putWatched(value []byte) operation {
	return func(c *caller, l limit, i int64) error { return c.put(l, c.numbered(watchKey, i%1000), value) }
}

// stoppedWatchers compares the p99 of puts alone with that beside watchers of the keys that are put, who take nothing from
// their streams: the windows of these are full, and so is whatever the server holds for each.
func (w *workbench) stoppedWatchers() (*result, error) {
	cs, err := w.s.connect(steadyConns)
	if err != nil {
		return nil, err
	}
	defer cs.close()
	d := w.sizes.timed() / 2
	var quiets, loadeds, refusals []float64
	for range w.sizes.repeats {
		quiet, err := w.steadyPuts(cs, putWatched(value256()), d, false)
		if err != nil {
			return nil, err
		}
		loaded, err := w.besideStopped(cs, d)
		if err != nil {
			return nil, err
		}
		quiets, loadeds, refusals = append(quiets, p99(quiet, nil)), append(loadeds, p99(loaded, nil)), append(refusals, loaded.share(refused))
	}
	r := newResult().set("quiet p99", median(quiets...)).set("loaded p99", median(loadeds...))
	r.set("loaded / quiet", median(loadeds...)/median(quiets...)).set("refused", median(refusals...))
	m, err := w.s.memory()
	return r.set("peak resident", float64(m.peak)), err
}

// besideStopped opens the watchers, fills them up, measures, and closes them.
func (w *workbench) besideStopped(cs conns, d time.Duration) (*outcome, error) {
	const perConn = 100
	// With windows that are given, grpc-go does not open them by itself, up to 16 MB a stream, while bytes arrive that nobody
	// takes: those watchers would not have stopped.
	mute, err := w.s.connect((w.sizes.stopped+perConn-1)/perConn, grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(16<<20))
	if err != nil {
		return nil, err
	}
	defer mute.close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for i := range w.sizes.stopped {
		if _, err := watch(ctx, mute[i%len(mute)], watchFirst, watchEnd, 1); err != nil {
			return nil, err
		}
	}
	// A stream's window is 64 KB; events of 1 KB for 1 MB fill it, and the queues of both servers behind it, many times over.
	const fill = 1000
	value := halfRandom(make([]byte, 1024), 7)
	if _, err := w.s.drive(cs, &workload{clients: 50, total: fill, op: putWatched(value)}); err != nil {
		return nil, err
	}
	return w.steadyPuts(cs, putWatched(value256()), d, true)
}

// compaction compares the p99 of puts alone with that while many revisions are compacted.
func (w *workbench) compaction() (*result, error) {
	var quiets, loadeds, times []float64
	for range max(1, w.sizes.repeats-1) {
		quiet, loaded, took, err := w.compactOnce()
		if err != nil {
			return nil, err
		}
		quiets, loadeds, times = append(quiets, quiet), append(loadeds, loaded), append(times, took)
	}
	r := newResult().set("quiet p99", median(quiets...)).set("loaded p99", median(loadeds...))
	r.set("loaded / quiet", median(loadeds...)/median(quiets...)).set("compaction", median(times...))
	return r, nil
}

// compactOnce makes the revisions, then compacts them in the middle of puts by schedule. The p99 while it ran is that of the
// puts that were due between the request to compact and the answer that all is done, but of a fifth of a second at least.
func (w *workbench) compactOnce() (quiet, loaded, took float64, err error) {
	cs, err := w.s.connect(w.sizes.conns)
	if err != nil {
		return 0, 0, 0, err
	}
	defer cs.close()
	rev, err := w.makeRevisions(cs)
	if err != nil {
		return 0, 0, 0, err
	}
	stop := make(chan struct{})
	type ran struct {
		o   *outcome
		err error
	}
	done := make(chan ran, 1)
	start := time.Now()
	go func() {
		o, err := w.s.drive(cs, &workload{clients: steadyClients, rate: float64(w.sizes.steady), d: 2 * time.Minute, grace: 5 * time.Second,
			crowded: true, op: putOf(value256()), stop: stop})
		done <- ran{o, err}
	}()
	const warm, gap = 500 * time.Millisecond, 200 * time.Millisecond
	time.Sleep(warm + w.sizes.timed()/2 + gap)
	from := time.Since(start)
	err = newCaller(cs[0], 0).exchange(bounded(time.Minute), methodCompact, compactRequest(rev))
	to := max(time.Since(start), from+gap)
	took = (time.Since(start) - from).Seconds()
	time.Sleep(gap)
	close(stop)
	x := <-done
	if err != nil {
		return 0, 0, 0, fmt.Errorf("compacting: %w", err)
	}
	if x.err != nil {
		return 0, 0, 0, x.err
	}
	return p99(x.o, between(warm, from-gap)), p99(x.o, between(from, to)), took, nil
}

// makeRevisions overwrites the basic store many times and returns the revision of the last put.
func (w *workbench) makeRevisions(cs conns) (int64, error) {
	if _, err := w.s.drive(cs, &workload{clients: w.sizes.clients, total: int64(w.sizes.revisions), op: putOf(value256())}); err != nil {
		return 0, err
	}
	c := newCaller(cs[0], 0)
	if err := c.put(limit{}, c.numbered(basicKey, 0), value256()); err != nil {
		return 0, err
	}
	return revisionOf(c.reply.b)
}
