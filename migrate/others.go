package migrate

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"quorate.dev/quorate/internal/etcddb"
	"quorate.dev/quorate/wire"
)

// others looks at the keys of the v3 API that the source has. Those that an earlier migration wrote are no others.
func (m *migration) others(ctx context.Context) error {
	db := m.src.db
	if db == nil {
		return nil
	}
	c := &comparison{ctx: ctx, list: m.out.list}
	if err := db.Walk(etcddb.Visitor{Bucket: func(name string) (bool, error) { return name == "key" || name == "meta", nil }, Pair: c.pair}); err != nil {
		return m.src.refused("the file of the v3 API", db.Path(), err)
	}
	m.report.Source.Others = c.others
	switch {
	case c.tooNew != "":
		return &RefusedError{Path: db.Path(), Reason: fmt.Sprintf("its storageVersion is %q: etcd 3.5 and newer are not understood, whose v2 API is no longer what it was", c.tooNew),
			Do: "only data of etcd 2.0 to 3.4 can be migrated; nothing was written"}
	case c.clash != "" && m.o.Target.Kind == InPlace:
		return &ClashError{Records: c.others, Example: c.clash, Place: "it has the revision of a migrated key, and only one of them could stay; migrate to a new place with --to or --to-snapshot"}
	case c.others > 0 && !m.o.KeepOthers:
		place := "they would not be in the new place, which holds what the v2 API had; keep them with \"quorate import\", or leave them out with --keep-v3"
		if m.o.Target.Kind == InPlace {
			place = "they would stay, beside the migrated keys, with revisions that were counted on their own; say --keep-v3 if that is wanted, or use --to or --to-snapshot"
		}
		return &ClashError{Records: c.others, Example: c.example, Place: place}
	}
	return nil
}

// comparison compares the keys of the v3 API with what is to be written.
type comparison struct {
	ctx            context.Context
	list           []*wire.KeyValue
	others         int64
	example, clash string
	tooNew         string
}

func (c *comparison) pair(bucket string, key, value []byte) error {
	if bucket == "meta" {
		if string(key) == "storageVersion" && tooNew(string(value)) {
			c.tooNew = string(value)
		}
		return context.Cause(c.ctx)
	}
	if len(key) < 17 {
		return fmt.Errorf("migrate: bucket \"key\" has the key %x, which is no revision", key)
	}
	main := int64(binary.BigEndian.Uint64(key))
	i, found := slices.BinarySearchFunc(c.list, main, func(kv *wire.KeyValue, at int64) int {
		switch {
		case kv.ModRevision < at:
			return -1
		case kv.ModRevision > at:
			return 1
		}
		return 0
	})
	if found && bytes.Equal(key, revisionBytes(main)) {
		if bytes.Equal(withoutLease(c.list[i]), value) || bytes.Equal(c.list[i].Append(nil), value) {
			return nil
		}
		c.clash = describe(key, value)
	}
	if c.others++; c.others == 1 {
		c.example = describe(key, value)
	}
	return context.Cause(c.ctx)
}

func withoutLease(kv *wire.KeyValue) []byte {
	plain := *kv
	plain.Lease = 0
	return plain.Append(nil)
}

func describe(key, value []byte) string {
	var kv wire.KeyValue
	_ = kv.Unmarshal(value) // one that is damaged has no key to show
	return fmt.Sprintf("key %q at revision %d", kv.Key, binary.BigEndian.Uint64(key))
}
