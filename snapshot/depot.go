// Package snapshot keeps checkpoints of the store for members that are too far behind for the log, and takes those of others
// in, file by file, so that whatever has arrived need not be sent again.
//
// It is not the store (storage makes a checkpoint of itself) and it does not talk to other members (peer does). It does not
// decide when a snapshot is needed or accepted (raft does).
//
// Data passes two ways. Out: Take makes a checkpoint and its manifest, which names every file with size and checksum; Serve
// writes a file from any offset on as checksummed chunks. In: Receive asks for every file that is not whole yet and checks
// it; Install makes it durable that what was received takes the place of the store; Finish, at the next start, carries it
// out.
//
// Invariants: a file counts as received when its size and checksum are those of the manifest and it is durable; the manifest
// is written last, so a directory with a manifest is whole. An intended install is carried out before anything is opened,
// and every step of it may be repeated.
package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/internal/clock"
)

// Parts of a data directory that belong to this package.
const (
	keptDir     = "snapshots" // checkpoints for others, one directory each
	incomingDir = "incoming"  // what is being received, one directory each
	installDir  = "install"   // a received snapshot that takes the place of the store
	manifestTo  = "manifest.json"
	filesDir    = "store" // in incomingDir and installDir: the files, beside the manifest
	writes      = vfs.DiskWriteCategory("quorate-snapshot")
)

// Bounds of what is kept for others.
const (
	keptMost = 2                // checkpoints
	keptTime = 10 * time.Minute // one that nobody asks for any more is removed
)

// wholeMost is how many of the snapshots that were received whole stay when another one comes in. Whoever received one may be about to
// install it.
const wholeMost = 2

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Manifest describes a snapshot.
type Manifest struct {
	Name  string    `json:"name"` // of the snapshot, from index and term
	Index ids.Index `json:"index"`
	Term  ids.Term  `json:"term"`
	Files []File    `json:"files"`
}

// File is one file of a snapshot.
type File struct {
	Name string `json:"name"`
	Size int64  `json:"size"` // bytes
	Sum  uint32 `json:"crc32c"`
}

// Bytes is the size of all files.
func (m *Manifest) Bytes() int64 {
	n := int64(0)
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// Size is how many bytes the files of the snapshot have that an encoded manifest describes, 0 when it cannot be read.
func Size(manifest []byte) int64 {
	m, err := decodeManifest(manifest)
	if err != nil {
		return 0
	}
	return m.Bytes()
}

// nameOf names a snapshot.
func nameOf(index ids.Index, term ids.Term) string {
	return fmt.Sprintf("%016x-%016x", uint64(index), uint64(term))
}

// manifestBytes bounds an encoded manifest.
const manifestBytes = 16 << 20

// decodeManifest reads a manifest that somebody else has written and checks that it can do no harm.
func decodeManifest(b []byte) (*Manifest, error) {
	m := &Manifest{}
	if len(b) > manifestBytes {
		return nil, fmt.Errorf("snapshot: a manifest of %d bytes is larger than the %d that one may have", len(b), manifestBytes)
	}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("snapshot: the manifest cannot be read: %w", err)
	}
	if m.Name != nameOf(m.Index, m.Term) || m.Index == 0 || len(m.Files) == 0 {
		return nil, fmt.Errorf("snapshot: the manifest of %q at index %d and term %d with %d files is damaged", m.Name, m.Index, m.Term, len(m.Files))
	}
	for _, f := range m.Files {
		if !plain(f.Name) || f.Size < 0 {
			return nil, fmt.Errorf("snapshot: the manifest names a file %q of %d bytes: it is damaged", f.Name, f.Size)
		}
	}
	return m, nil
}

// plain reports whether a name is that of a file in its own directory.
func plain(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\\\x00")
}

// Options configures a Depot. Fields are required unless they say otherwise.
type Options struct {
	FS  vfs.FS // nil: the operating system's
	Dir string // the data directory
	// Checkpoint makes dir a copy of the store that shares its files, and says what it covers.
	Checkpoint func(dir string) (*raftpb.SnapshotMetadata, error)
	Applied    ids.Index   // of the store: what was received up to there is of no use any more
	Clock      clock.Clock // nil: the machine's clock
}

// Depot keeps and receives snapshots. All methods are safe for concurrent use.
type Depot struct {
	o Options

	mu     sync.Mutex
	kept   []*kept // oldest first
	making sync.Mutex
	taking sync.Mutex // held while a snapshot is received
	whole  []string   // names of the last snapshots that were received whole; taking guards it

	announced []string // see canary.SnapshotGone
}

// kept is a checkpoint for others.
type kept struct {
	manifest Manifest
	encoded  []byte
	meta     *raftpb.SnapshotMetadata
	used     time.Time
	readers  int
}

// New returns a depot, and removes the checkpoints that an earlier process has left. What was received stays, if it is newer
// than the store.
func New(o Options) (*Depot, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Clock == nil {
		o.Clock = clock.Real()
	}
	d := &Depot{o: o}
	if err := o.FS.RemoveAll(d.path(keptDir)); err != nil {
		return nil, fmt.Errorf("snapshot: remove old checkpoints: %w", err)
	}
	newer := func(name string) bool {
		var index, term uint64
		_, err := fmt.Sscanf(name, "%016x-%016x", &index, &term)
		return err == nil && ids.Index(index) > o.Applied
	}
	if err := d.clear(newer); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *Depot) path(parts ...string) string {
	return d.o.FS.PathJoin(append([]string{d.o.Dir}, parts...)...)
}

// Take returns the manifest, encoded, and the position of a snapshot that covers at least the entry least, which the member to will
// ask for soon. It makes a checkpoint if none of those it keeps will do. One from before the member joined does not: raft there takes
// no snapshot of a group that it does not belong to. 0 stands for whoever asks.
func (d *Depot) Take(least ids.Index, to ids.MemberID) ([]byte, *raftpb.SnapshotMetadata, error) {
	d.making.Lock() // who comes meanwhile gets the same one
	defer d.making.Unlock()
	d.Expire()
	if k := d.newest(least, to); k != nil {
		return k.encoded, k.meta, nil
	}
	k, err := d.make()
	if err != nil {
		return nil, nil, err
	}
	if k != d.newest(0, 0) {
		d.mu.Lock()
		d.kept = append(d.kept, k)
		d.mu.Unlock()
	}
	d.Expire()
	return k.encoded, k.meta, nil
}

func (d *Depot) newest(least ids.Index, to ids.MemberID) *kept {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.kept); n > 0 && d.kept[n-1].manifest.Index >= least && (to == 0 || d.kept[n-1].names(to) || canary.On(canary.SnapshotOld)) {
		d.kept[n-1].used = d.o.Clock.Now()
		return d.kept[n-1]
	}
	return nil
}

// names reports whether a member belongs to the group as the snapshot has it.
func (k *kept) names(id ids.MemberID) bool {
	group := k.meta.GetConfState()
	return slices.Contains(group.GetVoters(), uint64(id)) || slices.Contains(group.GetLearners(), uint64(id))
}

// make makes a checkpoint and its manifest. Where nothing was applied since the newest that is kept, it is that one.
func (d *Depot) make() (*kept, error) {
	const making = "making"
	dir := d.path(keptDir, making)
	if err := errors.Join(d.o.FS.RemoveAll(dir), d.o.FS.MkdirAll(d.path(keptDir), 0o700)); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	meta, err := d.o.Checkpoint(dir)
	if err != nil {
		return nil, fmt.Errorf("snapshot: make a checkpoint of the store: %w", err)
	}
	if canary.On(canary.SnapshotShort) {
		*meta.Index++
	}
	k := &kept{meta: meta, used: d.o.Clock.Now()}
	k.manifest.Index, k.manifest.Term = ids.Index(meta.GetIndex()), ids.Term(meta.GetTerm())
	k.manifest.Name = nameOf(k.manifest.Index, k.manifest.Term)
	if same := d.newest(k.manifest.Index, 0); same != nil { // somebody may be reading it
		return same, d.o.FS.RemoveAll(dir)
	}
	if k.manifest.Files, err = d.files(dir); err != nil {
		return nil, err
	}
	if k.encoded, err = json.Marshal(&k.manifest); err != nil {
		return nil, fmt.Errorf("snapshot: encode the manifest: %w", err)
	}
	to := d.path(keptDir, k.manifest.Name)
	if err := errors.Join(d.o.FS.RemoveAll(to), d.o.FS.Rename(dir, to)); err != nil {
		return nil, fmt.Errorf("snapshot: name the checkpoint: %w", err)
	}
	return k, nil
}

// files lists the files of a checkpoint with their checksums.
func (d *Depot) files(dir string) ([]File, error) {
	names, err := d.o.FS.List(dir)
	if err != nil {
		return nil, fmt.Errorf("snapshot: list %s: %w", dir, err)
	}
	slices.Sort(names)
	var out []File
	for _, name := range names {
		if name == "LOCK" {
			continue
		}
		f := File{Name: name}
		if f.Size, f.Sum, err = d.sum(d.o.FS.PathJoin(dir, name)); err != nil {
			return nil, fmt.Errorf("snapshot: read %s: %w", name, err)
		}
		out = append(out, f)
	}
	return out, nil
}

// sum returns the size and checksum of a file.
func (d *Depot) sum(path string) (int64, uint32, error) {
	f, err := d.o.FS.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return 0, 0, err
	}
	h := crc32.New(castagnoli)
	n, err := io.Copy(h, f)
	return n, h.Sum32(), errors.Join(err, f.Close())
}

// Expire removes checkpoints that nobody has asked for lately, and those beyond what is kept.
func (d *Depot) Expire() {
	now := d.o.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	beyond := len(d.kept) - keptMost
	d.kept = slices.DeleteFunc(d.kept, func(k *kept) bool {
		old := now.Sub(k.used) >= keptTime || beyond > 0
		if k.readers > 0 || !old {
			return false
		}
		beyond--
		// What cannot be removed now is removed by the next start.
		_ = d.o.FS.RemoveAll(d.path(keptDir, k.manifest.Name))
		return true
	})
}

// Serve writes a file of a kept snapshot from an offset on, as chunks. Errors that wrap fs.ErrNotExist say that there is no
// such snapshot or file any more.
func (d *Depot) Serve(w io.Writer, name, file string, from int64) error {
	done, err := d.hold(name, file, from)
	if err != nil {
		return err
	}
	defer done()
	f, err := d.o.FS.Open(d.path(keptDir, name, file), vfs.SequentialReadsOption)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	err = writeChunks(w, io.NewSectionReader(f, from, 1<<62))
	return errors.Join(err, f.Close())
}

// hold keeps a snapshot from being removed until done is called.
func (d *Depot) hold(name, file string, from int64) (done func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := slices.IndexFunc(d.kept, func(k *kept) bool { return k.manifest.Name == name })
	if at < 0 {
		return nil, fmt.Errorf("snapshot: there is no snapshot %q any more: %w", name, fs.ErrNotExist)
	}
	k := d.kept[at]
	i := slices.IndexFunc(k.manifest.Files, func(f File) bool { return f.Name == file })
	if i < 0 || from < 0 || from > k.manifest.Files[i].Size {
		return nil, fmt.Errorf("snapshot: snapshot %s has no byte %d of a file %q: %w", name, from, file, fs.ErrNotExist)
	}
	k.readers++
	k.used = d.o.Clock.Now()
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		k.readers--
		k.used = d.o.Clock.Now()
	}, nil
}
