//go:build linux

package etcdwal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	. "quorate.dev/quorate/internal/etcdwal"
)

func entry(index, term uint64, data string) *raftpb.Entry {
	return &raftpb.Entry{Index: proto.Uint64(index), Term: proto.Uint64(term), Type: raftpb.EntryNormal.Enum(), Data: []byte(data)}
}

func state(term, vote, commit uint64) *raftpb.HardState {
	return &raftpb.HardState{Term: proto.Uint64(term), Vote: proto.Uint64(vote), Commit: proto.Uint64(commit)}
}

// write makes a log in a new directory.
func write(t testing.TB, fill func(*Writer)) string {
	t.Helper()
	dir := t.TempDir()
	w, err := Create(dir, 0xa1, 0xc1)
	require.NoError(t, err)
	fill(w)
	require.NoError(t, w.Close())
	return dir
}

// read gives what a log holds after an index, as text.
func read(ctx context.Context, dir string, after uint64) (s *Survey, entries []string, err error) {
	l, err := Open(dir)
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if s, err = l.Survey(ctx); err != nil {
		return nil, nil, err
	}
	err = l.Entries(ctx, after, func(e *raftpb.Entry) error {
		entries = append(entries, fmt.Sprintf("%d@%d %s", e.GetIndex(), e.GetTerm(), e.GetData()))
		return nil
	})
	return s, entries, err
}

// some is a log of a few entries.
func some(w *Writer) {
	_ = w.Entries([]*raftpb.Entry{entry(1, 1, "one"), entry(2, 1, "two"), entry(3, 2, "three")})
	w.State(state(2, 7, 2))
	_ = w.Entries([]*raftpb.Entry{entry(4, 2, "four")})
}

func TestRoundTrip(t *testing.T) {
	dir := write(t, some)
	s, entries, err := read(t.Context(), dir, 0)
	require.NoError(t, err)
	require.Equal(t, []string{"1@1 one", "2@1 two", "3@2 three", "4@2 four"}, entries)
	require.Equal(t, []uint64{0xa1, 0xc1, 0, 4, 2, 2}, []uint64{s.Member, s.Cluster, s.Start, s.Last, s.LastTerm, s.State.GetCommit()})
	for index, want := range map[uint64]uint64{1: 1, 2: 1, 3: 2, 4: 2} {
		term, ok := s.Term(index)
		require.True(t, ok)
		require.Equal(t, want, term)
	}
	_, ok := s.Term(5)
	require.False(t, ok)
	_, entries, err = read(t.Context(), dir, 2)
	require.NoError(t, err)
	require.Equal(t, []string{"3@2 three", "4@2 four"}, entries)
	_, err = Create(dir, 1, 1)
	require.ErrorIs(t, err, fs.ErrExist)
}

// TestSegments fills several segments; the entries after an index are found without those before being there.
func TestSegments(t *testing.T) {
	const n, size = 190, 1 << 20
	dir := write(t, func(w *Writer) {
		for i := uint64(1); i <= n; i++ {
			require.NoError(t, w.Entries([]*raftpb.Entry{entry(i, 1, string(make([]byte, size)))}))
			if i%10 == 0 {
				w.State(state(1, 7, i))
			}
		}
	})
	names, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	require.NoError(t, err)
	require.Len(t, names, 4)
	count := func(after uint64) (count int) {
		l, err := Open(dir)
		require.NoError(t, err)
		require.NoError(t, l.Entries(t.Context(), after, func(*raftpb.Entry) error { count++; return nil }))
		return count
	}
	require.Equal(t, n, count(0))
	require.Equal(t, 10, count(n-10))
	require.NoError(t, os.Rename(names[0], names[0]+".gone"))
	require.Equal(t, 10, count(n-10))
	_, _, err = read(t.Context(), dir, 10)
	require.ErrorContains(t, err, "the entries from 11 on are needed: files are missing")
	require.NoError(t, os.Rename(names[2], names[2]+".gone"))
	_, err = Open(dir)
	require.ErrorContains(t, err, "it is segment 3 and the one before it is segment 1: a file is missing")
}

// raw appends records that Writer refuses to write: those of a follower whose leader changed.
func raw(t testing.TB, dir string, fill func(*Writer)) {
	t.Helper()
	other := write(t, fill)
	from, err := os.ReadFile(filepath.Join(other, "0000000000000000-0000000000000000.wal"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "0000000000000000-0000000000000000.wal"), from, 0o600))
}

// TestReplaced checks that the last entry at an index counts, and that a snapshot of a leader begins the log anew.
func TestReplaced(t *testing.T) {
	dir := write(t, some)
	raw(t, dir, func(w *Writer) {
		_ = w.Entries([]*raftpb.Entry{entry(1, 1, "a"), entry(2, 1, "b"), entry(3, 1, "c"), entry(4, 1, "d")})
		w.Replace(2)
		_ = w.Entries([]*raftpb.Entry{entry(3, 2, "C"), entry(4, 2, "D"), entry(5, 2, "E")})
		w.Replace(3)
		_ = w.Entries([]*raftpb.Entry{entry(4, 3, "dd")})
		w.State(state(3, 0, 4))
	})
	s, entries, err := read(t.Context(), dir, 0)
	require.NoError(t, err)
	require.Equal(t, []string{"1@1 a", "2@1 b", "3@2 C", "4@3 dd"}, entries)
	require.Equal(t, 2, s.Replaced)
	_, entries, err = read(t.Context(), dir, 3)
	require.NoError(t, err)
	require.Equal(t, []string{"4@3 dd"}, entries)

	raw(t, dir, func(w *Writer) {
		_ = w.Entries([]*raftpb.Entry{entry(1, 1, "a"), entry(2, 1, "b")})
		w.Snapshot(Snapshot{Index: 2, Term: 1}) // its own
		_ = w.Entries([]*raftpb.Entry{entry(3, 1, "c")})
		w.Snapshot(Snapshot{Index: 10, Term: 4}) // its leader's
		_ = w.Entries([]*raftpb.Entry{entry(11, 4, "k")})
		w.State(state(4, 0, 11))
	})
	s, entries, err = read(t.Context(), dir, 10)
	require.NoError(t, err)
	require.Equal(t, []string{"11@4 k"}, entries)
	require.Equal(t, []uint64{10, 11}, []uint64{s.Start, s.Last})
	require.Len(t, s.Snapshots, 3)
	_, _, err = read(t.Context(), dir, 2)
	require.ErrorContains(t, err, "the entries from 3 on are needed")
}

// segment is the used part of the segment of a small log.
func segment(t testing.TB, fill func(*Writer)) (path string, used []byte) {
	t.Helper()
	path = filepath.Join(write(t, fill), "0000000000000000-0000000000000000.wal")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return path, bytes.TrimRight(b, "\x00")
}

// TestTruncated cuts the file everywhere: what is read then is an error that names file and offset. Cut between two records that
// cannot be told, but for the commit index, and Short says that it may be.
func TestTruncated(t *testing.T) {
	path, used := segment(t, some)
	var damage *DamageError
	clean := 0
	for n := range len(used) {
		require.NoError(t, os.WriteFile(path, used[:n], 0o600))
		s, _, err := read(t.Context(), filepath.Dir(path), 0)
		if err == nil {
			clean++
			require.True(t, s.Short, "at %d", n)
			continue
		}
		require.ErrorAs(t, err, &damage, "at %d", n)
		require.Equal(t, path, damage.File)
	}
	require.Less(t, clean, 8, "only between records")
}

// TestFlipped changes every byte: that is an error, or nothing changes, because padding means nothing.
func TestFlipped(t *testing.T) {
	path, used := segment(t, some)
	for at := range used {
		b := bytes.Clone(used)
		b[at] ^= 0x55
		require.NoError(t, os.WriteFile(path, append(b, make([]byte, 512)...), 0o600))
		_, entries, err := read(t.Context(), filepath.Dir(path), 0)
		var damage *DamageError
		if err == nil {
			require.Equal(t, []string{"1@1 one", "2@1 two", "3@2 three", "4@2 four"}, entries, "a change at %d", at)
		} else {
			require.ErrorAs(t, err, &damage)
		}
	}
}

// TestTorn zeroes a sector of the last record, as a crash does: that one is left out, and said. In the middle it is damage.
func TestTorn(t *testing.T) {
	big := string(bytes.Repeat([]byte("x"), 3000))
	fill := func(w *Writer) {
		_ = w.Entries([]*raftpb.Entry{entry(1, 1, "one")})
		w.State(state(1, 0, 1))
		_ = w.Entries([]*raftpb.Entry{entry(2, 1, big)})
	}
	path, used := segment(t, fill)
	at := len(used)/512*512 - 1024
	b := append(bytes.Clone(used), make([]byte, 2048)...)
	clear(b[at : at+512])
	require.NoError(t, os.WriteFile(path, b, 0o600))
	s, entries, err := read(t.Context(), filepath.Dir(path), 0)
	require.NoError(t, err)
	require.Equal(t, []string{"1@1 one"}, entries)
	require.Equal(t, path, s.Torn.File)

	path, used = segment(t, func(w *Writer) { fill(w); w.State(state(1, 0, 2)) })
	b = append(bytes.Clone(used), make([]byte, 2048)...)
	clear(b[at : at+512])
	require.NoError(t, os.WriteFile(path, b, 0o600))
	s, _, err = read(t.Context(), filepath.Dir(path), 0)
	require.NoError(t, err, "nothing tells it from the case above")
	require.NotNil(t, s.Torn)
}

func TestLocked(t *testing.T) {
	dir := write(t, some)
	first, err := Open(dir)
	require.NoError(t, err)
	require.NoError(t, first.Lock())
	second, err := Open(dir)
	require.NoError(t, err)
	require.NoError(t, second.Lock(), "readers do not disturb each other")
	require.NoError(t, errors.Join(first.Close(), second.Close()))
	release := holdAsEtcd(t, first.Segments()[0])
	third, err := Open(dir)
	require.NoError(t, err)
	require.ErrorIs(t, third.Lock(), ErrLocked)
	release()
	require.NoError(t, third.Lock())
	require.NoError(t, third.Close())
}

func TestNothing(t *testing.T) {
	_, err := Open(t.TempDir())
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = Open(filepath.Join(t.TempDir(), "x"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestSnap(t *testing.T) {
	dir := t.TempDir()
	for index := uint64(5); index < 8; index++ {
		require.NoError(t, WriteSnap(dir, &raftpb.Snapshot{Data: []byte("tree"), Metadata: &raftpb.SnapshotMetadata{
			Index: proto.Uint64(index), Term: proto.Uint64(2), ConfState: &raftpb.ConfState{Voters: []uint64{1}}}}))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "0000000000000002-0000000000000009.snap.broken"), nil, 0o600))
	files, err := Snaps(dir)
	require.NoError(t, err)
	require.Len(t, files, 3)
	require.Equal(t, uint64(7), files[0].Index)
	snap, err := ReadSnap(files[0].Path)
	require.NoError(t, err)
	require.Equal(t, "tree", string(snap.GetData()))
	whole, err := os.ReadFile(files[0].Path)
	require.NoError(t, err)
	var damage *DamageError
	for at := range whole {
		b := bytes.Clone(whole)
		b[at] ^= 0x11
		require.NoError(t, os.WriteFile(files[0].Path, b, 0o600))
		_, err := ReadSnap(files[0].Path)
		require.ErrorAs(t, err, &damage, "a change at %d", at)
		require.NoError(t, os.WriteFile(files[0].Path, whole[:at], 0o600))
		_, err = ReadSnap(files[0].Path)
		require.ErrorAs(t, err, &damage, "cut at %d", at)
	}
}

// FuzzSegment reads arbitrary bytes as a segment: an error that names the file, or entries in order.
func FuzzSegment(f *testing.F) {
	_, used := segment(f, some)
	f.Add(used)
	f.Add(append(bytes.Clone(used), make([]byte, 100)...))
	dir := f.TempDir()
	path := filepath.Join(dir, "0000000000000000-0000000000000000.wal")
	f.Fuzz(func(t *testing.T, b []byte) {
		require.NoError(t, os.WriteFile(path, b, 0o600))
		s, entries, err := read(t.Context(), dir, 0)
		var damage *DamageError
		if err != nil {
			require.ErrorAs(t, err, &damage)
			return
		}
		require.Equal(t, int(s.Last-s.Start), len(entries))
	})
}

// FuzzSnap reads arbitrary bytes as a .snap file.
func FuzzSnap(f *testing.F) {
	dir := f.TempDir()
	require.NoError(f, WriteSnap(dir, &raftpb.Snapshot{Data: []byte("tree"), Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(7), Term: proto.Uint64(2)}}))
	files, err := Snaps(dir)
	require.NoError(f, err)
	b, err := os.ReadFile(files[0].Path)
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		require.NoError(t, os.WriteFile(files[0].Path, b, 0o600))
		if _, err := ReadSnap(files[0].Path); err != nil {
			require.ErrorContains(t, err, files[0].Path)
		}
	})
}
