package transfer

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/etcddb"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/storage"
)

// facts are what the small buckets of a db file say.
type facts struct {
	mark      storage.Mark
	hasTerm   bool   // etcd 3.5 and later write the term
	version   string // of the storage; "" before 3.6
	cluster   string // version of the cluster; "" when none was set
	compacted ids.Revision
	members   []member.Member // ascending by id
	removed   []ids.MemberID
	keys      bool // there is a bucket for keys
}

// release is the newest etcd that can have written the file, for people.
func (f *facts) release() string {
	switch {
	case f.version != "":
		return f.version
	case f.hasTerm:
		return "3.5"
	}
	return cmp.Or(f.cluster, "3.4 or before")
}

// smallValue bounds what is kept of one pair of a small bucket.
const smallValue = 1 << 20

// readFacts walks over the small buckets.
func readFacts(ctx context.Context, file *etcddb.File) (*facts, error) {
	f := &facts{}
	err := file.Walk(etcddb.Visitor{
		Bucket: func(name string) (bool, error) {
			f.keys = f.keys || name == "key"
			return name == "meta" || name == "members" || name == "members_removed" || name == "cluster", context.Cause(ctx)
		},
		Pair: func(bucket string, key, value []byte) error {
			if len(value) > smallValue {
				return fmt.Errorf("transfer: %s: bucket %q: the value of %q has %d bytes", file.Path(), bucket, key, len(value))
			}
			if err := f.pair(bucket, string(key), bytes.Clone(value)); err != nil {
				return fmt.Errorf("transfer: %s: bucket %q: %w", file.Path(), bucket, err)
			}
			return nil
		},
	})
	slices.SortFunc(f.members, func(a, b member.Member) int { return cmp.Compare(a.ID, b.ID) })
	slices.Sort(f.removed)
	if err == nil && !f.keys {
		err = fmt.Errorf("transfer: %s has no bucket \"key\": it holds no data of the v3 API. Data of the v2 API are for \"quorate migrate\"", file.Path())
	}
	return f, err
}

func (f *facts) pair(bucket, key string, value []byte) error {
	number := func() (uint64, error) {
		if len(value) != 8 {
			return 0, fmt.Errorf("%s is %q, which is no number of 8 bytes", key, value)
		}
		return binary.BigEndian.Uint64(value), nil
	}
	switch bucket + "/" + key {
	case "meta/consistent_index":
		n, err := number()
		f.mark.Index = ids.Index(n)
		return err
	case "meta/term":
		n, err := number()
		f.mark.Term, f.hasTerm = ids.Term(n), true
		return err
	case "meta/storageVersion":
		f.version = string(value)
		return nil
	case "meta/scheduledCompactRev", "meta/finishedCompactRev":
		main, _, err := revisionOf(value)
		f.compacted = max(f.compacted, main)
		return err
	case "cluster/clusterVersion":
		f.cluster = string(value)
		return tooNew(f.cluster)
	}
	if bucket != "members" && bucket != "members_removed" {
		return nil
	}
	id, err := strconv.ParseUint(key, 16, 64)
	if err != nil {
		return fmt.Errorf("%q is no member's id", key)
	}
	if bucket == "members_removed" {
		f.removed = append(f.removed, ids.MemberID(id))
		return nil
	}
	var m member.Member
	if err := json.Unmarshal(value, &m); err != nil || uint64(m.ID) != id {
		return fmt.Errorf("the record of member %s, %q, cannot be understood (%v)", key, value, err)
	}
	f.members = append(f.members, m)
	return nil
}

// The newest release of etcd whose data are understood.
const newestMajor, newestMinor = 3, 7

// tooNew refuses the version of a cluster that is newer than that.
func tooNew(version string) error {
	var major, minor int
	if n, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil || n != 2 {
		return fmt.Errorf("the version of the cluster is %q, which is no version", version)
	}
	if major > newestMajor || major == newestMajor && minor > newestMinor {
		return fmt.Errorf("the cluster is of version %s, and this release understands data of etcd up to %d.%d: downgrade the cluster first, or use a newer release", version, newestMajor, newestMinor)
	}
	return nil
}

// filePairs are the keys of a db file. progress, if not nil, is told the bytes of pages read.
func filePairs(ctx context.Context, file *etcddb.File, progress func(int64)) Pairs {
	return func(visit func(key, value []byte) error) error {
		n := 0
		return file.Walk(etcddb.Visitor{
			Bucket: func(name string) (bool, error) { return name == "key", nil },
			Pair: func(_ string, key, value []byte) error {
				if n++; n%4096 == 0 {
					if err := context.Cause(ctx); err != nil {
						return err
					}
					if progress != nil {
						progress(file.Walked())
					}
				}
				return visit(key, value)
			},
		})
	}
}

// find is a member by id.
func find(members []member.Member, id ids.MemberID) (member.Member, bool) {
	i := slices.IndexFunc(members, func(m member.Member) bool { return m.ID == id })
	if i < 0 {
		return member.Member{}, false
	}
	return members[i], true
}
