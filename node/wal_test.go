package node_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/node"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wal"
)

// disk is a member over a real log on a file system that can crash, and over a machine of which a crash keeps any prefix,
// as it does of the engine.
type disk struct {
	t       *testing.T
	files   vfs.FS
	log     *wal.Log
	machine *machine
	host    *node.Host

	mu    sync.Mutex
	acked map[string]ids.Index
}

func (d *disk) options() wal.Options { return wal.Options{FS: d.files, SegmentBytes: 32 << 10} }

// open starts the member on what the disk holds, or from nothing.
func (d *disk) open() error {
	ready := make(chan ids.Term, 4)
	c := node.Config{
		Member: self, Machine: d.machine, Timing: timing, Clock: clock.NewManual(epoch),
		Observer: node.Observer{LeaderReady: func(term ids.Term) { ready <- term }},
	}
	var err error
	if !wal.Exists(d.files, "wal") {
		if d.log, err = wal.Create("wal", d.options(), wal.Metadata{Member: self}); err != nil {
			return err
		}
		if c.HardState, c.Entries, err = node.Bootstrap(d.log, []node.Peer{{ID: self}}); err != nil {
			return err
		}
	} else {
		var r *wal.Replay
		if d.log, r, err = wal.Open("wal", d.options(), d.machine.mark.Index); err != nil {
			return err
		}
		c.HardState, c.Entries = r.HardState, r.Entries
		if r.HardState.GetTerm() == 0 { // the crash came before the first entries were written
			if c.HardState, c.Entries, err = node.Bootstrap(d.log, []node.Peer{{ID: self}}); err != nil {
				return err
			}
		}
	}
	c.Log = d.log
	if d.machine.mark.Index > 0 {
		c.ConfState = voters(self)
	}
	if d.host, err = node.Start(c); err != nil {
		return err
	}
	select {
	case <-ready:
		return nil
	case <-d.host.Done():
		return d.host.Err()
	}
}

func (d *disk) stop() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = d.host.Stop(ctx)
	_ = d.log.Close()
}

// acknowledged is a copy of what clients know to be done.
func (d *disk) acknowledged() map[string]ids.Index {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string]ids.Index{}
	for k, v := range d.acked {
		out[k] = v
	}
	return out
}

func (d *disk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.acked)
}

type acker struct {
	d    *disk
	name string
	then func(error)
}

func (a acker) Complete(r *command.Result) {
	if r.Err == nil {
		a.d.mu.Lock()
		a.d.acked[a.name] = ids.Index(r.Revision)
		a.d.mu.Unlock()
	}
	a.then(r.Err)
}

// write has clients propose, each one thing after the other, until the host ends or enough is done.
func (d *disk) write(prefix string, clients, each int) *sync.WaitGroup {
	var wg sync.WaitGroup
	for c := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				done := make(chan error, 1)
				name := fmt.Sprintf("%s/%d/%d", prefix, c, i)
				d.host.Propose(command.Put, []byte(name), acker{d, name, func(err error) { done <- err }})
				if <-done != nil {
					return
				}
			}
		}()
	}
	return &wg
}

// survives starts a member on a crashed file system with a machine that kept a prefix, and checks that everything
// acknowledged before the crash is applied where it was acknowledged.
func survives(t *testing.T, files vfs.FS, history []command.Command, keep int, acked map[string]ids.Index) *disk {
	t.Helper()
	d := &disk{t: t, files: files, acked: acked, machine: &machine{applied: history[:keep:keep]}}
	if keep > 0 {
		last := history[keep-1]
		d.machine.mark = storage.Mark{Index: last.Index, Term: last.Term}
	}
	require.NoError(t, d.open())
	found := map[string]ids.Index{}
	for _, c := range d.machine.commands() {
		if c.Kind == command.Put {
			require.Zero(t, found[string(c.Body)], "%s was applied twice", c.Body)
			found[string(c.Body)] = c.Index
		}
	}
	for name, index := range acked {
		require.Equal(t, index, found[name], "%s was acknowledged at index %d and is lost or moved", name, index)
	}
	return d
}

// Power is lost at random moments under load, again and again on what the crash before left.
func TestCrashLosesNothingAcknowledged(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	mem := vfs.NewCrashableMem()
	d := &disk{t: t, files: mem, machine: &machine{}, acked: map[string]ids.Index{}}
	require.NoError(t, d.open())
	for generation := range 15 {
		enough := d.count() + rng.IntN(1600)
		wg := d.write(fmt.Sprint(generation), 8, 200)
		for limit := time.Now().Add(patience); d.count() < enough; runtime.Gosched() {
			require.True(t, time.Now().Before(limit), "the clients hang")
		}
		acked, history := d.acknowledged(), d.machine.commands()
		crashed := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[rng.IntN(3)], RNG: rng})
		d.stop()
		wg.Wait()
		mem = crashed
		d = survives(t, crashed, history, rng.IntN(len(history)+1), acked)
	}
	t.Logf("%d acknowledged, log of %d segments", len(d.acked), d.log.Segments())
	d.stop()
}

// The i-th file operation fails, for every i: nothing is acknowledged from then on, the error names the file, and what was
// acknowledged before is there after a restart.
func TestEveryFailedFileOperationStopsTheMember(t *testing.T) {
	for i := 0; ; i++ {
		mem := vfs.NewCrashableMem()
		var failed string // the operation that did
		at := errorfs.OnIndex(int32(i))
		counter := &errorfs.Counter{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
			err := at.MaybeError(op)
			if err != nil && op.Kind == errorfs.OpFilePreallocate {
				return nil // file systems without it are fine: the log does not need it
			} else if err != nil {
				failed = fmt.Sprintf("%v of %s", op.Kind, op.Path)
			}
			return err
		})}
		d := &disk{t: t, files: errorfs.Wrap(mem, counter), machine: &machine{}, acked: map[string]ids.Index{}}
		if err := d.open(); err != nil {
			require.ErrorIs(t, err, errorfs.ErrInjected, "operation %d", i)
			if d.host != nil {
				d.stop()
			}
			continue
		}
		tolerated := counter.Load() > 0 // a look at whether there is a log, for one
		for n := range 130 {
			a := wait(t)
			name := fmt.Sprintf("%0300d", n)
			d.host.Propose(command.Put, []byte(name), acker{d, name, func(err error) { a.Complete(&command.Result{Err: err}) }})
			if r := a.get(); r.Err != nil {
				require.ErrorIs(t, r.Err, errorfs.ErrInjected)
				require.ErrorContains(t, d.host.Err(), "wal/")
				<-d.host.Done()
				break
			}
		}
		if failed != "" && !tolerated {
			require.Error(t, d.host.Err(), "operation %d, %s, failed and the member went on", i, failed)
		}
		acked, history := d.acknowledged(), d.machine.commands()
		d.stop()
		next := survives(t, mem.CrashClone(vfs.CrashCloneCfg{}), history, len(history)/2, acked)
		next.stop()
		if counter.Load() == 0 {
			t.Logf("%d operations", i)
			return
		}
	}
}
