package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/snapshot"
)

// content is what the store of a test holds at an index: three files, one larger than a chunk, one empty.
func content(index uint64) map[string][]byte {
	return map[string][]byte{
		"000001.sst": bytes.Repeat([]byte{byte(index), 2, 3, 5, 7}, 200_000),
		"CURRENT":    fmt.Appendf(nil, "index %d", index),
		"empty":      nil,
	}
}

func write(t *testing.T, files vfs.FS, dir string, all map[string][]byte) {
	t.Helper()
	require.NoError(t, files.MkdirAll(dir, 0o700))
	for name, b := range all {
		f, err := files.Create(files.PathJoin(dir, name), "test")
		require.NoError(t, err)
		_, err = f.Write(b)
		require.NoError(t, err)
		require.NoError(t, errors.Join(f.Sync(), f.Close()))
	}
	sync(t, files, dir)
}

func sync(t *testing.T, files vfs.FS, dir string) {
	t.Helper()
	d, err := files.OpenDir(dir)
	require.NoError(t, err)
	require.NoError(t, errors.Join(d.Sync(), d.Close()))
}

func read(t *testing.T, files vfs.FS, dir string) map[string][]byte {
	t.Helper()
	names, err := files.List(dir)
	require.NoError(t, err)
	out := map[string][]byte{}
	for _, name := range names {
		f, err := files.Open(files.PathJoin(dir, name))
		require.NoError(t, err)
		b, err := io.ReadAll(f)
		require.NoError(t, errors.Join(err, f.Close()))
		if len(b) == 0 {
			b = nil
		}
		out[name] = b
	}
	return out
}

// sender is a depot whose store moves on by one with every checkpoint.
type sender struct {
	*snapshot.Depot
	files vfs.FS
	clock *clock.Manual
	index uint64
	group []uint64 // who belongs to it
}

func newSender(t *testing.T) *sender {
	s := &sender{files: vfs.NewMem(), clock: clock.NewManual(time.Unix(1e9, 0)), index: 100, group: []uint64{7}}
	var err error
	s.Depot, err = snapshot.New(snapshot.Options{FS: s.files, Dir: "data", Clock: s.clock, Checkpoint: func(dir string) (*raftpb.SnapshotMetadata, error) {
		write(t, s.files, dir, content(s.index))
		return &raftpb.SnapshotMetadata{Index: proto.Uint64(s.index), Term: proto.Uint64(3), ConfState: &raftpb.ConfState{Voters: s.group[:1], Learners: s.group[1:]}}, nil
	}})
	require.NoError(t, err)
	return s
}

// fetch is the network: what Serve writes.
func (s *sender) fetch(_ context.Context, name, file string, from int64) (io.ReadCloser, error) {
	var b bytes.Buffer
	if err := s.Serve(&b, name, file, from); err != nil {
		return nil, err
	}
	return io.NopCloser(&b), nil
}

func newReceiver(t *testing.T, files vfs.FS) *snapshot.Depot {
	d, err := snapshot.New(snapshot.Options{FS: files, Dir: "data"})
	require.NoError(t, err)
	return d
}

// TestWholeWay takes a snapshot over and puts it in the place of the store.
func TestWholeWay(t *testing.T) {
	s := newSender(t)
	manifest, meta, err := s.Take(50, 0)
	require.NoError(t, err)
	files := vfs.NewMem()
	write(t, files, "data/store", map[string][]byte{"old": []byte("old")})
	d := newReceiver(t, files)
	require.Error(t, d.Install(meta), "before it was received")
	require.NoError(t, d.Receive(t.Context(), manifest, s.fetch))
	m, err := snapshot.Pending(files, "data")
	require.NoError(t, err)
	require.Nil(t, m)
	require.NoError(t, d.Install(meta))
	m, err = snapshot.Pending(files, "data")
	require.NoError(t, err)
	require.EqualValues(t, 100, m.Index)
	require.EqualValues(t, 1_000_000+9, m.Bytes())
	require.NoError(t, snapshot.Swap(files, "data", "data/store"))
	require.Equal(t, content(100), read(t, files, "data/store"))
	m, err = snapshot.Pending(files, "data")
	require.NoError(t, err)
	require.Nil(t, m)
	names, err := files.List("data")
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"incoming", "store"}, names)
}

// TestNewcomer: a checkpoint from before a member joined is of no use to it, and others go on with theirs.
func TestNewcomer(t *testing.T) {
	s := newSender(t)
	first, _, err := s.Take(50, 7)
	require.NoError(t, err)
	s.index, s.group = 101, []uint64{7, 8}
	same, _, err := s.Take(50, 7)
	require.NoError(t, err)
	require.Equal(t, first, same)
	_, meta, err := s.Take(50, 8)
	require.NoError(t, err)
	require.EqualValues(t, 101, meta.GetIndex())
	require.Equal(t, []uint64{8}, meta.GetConfState().GetLearners())
	again, _, err := s.Take(50, 9)
	require.NoError(t, err)
	second, _, err := s.Take(50, 8)
	require.NoError(t, err)
	require.Equal(t, second, again, "nothing was applied since: there is none that has it")
	require.NoError(t, s.Serve(io.Discard, "0000000000000064-0000000000000003", "CURRENT", 0), "who fetches the first goes on")
}

// TestKept checks which checkpoints are made and kept.
func TestKept(t *testing.T) {
	s := newSender(t)
	first, _, err := s.Take(50, 0)
	require.NoError(t, err)
	s.index = 200
	same, meta, err := s.Take(100, 0)
	require.NoError(t, err)
	require.Equal(t, first, same, "one that is new enough is used again")
	require.EqualValues(t, 100, meta.GetIndex())
	_, meta, err = s.Take(101, 0)
	require.NoError(t, err)
	require.EqualValues(t, 200, meta.GetIndex())
	s.index = 300
	_, _, err = s.Take(201, 0)
	require.NoError(t, err)
	require.ErrorIs(t, s.Serve(io.Discard, "0000000000000064-0000000000000003", "CURRENT", 0), fs.ErrNotExist, "the oldest of three")
	require.NoError(t, s.Serve(io.Discard, "00000000000000c8-0000000000000003", "CURRENT", 0))
	s.clock.Advance(11 * time.Minute)
	s.Expire()
	require.ErrorIs(t, s.Serve(io.Discard, "00000000000000c8-0000000000000003", "CURRENT", 0), fs.ErrNotExist)
	names, err := s.files.List("data/snapshots")
	require.NoError(t, err)
	require.Empty(t, names)
	for _, bad := range []struct {
		file string
		from int64
	}{{"../store/CURRENT", 0}, {"CURRENT", -1}, {"CURRENT", 1000}, {"none", 0}} {
		_, _, err = s.Take(300, 0)
		require.NoError(t, err)
		require.ErrorIs(t, s.Serve(io.Discard, "000000000000012c-0000000000000003", bad.file, bad.from), fs.ErrNotExist)
	}
}

// broken ends the network after some bytes in all.
type broken struct {
	s     *sender
	left  int
	asked []string
}

func (b *broken) fetch(ctx context.Context, name, file string, from int64) (io.ReadCloser, error) {
	b.asked = append(b.asked, fmt.Sprintf("%s@%d", file, from))
	body, err := b.s.fetch(ctx, name, file, from)
	if err != nil {
		return nil, err
	}
	all, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	if len(all) > b.left {
		all = all[:b.left]
	}
	b.left -= len(all)
	return io.NopCloser(bytes.NewReader(all)), nil
}

// TestResume breaks the connection again and again, and restarts the receiver between: what has arrived is not sent again.
func TestResume(t *testing.T) {
	s := newSender(t)
	manifest, meta, err := s.Take(1, 0)
	require.NoError(t, err)
	files := vfs.NewMem()
	var asked []string
	for tries := 0; ; tries++ {
		require.Less(t, tries, 10)
		b := &broken{s: s, left: 300_000}
		err := newReceiver(t, files).Receive(t.Context(), manifest, b.fetch)
		asked = append(asked, b.asked...)
		if err == nil {
			break
		}
		require.ErrorContains(t, err, "the connection broke")
	}
	require.Equal(t, []string{
		"000001.sst@0", "000001.sst@262144", "000001.sst@524288", "000001.sst@786432", "CURRENT@0", "empty@0",
	}, asked)
	d := newReceiver(t, files)
	require.NoError(t, d.Receive(t.Context(), manifest, nil), "nothing is missing")
	require.NoError(t, d.Install(meta))
	require.NoError(t, snapshot.Swap(files, "data", "data/store"))
	require.Equal(t, content(100), read(t, files, "data/store"))
}

// TestResumeAtAnotherMember begins a download at one member and ends it at another, whose checkpoint of the same entry has other files under the same
// name. Nothing of the first one may be left.
func TestResumeAtAnotherMember(t *testing.T) {
	first, second, files := newSender(t), newSender(t), vfs.NewMem()
	var err error
	first.Depot, err = snapshot.New(snapshot.Options{FS: first.files, Dir: "data", Clock: first.clock, Checkpoint: func(dir string) (*raftpb.SnapshotMetadata, error) {
		write(t, first.files, dir, map[string][]byte{"000001.sst": []byte("another"), "marker.000009": nil, "z": []byte("z")})
		return &raftpb.SnapshotMetadata{Index: proto.Uint64(100), Term: proto.Uint64(3)}, nil
	}})
	require.NoError(t, err)
	one, _, err := first.Take(50, 0)
	require.NoError(t, err)
	two, meta, err := second.Take(50, 0)
	require.NoError(t, err)
	d := newReceiver(t, files)
	require.Error(t, d.Receive(t.Context(), one, func(ctx context.Context, name, file string, from int64) (io.ReadCloser, error) {
		if file == "z" {
			return nil, errors.New("the connection broke")
		}
		return first.fetch(ctx, name, file, from)
	}))
	for err = d.Receive(t.Context(), two, second.fetch); err != nil; err = d.Receive(t.Context(), two, second.fetch) {
		require.ErrorContains(t, err, "000001.sst arrived with") // what was begun of the other one's file is of no use
	}
	require.NoError(t, d.Install(meta))
	require.NoError(t, snapshot.Swap(files, "data", "data/store"))
	require.Equal(t, content(100), read(t, files, "data/store"))
}

// TestOldIsRemoved checks that a start removes what was received and is older than the store.
func TestOldIsRemoved(t *testing.T) {
	s := newSender(t)
	manifest, _, err := s.Take(1, 0)
	require.NoError(t, err)
	files := vfs.NewMem()
	require.NoError(t, newReceiver(t, files).Receive(t.Context(), manifest, s.fetch))
	for _, c := range []struct {
		applied uint64
		left    int
	}{{99, 1}, {100, 0}} {
		_, err := snapshot.New(snapshot.Options{FS: files, Dir: "data", Applied: ids.Index(c.applied)})
		require.NoError(t, err)
		names, err := files.List("data/incoming")
		require.NoError(t, err)
		require.Len(t, names, c.left)
	}
}

// TestNewerReplacesOlder checks that what was received of another snapshot goes.
func TestNewerReplacesOlder(t *testing.T) {
	s := newSender(t)
	older, _, err := s.Take(1, 0)
	require.NoError(t, err)
	files := vfs.NewMem()
	d := newReceiver(t, files)
	require.Error(t, d.Receive(t.Context(), older, (&broken{s: s, left: 500_000}).fetch))
	s.index = 200
	newer, _, err := s.Take(150, 0)
	require.NoError(t, err)
	require.NoError(t, d.Receive(t.Context(), newer, s.fetch))
	names, err := files.List("data/incoming")
	require.NoError(t, err)
	require.Equal(t, []string{"00000000000000c8-0000000000000003"}, names)
}

// TestNewerLeavesWhole checks that a snapshot that was received whole can be installed although others come in meanwhile, and that
// they do not pile up.
func TestNewerLeavesWhole(t *testing.T) {
	s := newSender(t)
	first, meta, err := s.Take(1, 0)
	require.NoError(t, err)
	files := vfs.NewMem()
	d := newReceiver(t, files)
	require.NoError(t, d.Receive(t.Context(), first, s.fetch))
	s.index = 200
	second, _, err := s.Take(150, 0)
	require.NoError(t, err)
	require.Error(t, d.Receive(t.Context(), second, (&broken{s: s, left: 500_000}).fetch))
	require.NoError(t, d.Receive(t.Context(), second, s.fetch))
	require.NoError(t, d.Install(meta))
	m, err := snapshot.Pending(files, "data")
	require.NoError(t, err)
	require.EqualValues(t, 100, m.Index)
	for s.index = 300; s.index < 1000; s.index += 100 {
		next, _, err := s.Take(ids.Index(s.index), 0)
		require.NoError(t, err)
		require.NoError(t, d.Receive(t.Context(), next, s.fetch))
	}
	names, err := files.List("data/incoming")
	require.NoError(t, err)
	require.LessOrEqual(t, len(names), 3)
}

// TestDamage changes bytes on the way and on the disk of the receiver.
func TestDamage(t *testing.T) {
	s := newSender(t)
	manifest, _, err := s.Take(1, 0)
	require.NoError(t, err)
	flip := func(at int) snapshot.Fetch {
		return func(ctx context.Context, name, file string, from int64) (io.ReadCloser, error) {
			body, err := s.fetch(ctx, name, file, from)
			if err != nil {
				return nil, err
			}
			b, err := io.ReadAll(body)
			b[at] ^= 1
			return io.NopCloser(bytes.NewReader(b)), err
		}
	}
	files := vfs.NewMem()
	d := newReceiver(t, files)
	require.ErrorContains(t, d.Receive(t.Context(), manifest, flip(1000)), "it changed on the way")
	require.ErrorContains(t, d.Receive(t.Context(), manifest, flip(0)), "out of step")
	// A file of the right size with a wrong byte, as after a disk has lied, is fetched again.
	wrong := content(100)
	wrong["000001.sst"][77] ^= 1
	write(t, files, "data/incoming/0000000000000064-0000000000000003/store", wrong)
	require.NoError(t, d.Receive(t.Context(), manifest, s.fetch))
	require.Equal(t, content(100), read(t, files, "data/incoming/0000000000000064-0000000000000003/store"))
	for _, bad := range []string{
		``, `{}`, `{"name":"../../etc","index":1,"term":1,"files":[{"name":"a"}]}`,
		`{"name":"0000000000000001-0000000000000001","index":1,"term":1,"files":[{"name":"../x"}]}`,
		`{"name":"0000000000000001-0000000000000001","index":1,"term":1,"files":[{"name":"x","size":-1}]}`,
		`{"name":"0000000000000001-0000000000000001","index":1,"term":1,"files":[]}`,
	} {
		require.Error(t, d.Receive(t.Context(), []byte(bad), s.fetch), bad)
	}
}

// crashAt ends the world at the n-th change of the file system: from then on every change fails.
type crashAt struct {
	vfs.FS
	left *int
}

var errCrash = errors.New("the power is gone")

func (c crashAt) spend() error {
	if *c.left--; *c.left < 0 {
		return errCrash
	}
	return nil
}

func (c crashAt) Rename(from, to string) error {
	if err := c.spend(); err != nil {
		return err
	}
	return c.FS.Rename(from, to)
}

func (c crashAt) Remove(name string) error {
	if err := c.spend(); err != nil {
		return err
	}
	return c.FS.Remove(name)
}

func (c crashAt) RemoveAll(name string) error {
	if err := c.spend(); err != nil {
		return err
	}
	return c.FS.RemoveAll(name)
}

func (c crashAt) OpenDir(name string) (vfs.File, error) {
	if err := c.spend(); err != nil {
		return nil, err
	}
	return c.FS.OpenDir(name)
}

// TestInstallSurvivesCrashes takes the power at every step of an install, with and without what was not synced: the next start
// carries it out, and whether it does never depends on half of it.
func TestInstallSurvivesCrashes(t *testing.T) {
	s := newSender(t)
	manifest, meta, err := s.Take(1, 0)
	require.NoError(t, err)
	for step := 0; ; step++ {
		mem := vfs.NewCrashableMem()
		write(t, mem, "data/store", map[string][]byte{"old": []byte("old")})
		sync(t, mem, "data")
		sync(t, mem, "") // the data directory itself is durable before anything is received
		d := newReceiver(t, mem)
		require.NoError(t, d.Receive(t.Context(), manifest, s.fetch))
		left := step
		files := crashAt{mem, &left}
		d, err = snapshot.New(snapshot.Options{FS: files, Dir: "data"})
		if err == nil {
			err = d.Install(meta)
		}
		if err == nil {
			err = snapshot.Swap(files, "data", "data/store")
		}
		after := mem.CrashClone(vfs.CrashCloneCfg{})
		m, pending := snapshot.Pending(after, "data")
		require.NoError(t, pending)
		if m != nil {
			require.NoError(t, snapshot.Swap(after, "data", "data/store"))
			require.Equal(t, content(100), read(t, after, "data/store"), "step %d", step)
		} else {
			got := read(t, after, "data/store")
			if _, old := got["old"]; !old {
				require.Equal(t, content(100), got, "step %d", step)
			}
		}
		if err == nil {
			require.Greater(t, step, 8, "the test took no power")
			return
		}
		require.ErrorIs(t, err, errCrash)
	}
}

// killed is the file system of a process that is killed before it first syncs a file.
type killed struct{ vfs.FS }

func (k killed) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := k.FS.OpenReadWrite(name, c, o...)
	return unsynced{f}, err
}

func (killed) Remove(string) error { return errCrash }

type unsynced struct{ vfs.File }

func (unsynced) Sync() error { return errCrash }

// TestWholeAndNotSynced kills a process that has received files whole and has not synced them. The next one finds them whole; what it
// installs is durable.
func TestWholeAndNotSynced(t *testing.T) {
	s := newSender(t)
	manifest, meta, err := s.Take(1, 0)
	require.NoError(t, err)
	mem := vfs.NewCrashableMem()
	require.NoError(t, mem.MkdirAll("data", 0o700))
	sync(t, mem, "")
	for range content(100) {
		d, err := snapshot.New(snapshot.Options{FS: killed{mem}, Dir: "data"})
		require.NoError(t, err)
		require.ErrorIs(t, d.Receive(t.Context(), manifest, s.fetch), errCrash)
	}
	d := newReceiver(t, mem)
	require.NoError(t, d.Receive(t.Context(), manifest, s.fetch))
	require.NoError(t, d.Install(meta))
	after := mem.CrashClone(vfs.CrashCloneCfg{})
	m, err := snapshot.Pending(after, "data")
	require.NoError(t, err)
	require.NotNil(t, m)
	require.NoError(t, snapshot.Swap(after, "data", "data/store"))
	require.Equal(t, content(100), read(t, after, "data/store"))
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"name":"0000000000000001-0000000000000001","index":1,"term":1,"files":[{"name":"x","size":3,"crc32c":7}]}`), []byte{0, 0, 0, 3, 1, 2, 3, 4, 5, 6, 7})
	f.Fuzz(func(t *testing.T, manifest, body []byte) {
		d, err := snapshot.New(snapshot.Options{FS: vfs.NewMem(), Dir: "data"})
		require.NoError(t, err)
		_ = d.Receive(t.Context(), manifest, func(context.Context, string, string, int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(body)), nil
		})
	})
}
