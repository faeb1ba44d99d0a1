package ops

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"quorate.dev/quorate/internal/clock"
)

// Bounds of a probe of a disk.
const (
	probeWrites = 200             // writes, each made durable
	probeBytes  = 2300            // of each, as etcd's advice for fio has it
	probeTime   = 5 * time.Second // for all of them
)

// probeDisk measures how long a small write takes to be durable in a directory, with a file that is removed afterwards.
func probeDisk(ctx context.Context, dir string, c clock.Clock) []Finding {
	times, err := syncTimes(ctx, dir, c)
	if err != nil {
		return []Finding{{Check: "local-disk", Level: Fail, What: fmt.Sprintf("cannot measure %s: %v", dir, err), Do: "name the data directory of a member on this machine, as a user who may write to it"}}
	}
	slices.Sort(times)
	p99 := times[len(times)*99/100].Seconds()
	f := Finding{Check: "local-disk", Level: grade(p99, fsyncWarn, fsyncFail), What: fmt.Sprintf("%d writes of %d bytes were durable in %s at the median, %s at p99, %s at most, in %s",
		len(times), probeBytes, seconds(times[len(times)/2].Seconds()), seconds(p99), seconds(times[len(times)-1].Seconds()), dir)}
	if f.Level != Pass {
		f.Do = "use a disk that is faster to sync, such as local NVMe, or give the log one of its own (--wal-dir); Kubernetes wants p99 under 10 ms"
	}
	return []Finding{f}
}

func syncTimes(ctx context.Context, dir string, c clock.Clock) (times []time.Duration, err error) {
	f, err := os.CreateTemp(dir, ".quorate-doctor-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = f.Close()
		if e := os.Remove(f.Name()); e != nil && err == nil {
			err = fmt.Errorf("remove %s: %w", filepath.Base(f.Name()), e)
		}
	}()
	block := make([]byte, probeBytes)
	for end := c.Now().Add(probeTime); len(times) < probeWrites; {
		began := c.Now()
		if began.After(end) && len(times) > 0 || ctx.Err() != nil {
			break
		}
		if _, err := f.Write(block); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		times = append(times, c.Now().Sub(began))
	}
	if len(times) == 0 {
		return nil, errInterrupted
	}
	return times, nil
}
