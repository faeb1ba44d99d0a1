package offline

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/etcddb"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/restore"
	"quorate.dev/quorate/storage"
)

// source is where keys lie: a file of etcd or a data directory of ours.
type source interface {
	// walk visits what etcd's file holds, or would hold.
	walk(etcddb.Visitor) error
	// hash is HashKV.
	hash(upper ids.Revision) (mvcc.Hash, error)
	size() int64 // bytes
	Close() error
}

// dbName is the file inside a data directory of etcd.
var dbName = filepath.Join("member", "snap", "db")

// openSource opens a file or directory for reading, waiting for whoever writes to it. A missing one is an error of os.Stat, as
// etcdutl has it.
func (t *tool) openSource(ctx context.Context, path string) (source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		if _, err := os.Stat(filepath.Join(path, restore.StoreName)); err == nil {
			return openStore(path)
		}
		if db := filepath.Join(path, dbName); isFile(db) {
			return t.openFile(ctx, db)
		}
		return nil, fmt.Errorf("invalid database (%s is a directory, and no data directory of Quorate or etcd)", path)
	}
	return t.openFile(ctx, path)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// openFile opens a file of etcd's and locks it.
func (t *tool) openFile(ctx context.Context, path string) (*fileSource, error) {
	f, err := etcddb.Open(path)
	var missing *fs.PathError
	if errors.As(err, &missing) {
		return nil, missing // in etcd's words
	}
	if err != nil {
		return nil, invalid(err)
	}
	if t.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, t.timeout, fmt.Errorf("waited %s for it", t.timeout))
		defer cancel()
	}
	if err := f.Lock(ctx); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &fileSource{f}, nil
}

// invalid puts etcd's words before what is wrong with a file.
func invalid(err error) error {
	var damage *etcddb.DamageError
	if errors.As(err, &damage) {
		return fmt.Errorf("invalid database (%w)", err)
	}
	return err
}

// fileSource is a file of etcd.
type fileSource struct{ *etcddb.File }

func (f *fileSource) walk(v etcddb.Visitor) error { return f.Walk(v) }
func (f *fileSource) size() int64                 { return f.PagesSize() }

func (f *fileSource) hash(upper ids.Revision) (mvcc.Hash, error) {
	meta := map[string][]byte{}
	only := func(bucket string) func(string) (bool, error) {
		return func(name string) (bool, error) { return name == bucket, nil }
	}
	err := f.Walk(etcddb.Visitor{Bucket: only("meta"), Pair: func(_ string, key, value []byte) error {
		if len(value) <= maxMeta {
			meta[string(key)] = bytes.Clone(value)
		}
		return nil
	}})
	if err != nil {
		return mvcc.Hash{}, err
	}
	pairs := func(visit func(key, value []byte) error) error {
		return f.Walk(etcddb.Visitor{Bucket: only("key"), Pair: func(_ string, key, value []byte) error { return visit(key, value) }})
	}
	return mvcc.HashPairs(pairs, meta["scheduledCompactRev"], meta["finishedCompactRev"], upper)
}

// maxMeta bounds what is kept of the bucket "meta": the revisions there have 17 bytes.
const maxMeta = 64

// storeSource is a data directory of ours.
type storeSource struct {
	engine *storage.Engine
	frozen *storage.Frozen
}

func openStore(dir string) (*storeSource, error) {
	if err := refusePending(dir); err != nil {
		return nil, err
	}
	e, err := storage.Open(filepath.Join(dir, restore.StoreName), storage.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	return &storeSource{engine: e, frozen: e.Freeze()}, nil
}

func (s *storeSource) hash(upper ids.Revision) (mvcc.Hash, error) {
	return mvcc.HashKV(s.frozen, upper)
}
func (s *storeSource) size() int64  { return s.engine.Stats().DiskBytes }
func (s *storeSource) Close() error { return errors.Join(s.frozen.Close(), s.engine.Close()) }

// walk shows the store as etcd's file has it.
func (s *storeSource) walk(v etcddb.Visitor) error {
	for _, b := range etcddb.Buckets {
		if v.Bucket != nil {
			if pairs, err := v.Bucket(b.Name); err != nil {
				return err
			} else if !pairs {
				continue
			}
		}
		if err := s.bucket(b.Store, b.Name, v); err != nil {
			return err
		}
	}
	return nil
}

func (s *storeSource) bucket(store byte, name string, v etcddb.Visitor) error {
	it, err := s.frozen.Iter(storage.BucketBounds(store))
	if err != nil {
		return err
	}
	var ahead []pair // what etcd has in the same bucket and we have in the mark
	if store == storage.BucketMeta {
		ahead = markPairs(s.frozen.Mark())
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		key := it.Key()[1:]
		if store == storage.BucketKey {
			key = storage.RevisionKey(key)
		}
		for len(ahead) > 0 && err == nil && bytes.Compare(ahead[0].key, key) < 0 {
			err = v.Pair(name, ahead[0].key, ahead[0].value)
			ahead = ahead[1:]
		}
		if err == nil {
			err = v.Pair(name, key, it.Value())
		}
	}
	if err = errors.Join(err, it.Close()); err != nil {
		return err
	}
	for _, p := range ahead {
		if err := v.Pair(name, p.key, p.value); err != nil {
			return err
		}
	}
	return nil
}

type pair struct{ key, value []byte }

// markPairs are what etcd keeps instead of the mark, in order.
func markPairs(m storage.Mark) []pair {
	number := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	return slices.Clip([]pair{{[]byte("consistent_index"), number(uint64(m.Index))}, {[]byte("term"), number(uint64(m.Term))}})
}
