// Package disk is the disk of one simulated member: files in memory that can lose power, fill up, fail, stall and rot, all of it
// decided by a seed.
//
// It is not a file system for anything else: it keeps no times, no owners and no permissions, and it makes no file durable that
// nobody synced. It serves one member at a time.
//
// Data passes through vfs.FS, which wal and storage take. Crash and Kill end a Disk and return the one that the next process of
// the member finds; files of the old one that are still open refuse everything.
//
// Invariants: what was synced is there after a crash, byte for byte, with its name if its directory was synced after that; of
// the rest each sector holds what it held before or what one of the writes since put there, and each change of a directory
// happened or did not. The same calls on a Disk of the same seed have the same effect.
package disk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// SectorBytes is what the disk writes whole or not at all.
const SectorBytes = 512

// Config configures New. The zero value is usable.
type Config struct {
	// Ordered makes changes of directories survive a crash in the order in which they were made, as a journal of a file
	// system has it. Otherwise any of them may survive without those before.
	Ordered bool
}

// Kind is a way in which a disk fails.
type Kind string

// The kinds of FailAfter.
const (
	// NoSpace refuses what needs space, with ENOSPC: new files, links, directories, and writes, which it may have done in part.
	// Syncs and removals work.
	NoSpace Kind = "no space"
	// Broken refuses every change, with EIO. A sync that fails loses a random part of what was written to the file, and a later
	// sync does not make up for it: the kernel believes those pages to be clean. Until the power goes they can be read.
	Broken Kind = "broken"
)

// ErrPowerLost is what everything returns from the operation on that CrashAt named, and on a Disk that Crash or Kill ended.
var ErrPowerLost = errors.New("disk: the power is gone")

// Disk is the disk of one member. Its methods and files may be used by several goroutines if only one of them acts at a time.
type Disk struct {
	// OnOp, if not nil, is told of every operation that changes something, before it takes place: what it is (create, lock,
	// open, write, sync, rename, remove, link, mkdir; with " failed" where a fault refuses it), of which path, and of how many
	// bytes. It is called on the goroutine of the operation and stays with the disk through crashes.
	OnOp func(op, path string, n int)

	mu      sync.Mutex
	rng     *rand.Rand
	cfg     Config
	root    *node
	locks   map[string]bool
	ops     uint64
	crashAt uint64 // operation at which the power goes; 0 for none
	failAt  uint64 // count of writes and syncs at which fault begins; 0 for none
	writes  uint64 // writes and syncs so far
	fault   Kind   // begins at failAt; then in force
	failing bool
	stalled bool
	dead    bool // ended by Crash or Kill, or without power
}

// New returns an empty disk. It draws from rng when something is left to chance: in Crash, and where a fault cuts through a
// write or a sync.
func New(rng *rand.Rand, cfg Config) *Disk {
	return &Disk{rng: rng, cfg: cfg, root: newDir(), locks: map[string]bool{}}
}

// FS returns the files for the packages that use them. Of a Disk that was ended it refuses everything.
func (d *Disk) FS() vfs.FS { return files{d} }

// Ops returns how many operations changed something or tried to, in the life of the disk. Reading is none.
func (d *Disk) Ops() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// CrashAt takes the power away in the middle of operation n, counted as Ops counts, so that 1 is the first one ever; 0 takes that
// back. What Crash then returns is what a loss of power at that moment leaves.
func (d *Disk) CrashAt(n uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crashAt = n
}

// FailAfter lets the n-th write or sync from now fail, 1 being the next, and what kind says from there on, until Free or Repair.
func (d *Disk) FailAfter(n uint64, kind Kind) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failAt, d.fault, d.failing = d.writes+n, kind, false
}

// Failing returns the fault that is in force, "" if there is none.
func (d *Disk) Failing() Kind {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.failing {
		return ""
	}
	return d.fault
}

// Free ends NoSpace, also one that is yet to come.
func (d *Disk) Free() { d.mend(NoSpace) }

// Repair ends Broken, also one that is yet to come. What failed syncs lost stays lost.
func (d *Disk) Repair() { d.mend(Broken) }

func (d *Disk) mend(kind Kind) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault == kind {
		d.failAt, d.fault, d.failing = 0, "", false
	}
}

// Stalled says whether the disk takes no writes for now. It is a note for whoever drives the member: operations do not wait.
func (d *Disk) Stalled() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stalled
}

// SetStalled makes the disk stall or go on.
func (d *Disk) SetStalled(stalled bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stalled = stalled
}

// Crash takes the power away, ends d and returns the disk as it is afterwards: with everything that was synced and a random part
// of what was not. Faults and stalls stay; CrashAt is taken back. A disk is ended once. Whoever ends it while the member is well
// closes the engine with CloseDirty before, which changes nothing of what is durable; an engine that fails is never closed whole.
func (d *Disk) Crash() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.root == nil {
		return d.next(nil)
	}
	c := crash{rng: d.rng, ordered: d.cfg.Ordered, done: map[*node]*node{}, percent: []int{0, 25, 50, 75, 100}[d.rng.IntN(5)]}
	return d.next(c.node(d.root))
}

// Kill ends d as the end of the process does, and returns the disk that the next process finds: with everything that was
// written, durable or not.
func (d *Disk) Kill() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.next(d.root)
}

func (d *Disk) next(root *node) *Disk {
	if root == nil {
		panic("BUG: disk: Crash or Kill of a disk that one of them has ended already")
	}
	d.dead, d.root = true, nil // whoever still has files open shall not keep the others
	return &Disk{
		OnOp: d.OnOp, rng: d.rng, cfg: d.cfg, root: root, locks: map[string]bool{}, ops: d.ops,
		failAt: d.failAt, writes: d.writes, fault: d.fault, failing: d.failing, stalled: d.stalled,
	}
}

// operation names one change for begin.
type operation struct {
	name   string // as OnOp has it
	path   string
	bytes  int
	space  bool // needs space
	counts bool // is a write or sync, as FailAfter counts
}

// begin counts an operation and says whether it takes place. The caller holds d.mu; it is let go while OnOp runs.
func (d *Disk) begin(op operation) error {
	if d.dead {
		d.crashAt = 0 // what was in flight then is over
		return ErrPowerLost
	}
	d.ops++
	if op.counts {
		d.writes++
	}
	if d.crashAt > 0 && d.ops >= d.crashAt {
		d.dead = true
	}
	if d.failAt > 0 && d.writes >= d.failAt {
		d.failing = true
	}
	var err error
	switch {
	case d.dead:
		err = ErrPowerLost
	case d.failing && d.fault == Broken:
		err = fmt.Errorf("disk: %s %s: %w", op.name, op.path, syscall.EIO)
	case d.failing && d.fault == NoSpace && op.space:
		err = fmt.Errorf("disk: %s %s: %w", op.name, op.path, syscall.ENOSPC)
	}
	d.tell(op, err)
	return err
}

// tell calls OnOp without d.mu, so that it may ask the disk.
func (d *Disk) tell(op operation, err error) {
	if d.OnOp != nil {
		name := op.name
		if err != nil {
			name += " failed"
		}
		d.mu.Unlock()
		d.OnOp(name, op.path, op.bytes)
		d.mu.Lock()
	}
}

// inFlight says whether the operation that err refused was under way when the power went, so that Crash decides about it.
func (d *Disk) inFlight(err error) bool { return err == ErrPowerLost && d.ops == d.crashAt }
