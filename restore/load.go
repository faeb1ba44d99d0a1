package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/etcddb"
	"quorate.dev/quorate/lease"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// Bounds of a load.
const (
	batchBytes = 4 << 20 // committed at a time
	pairBytes  = 1 << 30 // of one pair; no etcd writes more
)

// newestVersion is the newest version of etcd whose data this release understands.
const newestMajor, newestMinor = 3, 7

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// loader brings the pairs of a file into an engine.
type loader struct {
	r      *Restore
	ctx    context.Context
	file   *etcddb.File
	engine *storage.Engine
	batch  *storage.Batch
	keys   mvcc.Importer
	stores map[string]byte
	gone   ids.Revision // compacted
	bytes  int64        // of keys and values so far
	told   int64        // bytes at the last report
	sum    uint32       // of the pairs of the bucket "key"
}

// fill makes the store in dir.
func (r *Restore) fill(ctx context.Context, file *etcddb.File, dir string) (*Result, error) {
	engine, err := storage.Open(dir, storage.Options{FS: r.fs})
	if err != nil {
		return nil, err
	}
	l := &loader{r: r, ctx: ctx, file: file, engine: engine, batch: engine.NewBatch(), stores: map[string]byte{}}
	for _, b := range etcddb.Buckets {
		l.stores[b.Name] = b.Store
	}
	if err := l.run(); err != nil {
		return nil, errors.Join(err, engine.CloseDirty())
	}
	if err := engine.Close(); err != nil {
		return nil, err
	}
	return &Result{Revision: max(l.keys.Last(), l.gone, 1), Records: l.keys.Records(), Bytes: l.bytes}, nil
}

func (l *loader) run() error {
	l.r.progress(Progress{Stage: Loading, Total: l.file.PagesSize()})
	if err := l.file.Walk(etcddb.Visitor{Bucket: l.bucket, Pair: l.pair}); err != nil {
		return err
	}
	if err := l.keys.Check(l.gone); err != nil {
		return l.damaged("bucket \"key\": %v", err)
	}
	newest := l.keys.Last()
	if l.r.o.Bump > 0 {
		at := newest + l.r.o.Bump
		if at <= newest {
			return fmt.Errorf("restore: --bump-revision %d is too much for revision %d", l.r.o.Bump, newest)
		}
		l.keys.AddMark(l.batch, at)
	}
	if err := l.members(); err != nil {
		return err
	}
	if o := l.r.o.Origin; o != nil && o.Extra != nil {
		if err := o.Extra(l.batch); err != nil {
			return err
		}
	}
	// Only now does the store say that it covers anything: before, no server would take it for a member's.
	if err := l.engine.Commit(l.batch, l.r.mark()); err != nil {
		return err
	}
	if err := l.engine.Flush(); err != nil {
		return err
	}
	if err := l.verify(newest); err != nil {
		return err
	}
	if durable, err := l.engine.Durable(); err != nil || durable != l.r.mark() {
		return errors.Join(err, fmt.Errorf("restore: the store is durable up to %s and should be up to %s", durable, l.r.mark()))
	}
	return nil
}

func (l *loader) damaged(format string, args ...any) error {
	return fmt.Errorf("restore: %s: %s", l.file.Path(), fmt.Sprintf(format, args...))
}

// bucket passes over what names the members of the old cluster, and refuses what no etcd of the 3.4 to 3.7 releases has.
func (l *loader) bucket(name string) (bool, error) {
	if _, ok := l.stores[name]; !ok {
		return false, l.damaged("it has a bucket %q, which this release does not know; nothing of a file may be lost", name)
	}
	return name != "members" && name != "members_removed", nil
}

func (l *loader) pair(bucket string, key, value []byte) error {
	if err := context.Cause(l.ctx); err != nil {
		return err
	}
	if len(key)+len(value) > pairBytes {
		return l.damaged("a pair of bucket %q has %d bytes", bucket, len(key)+len(value))
	}
	var err error
	switch bucket {
	case "key":
		if err = l.keys.Add(l.batch, key, value); err == nil {
			l.sum = crc32.Update(crc32.Update(l.sum, castagnoli, key), castagnoli, value)
		}
	case "meta":
		err = l.meta(string(key), value)
	case "alarm":
		var a wire.AlarmMember
		if err = a.Unmarshal(key); err == nil {
			l.set(bucket, key, value)
		}
	default:
		l.set(bucket, key, value)
	}
	if err != nil {
		return l.damaged("bucket %q: %v", bucket, err)
	}
	l.bytes += int64(len(key) + len(value))
	if l.bytes-l.told >= report {
		l.told = l.bytes
		l.r.progress(Progress{Stage: Loading, Done: l.file.Walked(), Total: l.file.PagesSize()})
	}
	if l.batch.Bytes() < batchBytes {
		return nil
	}
	if err := l.engine.Commit(l.batch, storage.Mark{}); err != nil {
		return err
	}
	l.batch.Reset()
	return nil
}

func (l *loader) set(bucket string, key, value []byte) {
	l.batch.Set(storage.BucketKeyOf(l.stores[bucket], key), value)
}

// meta takes what is not about the old cluster's log.
func (l *loader) meta(name string, value []byte) error {
	switch name {
	case "consistent_index", "term", "confState":
		return nil
	case "storageVersion":
		if newer(string(value)) {
			return fmt.Errorf("storageVersion is %q, and this release understands data of etcd up to %d.%d: save the snapshot from a cluster of such a version", value, newestMajor, newestMinor)
		}
	case "scheduledCompactRev", "finishedCompactRev":
		at, tombstone, err := mvcc.EtcdRevision(value)
		if err != nil || tombstone {
			return fmt.Errorf("%s: %q is no revision", name, value)
		}
		l.gone = max(l.gone, at)
	}
	l.set("meta", []byte(name), value)
	return nil
}

// newer says whether a version is above what this release understands. Text that is no version is not: nobody reads it then.
func newer(version string) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	major, err := strconv.ParseUint(parts[0], 10, 32)
	minor, err2 := strconv.ParseUint(parts[1], 10, 32)
	if err != nil || err2 != nil {
		return false
	}
	return major > newestMajor || major == newestMajor && minor > newestMinor
}

// members writes who is in the new cluster, and raft's configuration, as if the entries that found it had been applied.
func (l *loader) members() error {
	conf := struct {
		Voters    []uint64 `json:"voters"`
		Learners  []uint64 `json:"learners,omitempty"`
		AutoLeave bool     `json:"auto_leave"`
	}{}
	for _, m := range l.r.o.Members {
		l.set("members", []byte(m.ID.String()), m.JSON())
		if m.IsLearner {
			conf.Learners = append(conf.Learners, uint64(m.ID))
		} else {
			conf.Voters = append(conf.Voters, uint64(m.ID))
		}
	}
	if o := l.r.o.Origin; o != nil {
		for _, id := range o.Removed {
			l.set("members_removed", []byte(id.String()), []byte("removed"))
		}
		if o.Mark.Index == 0 {
			return nil // the first entries of the log say who takes part
		}
	}
	text, err := json.Marshal(conf)
	if err != nil {
		return fmt.Errorf("restore: encode raft's configuration: %w", err)
	}
	l.set("meta", []byte("confState"), text)
	return nil
}

// verify reads back what was written: the keys byte for byte, by a checksum, and the rest as the server will.
func (l *loader) verify(newest ids.Revision) error {
	p := Progress{Stage: Verifying, Total: l.bytes, Newest: newest}
	l.r.progress(p)
	frozen := l.engine.Freeze()
	sum, err := l.reread(frozen, p)
	if err == nil && sum != l.sum {
		err = fmt.Errorf("restore: the store does not hold what was written to it: checksum %08x, want %08x; the disk or the memory of this machine is not reliable", sum, l.sum)
	}
	if err == nil {
		err = l.readable(frozen)
	}
	if o := l.r.o.Origin; err == nil && o != nil && o.Check != nil {
		err = o.Check(frozen)
	}
	return errors.Join(err, frozen.Close())
}

// readable reads the small buckets as a server does.
func (l *loader) readable(r storage.Reader) error {
	_, err := lease.Open(r)
	if err == nil {
		_, err = auth.Open(r)
	}
	if err == nil {
		_, err = member.Open(r, 0)
	}
	if err != nil {
		return fmt.Errorf("restore: %s: %w", l.file.Path(), err)
	}
	return context.Cause(l.ctx)
}

// reread is the checksum of the records that come from the file.
func (l *loader) reread(r storage.Reader, p Progress) (sum uint32, err error) {
	it, err := r.Iter(storage.BucketBounds(storage.BucketKey))
	if err != nil {
		return 0, err
	}
	left, told := l.keys.Records(), int64(0)
	for ok := it.First(); ok && left > 0 && err == nil; ok = it.Next() {
		key, value := storage.RevisionKey(it.Key()[1:]), it.Value()
		sum = crc32.Update(crc32.Update(sum, castagnoli, key), castagnoli, value)
		left--
		if p.Done += int64(len(key) + len(value)); p.Done-told >= report {
			told = p.Done
			l.r.progress(p)
			err = context.Cause(l.ctx)
		}
	}
	return sum, errors.Join(err, it.Close())
}
