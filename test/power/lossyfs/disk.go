package lossyfs

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Kind is what an operation does to the disk.
type Kind uint8

// The kinds of operations.
const (
	Reads  Kind = 1 << iota // reads, and looks at names and attributes
	Writes                  // writes, truncations and reservations of space
	Names                   // creates, renames and removes
	Syncs                   // fsync and fdatasync, of files and directories
	All    = Reads | Writes | Names | Syncs
)

// Options are what is random about a disk.
type Options struct {
	Seed      uint64        // of everything random
	SyncDelay time.Duration // the longest that a sync or a synchronous write takes; 0: no time
}

// Loss is what a cut did to the changes that were not durable.
type Loss struct {
	Writes int // writes and truncations that are gone
	Names  int // changes of directories that are gone
	Torn   int // writes of which some sectors are there
	Kept   int // changes that are there all the same
}

// Any reports whether anything is gone.
func (l Loss) Any() bool { return l.Writes+l.Names+l.Torn > 0 }

// String is the loss in words.
func (l Loss) String() string {
	return fmt.Sprintf("%d writes and %d names lost, %d writes torn, %d changes kept by luck", l.Writes, l.Names, l.Torn, l.Kept)
}

var errPower = syscall.EIO

// Disk is one file system. Its methods may be called at any time, from any goroutine.
type Disk struct {
	dir    string
	delay  time.Duration
	server *fuse.Server
	mu     sync.Mutex
	rng    *rand.Rand
	state
	faults
}

// state is everything in the file system.
type state struct {
	root    *node
	nodes   map[uint64]*node // that the kernel knows
	handles map[uint64]*handle
	dirty   map[*node]bool // with changes that are not durable
	seq     uint64         // of the last change
	lastID  uint64         // of nodes and handles
	used    int64          // bytes
}

// faults are what is wrong with the disk.
type faults struct {
	off     bool
	epoch   int   // times that the power went
	asked   int   // changes and syncs that were asked for
	limit   int64 // bytes, 0 for none
	failing Kind
	failure syscall.Errno
	refused int // operations that ended with failure, or for want of space
	hanging Kind
	release chan struct{} // closed when the disk hangs no more
	waiting int           // operations that hang
}

// Mount makes an empty file system at dir, which must exist. It needs the right to mount and /dev/fuse.
func Mount(dir string, o Options) (*Disk, error) {
	if err := Usable(); err != nil {
		return nil, err
	}
	d := &Disk{dir: dir, delay: o.SyncDelay, rng: rand.New(rand.NewPCG(o.Seed, 0))}
	d.root = &node{id: fuse.FUSE_ROOT_ID, mode: syscall.S_IFDIR | 0o700, links: 1, lookups: 1, dir: newNames()}
	d.nodes, d.handles, d.dirty, d.lastID = map[uint64]*node{d.root.id: d.root}, map[uint64]*handle{}, map[*node]bool{}, d.root.id
	server, err := fuse.NewServer(&wire{fuse.NewDefaultRawFileSystem(), d}, dir, &fuse.MountOptions{
		Name: "lossyfs", FsName: source + strconv.Itoa(os.Getpid()), DirectMountStrict: true, MaxWrite: 512 << 10, DisableSplice: true, DisableXAttrs: true, DisableReadDirPlus: true,
	})
	if err != nil {
		return nil, fmt.Errorf("lossyfs: mount at %s: %w", dir, err)
	}
	d.server = server
	go server.Serve()
	if err := errors.Join(server.WaitMount(), keepToSelf()); err != nil {
		return nil, fmt.Errorf("lossyfs: mount at %s: %w", dir, errors.Join(err, d.Close()))
	}
	return d, nil
}

// Usable says why a Disk cannot be mounted here, if that is known beforehand.
func Usable() error {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("lossyfs: FUSE cannot be used here: %w", err)
	}
	defer f.Close()
	if os.Geteuid() != 0 {
		return errors.New("lossyfs: only root can mount a file system without help")
	}
	return nil
}

// source is what a mount is called in the list of mounts: so it can be told whose it is.
const source = "lossyfs-of-process-"

// Sweep takes away mounts whose process has ended without Close.
func Sweep() error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasPrefix(f[0], source) {
			continue
		}
		if _, err := os.Stat("/proc/" + strings.TrimPrefix(f[0], source)); errors.Is(err, fs.ErrNotExist) {
			_ = syscall.Unmount(f[1], syscall.MNT_FORCE) // whoever still waits for an answer waits no more
			if err := syscall.Unmount(f[1], syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
				errs = append(errs, fmt.Errorf("unmount %s: %w", f[1], err))
			}
		}
	}
	return errors.Join(errs...)
}

// keepToSelf sees to it that no child inherits the kernel's end: a child that uses the file system would keep it from ending
// with this process, and wait for it for ever.
func keepToSelf() error {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err != nil || to != "/dev/fuse" {
			continue
		}
		n, err := strconv.Atoi(fd.Name())
		if err != nil {
			return err
		}
		syscall.CloseOnExec(n)
	}
	return nil
}

// Dir is where the file system is mounted.
func (d *Disk) Dir() string { return d.dir }

// Close ends the file system and everything in it. Processes that use it get errors.
func (d *Disk) Close() error {
	d.PowerOff(0) // whoever hangs goes on
	if err := d.server.Unmount(); err != nil {
		return syscall.Unmount(d.dir, syscall.MNT_DETACH)
	}
	return nil
}

// PowerOff takes the power: operations fail from now on, also those that have begun, and what is not durable is lost. luck is the
// part of it, from 0 to 1, that may be there all the same, wholly or torn.
func (d *Disk) PowerOff(luck float64) (loss Loss) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return loss
	}
	d.off = true
	d.epoch++
	d.cutDirs(d.rng, luck, &loss)
	for n := range d.dirty {
		if n.file != nil {
			n.file.cut(d.rng, luck, &loss)
		}
	}
	clear(d.dirty)
	d.goOn()
	return loss
}

// PowerOn brings back what was durable. No process may have a file of the old days open: it would get errors.
func (d *Disk) PowerOn() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.off {
		return
	}
	d.off, d.used = false, 0
	clear(d.handles)
	reached := map[*node]bool{}
	d.restart(d.root, reached)
	for id, n := range d.nodes {
		if !reached[n] {
			delete(d.nodes, id)
		}
	}
}

// Cut is PowerOff and PowerOn.
func (d *Disk) Cut(luck float64) Loss {
	defer d.PowerOn()
	return d.PowerOff(luck)
}

// Hang makes operations of these kinds wait, until GoOn or PowerOff.
func (d *Disk) Hang(kinds Kind) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hanging = kinds; d.release == nil {
		d.release = make(chan struct{})
	}
}

// GoOn ends Hang.
func (d *Disk) GoOn() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.goOn()
}

func (d *Disk) goOn() {
	if d.hanging = 0; d.release != nil {
		close(d.release)
		d.release = nil
	}
}

// Hanging is how many operations wait because of Hang.
func (d *Disk) Hanging() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waiting
}

// Fail makes operations of these kinds fail with an error; without kinds none fails any more.
func (d *Disk) Fail(kinds Kind, with syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failing, d.failure = kinds, with
}

// Limit says how large the disk is, in bytes; 0: as large as memory. What is there already stays.
func (d *Disk) Limit(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limit = bytes
}

// Used is how much of the disk is in use, in bytes.
func (d *Disk) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used
}

// Refused is how many operations failed because of Fail or Limit.
func (d *Disk) Refused() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.refused
}

// Asked is how many changes and syncs were asked for so far.
func (d *Disk) Asked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

// begin is the gate of every operation: the disk is locked if and only if it returns OK.
func (d *Disk) begin(kind Kind) fuse.Status {
	d.mu.Lock()
	if kind != Reads {
		d.asked++
	}
	epoch := d.epoch
	for d.epoch == epoch && d.hanging&kind != 0 {
		release := d.release
		d.waiting++
		d.mu.Unlock()
		<-release
		d.mu.Lock()
		d.waiting--
	}
	switch {
	case d.off || d.epoch != epoch:
		d.mu.Unlock()
		return fuse.Status(errPower)
	case d.failing&kind != 0:
		defer d.mu.Unlock()
		d.refused++
		return fuse.Status(d.failure)
	}
	return fuse.OK
}

// spin lets the time of a sync pass, with the lock given up meanwhile.
func (d *Disk) spin() fuse.Status {
	if d.delay == 0 {
		return fuse.OK
	}
	epoch := d.epoch
	wait := time.NewTimer(time.Duration(d.rng.Int64N(int64(d.delay))))
	d.mu.Unlock()
	<-wait.C
	d.mu.Lock()
	if d.epoch != epoch {
		return fuse.Status(errPower)
	}
	return fuse.OK
}

func (d *Disk) next() uint64 {
	d.seq++
	return d.seq
}

// room reports whether a file may have this size, and takes the space.
func (d *Disk) room(n *node, size int64) bool {
	more := blocks(size) - n.file.space()
	if more <= 0 {
		return true
	}
	if d.limit > 0 && d.used+more > d.limit {
		d.refused++
		return false
	}
	d.used += more
	return true
}

// reclaim gives back the space of a file that nobody can reach any more.
func (d *Disk) reclaim(n *node) {
	if n.file != nil && n.links == 0 && n.opens == 0 {
		d.used -= n.file.space()
	}
}
