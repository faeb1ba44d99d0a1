package transfer_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"go.etcd.io/raft/v3/raftpb"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
	. "quorate.dev/quorate/transfer"
	"quorate.dev/quorate/wal"
)

// The fixtures are the directories of the first of three members of a real etcd, killed while it wrote, and what it answered
// before (test/compat/transfer -run TestCluster -args -keep transfer/testdata).
var releases = []string{"etcd37", "etcd34"}

// unpack unpacks a fixture and returns the data directory.
func unpack(t testing.TB, name string) string {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Open(filepath.Join("testdata", name+".tar.gz"))
	require.NoError(t, err)
	defer f.Close()
	zipped, err := gzip.NewReader(f)
	require.NoError(t, err)
	for in := tar.NewReader(zipped); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return filepath.Join(dir, "m1")
		}
		require.NoError(t, err)
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			require.NoError(t, os.MkdirAll(path, 0o700))
			continue
		}
		b, err := io.ReadAll(in)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, bytes.TrimRight(b, "\x00"), 0o600))
		require.NoError(t, os.Truncate(path, int64(len(b)))) // the zeros take no room
	}
}

// answers are what the member said.
func answers(t testing.TB, name string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	require.NoError(t, err)
	var m map[string]string
	require.NoError(t, json.Unmarshal(b, &m))
	return m
}

// importDir imports a directory of etcd into one on a file system.
func importDir(t testing.TB, dir string, o Options) (*Report, error) {
	t.Helper()
	s, err := OpenDir(t.Context(), dir, "")
	if err != nil {
		return nil, err
	}
	r, err := Import(t.Context(), s, o)
	return r, errors.Join(err, s.Close())
}

// opened is a directory of ours, as a server opens it, with the whole log applied.
type opened struct {
	engine *storage.Engine
	replay *wal.Replay
	state  *state.Machine
}

func open(t testing.TB, files vfs.FS, dir string) opened {
	t.Helper()
	e, err := storage.Open(files.PathJoin(dir, "store"), storage.Options{FS: files})
	require.NoError(t, err)
	t.Cleanup(func() { _ = e.CloseDirty() })
	replay, err := wal.Read(files.PathJoin(dir, "wal"), wal.Options{FS: files}, e.Applied().Index)
	require.NoError(t, err)
	m, err := state.Open(e, state.Config{Member: replay.Metadata.Member, Cluster: replay.Metadata.Cluster})
	require.NoError(t, err)
	for _, entry := range replay.Entries {
		if entry.GetIndex() <= uint64(m.Applied().Index) {
			continue
		}
		c := command.Command{Kind: command.ConfChange, Body: entry.GetData()}
		if entry.GetType() == raftpb.EntryNormal {
			c, err = command.Decode(entry.GetData())
			require.NoError(t, err)
		}
		c.Index, c.Term = ids.Index(entry.GetIndex()), ids.Term(entry.GetTerm())
		_, err := m.Apply([]command.Command{c}, make([]command.Result, 1))
		require.NoError(t, err)
	}
	return opened{e, replay, m}
}

// holds compares an opened directory with what the member said.
func (o opened) holds(t testing.TB, said map[string]string) {
	t.Helper()
	require.Equal(t, said["cluster"], o.replay.Metadata.Cluster.String())
	v := o.state.View()
	require.Len(t, v.Members.Members(), 3)
	for _, m := range v.Members.Members() {
		require.Contains(t, said["members"], fmt.Sprintf("%q", m.Name))
		require.Contains(t, said["members"], m.PeerURLs[0])
		require.Contains(t, said["members"], m.ClientURLs[0])
	}
	require.Len(t, v.Members.ConfState().GetVoters(), 3)
	require.True(t, v.Auth.Enabled())
	leases := 0
	for question, answer := range said {
		var rev int64
		switch {
		case strings.HasPrefix(question, "lease "):
			leases++
		case strings.HasPrefix(question, "HashKV at "):
			_, err := fmt.Sscanf(question, "HashKV at %d", &rev)
			require.NoError(t, err)
			h, err := mvcc.HashKV(o.engine, ids.Revision(rev))
			require.NoError(t, err)
			require.Equal(t, answer, fmt.Sprintf("%d, compacted %d", h.Hash, h.Compacted), question)
		}
	}
	require.Equal(t, leases, v.Leases.Len())
}
