// Package etcddb writes a state of the store as the db file that etcd keeps (a bbolt file), and reads such files.
//
// It is not how the store keeps its data (package storage), and it does not interpret keys or values: the store's buckets
// hold etcd's own bytes, so an export copies them bucket by bucket. Names and contents of the buckets: docs/format/store.md;
// their source is etcd's server/storage/schema.
//
// Data passes one way: Export reads a storage.Reader and leaves a file, Read walks over a file and hands its pairs to a
// function.
//
// Invariants: an exported file that exists after Export returned nil is complete and synced; Read never trusts a number in
// a file before it compared it with the file's size.
package etcddb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	bolt "go.etcd.io/bbolt"

	"quorate.dev/quorate/storage"
)

// Buckets are the buckets of etcd's db file, each with the store's bucket that mirrors it.
var Buckets = []struct {
	Name  string
	Store byte
}{
	{"alarm", storage.BucketAlarm},
	{"auth", storage.BucketAuth},
	{"authRoles", storage.BucketAuthRoles},
	{"authUsers", storage.BucketAuthUsers},
	{"cluster", storage.BucketCluster},
	{"key", storage.BucketKey},
	{"lease", storage.BucketLease},
	{"members", storage.BucketMembers},
	{"members_removed", storage.BucketRemoved},
	{"meta", storage.BucketMeta},
}

// Image is a state to export; *storage.Frozen is one.
type Image interface {
	storage.Reader
	// Mark is the raft entry that the state covers. It becomes consistent_index and term in the bucket "meta".
	Mark() storage.Mark
}

// bytesPerCommit bounds the memory of an export: so many bytes of keys and values are gathered before they are written.
const bytesPerCommit = 8 << 20

// Export writes the image to the file at path, which must not exist or be empty; a new file gets mode 0600. When it fails,
// the file is removed.
func Export(image Image, path string) error {
	return ExportWith(context.Background(), image, path, nil)
}

// ExportWith is Export that ends when ctx does, and that tells progress, if it is not nil, the bytes of keys and values done
// so far, about every 8 MiB.
func ExportWith(ctx context.Context, image Image, path string, progress func(bytes int64)) error {
	if info, err := os.Lstat(path); err == nil && (info.Size() > 0 || !info.Mode().IsRegular()) {
		return fmt.Errorf("etcddb: export to %s: there is something already", path)
	}
	if err := export(ctx, image, path, progress); err != nil {
		return errors.Join(fmt.Errorf("etcddb: export to %s: %w", path, err), os.RemoveAll(path))
	}
	return nil
}

func export(ctx context.Context, image Image, path string, progress func(int64)) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		// One sync at the end is enough for a file that is of no use before it is complete. etcd does not store the free
		// list either.
		NoSync: true, NoGrowSync: true, NoFreelistSync: true, FreelistType: bolt.FreelistMapType,
	})
	if err != nil {
		return err
	}
	db.AllocSize = 1 << 20 // the file grows in such steps, and the last one stays
	w := &writer{ctx: ctx, db: db, progress: progress}
	for _, b := range Buckets {
		if err := w.copyBucket(image, b.Store, b.Name); err != nil {
			return errors.Join(fmt.Errorf("bucket %s: %w", b.Name, err), db.Close())
		}
	}
	if err := w.putMark(image.Mark()); err != nil {
		return errors.Join(err, db.Close())
	}
	return errors.Join(db.Sync(), db.Close())
}

// writer copies in transactions of bounded size.
type writer struct {
	ctx      context.Context
	db       *bolt.DB
	progress func(int64)
	done     int64
	values   []byte // room for values; see keep
}

func (w *writer) copyBucket(src storage.Reader, store byte, name string) (err error) {
	it, err := src.Iter(storage.BucketBounds(store))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	it.First()
	for more := true; more; {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		err := w.db.Update(func(tx *bolt.Tx) error {
			more, err = w.copySome(tx, it, name)
			return err
		})
		if err != nil {
			return err
		}
		if w.progress != nil {
			w.progress(w.done)
		}
	}
	return it.Err()
}

// copySome copies what fits in one transaction and says whether there is more.
func (w *writer) copySome(tx *bolt.Tx, it *storage.Iter, name string) (more bool, err error) {
	bucket, err := tx.CreateBucketIfNotExists([]byte(name))
	if err != nil {
		return false, err
	}
	bucket.FillPercent = 1 // pairs come in order, so a page is never split again
	n := 0
	for ; it.Valid(); it.Next() {
		if n >= bytesPerCommit {
			return true, nil
		}
		key, value := it.Key()[1:], w.keep(it.Value())
		if it.Key()[0] == storage.BucketKey {
			key = storage.RevisionKey(key)
		}
		if err := bucket.Put(key, value); err != nil {
			return false, fmt.Errorf("key %q: %w", key, err)
		}
		n += len(key) + len(value)
		w.done += int64(len(key) + len(value))
	}
	return false, it.Err()
}

// keep copies a value, because bbolt holds on to it until the transaction ends and the iterator does not.
func (w *writer) keep(v []byte) []byte {
	if len(v) > cap(w.values)-len(w.values) {
		w.values = make([]byte, 0, max(1<<20, len(v)))
	}
	at := len(w.values)
	w.values = append(w.values, v...)
	return w.values[at:len(w.values):len(w.values)]
}

func (w *writer) putMark(m storage.Mark) error {
	return w.db.Update(func(tx *bolt.Tx) error {
		meta := tx.Bucket([]byte("meta"))
		return errors.Join(
			meta.Put([]byte("consistent_index"), binary.BigEndian.AppendUint64(nil, uint64(m.Index))),
			meta.Put([]byte("term"), binary.BigEndian.AppendUint64(nil, uint64(m.Term))))
	})
}
