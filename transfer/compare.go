package transfer

import (
	"errors"
	"fmt"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/storage"
)

// newestRevision is the newest in a store of ours, 0 when it is empty.
func newestRevision(r storage.Reader) (ids.Revision, error) {
	it, err := r.Iter(storage.BucketBounds(storage.BucketKey))
	if err != nil {
		return 0, err
	}
	newest := ids.Revision(0)
	if it.Last() {
		newest, _, err = revisionOf(storage.RevisionKey(it.Key()[1:]))
	}
	return newest, errors.Join(err, it.Err(), it.Close())
}

// compare compares a store of ours with hashes of the other side, ascending; and what its own HashKV answers, at the newest.
func compare(r storage.Reader, compacted ids.Revision, theirs []Hash) error {
	at := make([]ids.Revision, len(theirs))
	for i, h := range theirs {
		at[i] = h.Revision
	}
	ours, err := Hashes(enginePairs(r), compacted, at)
	if err != nil {
		return err
	}
	for i := range ours {
		if ours[i] != theirs[i] {
			return fmt.Errorf("transfer: %w: the hash at revision %d is %d there and %d here; the disk or the memory of this machine is not reliable", errDiffers, theirs[i].Revision, theirs[i].Hash, ours[i].Hash)
		}
	}
	head := theirs[len(theirs)-1]
	own, err := mvcc.HashKV(r, head.Revision)
	if err != nil {
		return err
	}
	if own.Hash != head.Hash {
		return fmt.Errorf("transfer: %w: HashKV at revision %d is %d there and %d here", errDiffers, head.Revision, head.Hash, own.Hash)
	}
	return nil
}

// count counts what the small buckets hold.
func (i *importer) count(r storage.Reader) (err error) {
	i.report.Contents, err = countSmall(r)
	return err
}

func countSmall(r storage.Reader) (c Contents, err error) {
	for bucket, n := range map[byte]*int{storage.BucketLease: &c.Leases, storage.BucketAuthUsers: &c.Users, storage.BucketAuthRoles: &c.Roles, storage.BucketAlarm: &c.Alarms} {
		it, err := r.Iter(storage.BucketBounds(bucket))
		if err != nil {
			return c, err
		}
		for ok := it.First(); ok; ok = it.Next() {
			*n++
		}
		if err := errors.Join(it.Err(), it.Close()); err != nil {
			return c, err
		}
	}
	return c, nil
}
