package etcdwal

import (
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// maxSnap bounds a .snap file, bytes. It holds the keys of the v2 API as JSON, which had to fit in memory several times over.
const maxSnap = 4 << 30

// SnapFile is the name of a .snap file.
type SnapFile struct {
	Path        string
	Term, Index uint64 // as the name says
}

// Snaps lists the .snap files of a directory "snap", the newest first.
func Snaps(dir string) ([]SnapFile, error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("etcdwal: %w", err)
	}
	var out []SnapFile
	for _, name := range names {
		s := SnapFile{Path: filepath.Join(dir, name.Name())}
		if parseName(name.Name(), ".snap", &s.Term, &s.Index) {
			out = append(out, s)
		}
	}
	slices.Reverse(out) // names sort by term and index
	return out, nil
}

// ReadSnap reads a .snap file. The snapshot's data are the keys of the v2 API as JSON. What is not whole gives a *DamageError.
func ReadSnap(path string) (*raftpb.Snapshot, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("etcdwal: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("etcdwal: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxSnap {
		return nil, &DamageError{File: path, Reason: fmt.Sprintf("it is no regular file of at most %d bytes", int64(maxSnap))}
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("etcdwal: read %s: %w", path, err)
	}
	snap, reason := decodeSnap(b)
	if reason != "" {
		return nil, &DamageError{File: path, Reason: reason}
	}
	return snap, nil
}

func decodeSnap(b []byte) (*raftpb.Snapshot, string) {
	var sum uint32
	var data []byte
	err := eachField(b, func(n protowire.Number, v uint64, d []byte) {
		switch n {
		case 1:
			sum = uint32(v)
		case 2:
			data = d
		}
	})
	switch {
	case len(b) == 0:
		return nil, "it is empty"
	case err != nil:
		return nil, err.Error()
	case len(data) == 0:
		return nil, "it holds no data"
	}
	if got := crc32.Checksum(data, castagnoli); got != sum {
		return nil, fmt.Sprintf("its checksum is %08x and its data give %08x", sum, got)
	}
	snap := &raftpb.Snapshot{}
	if err := proto.Unmarshal(data, snap); err != nil {
		return nil, fmt.Sprintf("the snapshot cannot be decoded: %v", err)
	}
	return snap, ""
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }
