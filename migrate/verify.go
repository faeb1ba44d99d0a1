package migrate

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"quorate.dev/quorate/internal/etcddb"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

// verifier compares what a destination holds with what it should, and with the tree it comes from.
type verifier struct {
	m      *migration
	ctx    context.Context
	next   int                      // in the records
	leases map[string][]byte        // not found yet
	nodes  map[string]*v2store.Node // of the default transformer; nil when a program made the records
}

func (m *migration) verifier(ctx context.Context) *verifier {
	v := &verifier{m: m, ctx: ctx, leases: map[string][]byte{}}
	for _, g := range m.leases {
		key, value := g.row()
		v.leases[string(key)] = value
	}
	if m.o.Transformer == "" {
		v.nodes = map[string]*v2store.Node{}
		for _, it := range m.tree.list(m.now).items { // read anew
			if !it.Dir && (m.o.TTL != Drop || it.Expiration == 0) {
				v.nodes[it.Key] = it.Node
			}
		}
	}
	m.o.Progress(Progress{Stage: Verifying, Total: int64(len(m.out.list))})
	return v
}

func unlike(format string, args ...any) error {
	return fmt.Errorf("migrate: what was written is not what was read: %s; the disk or the memory of this machine is not reliable", fmt.Sprintf(format, args...))
}

func (v *verifier) pair(bucket string, key, value []byte) error {
	if bucket == "lease" {
		return v.lease(key, value)
	}
	main := int64(0)
	if len(key) >= 8 {
		main = int64(binary.BigEndian.Uint64(key))
	}
	list := v.m.out.list
	if v.m.o.Target.Kind == InPlace && (v.next == len(list) || list[v.next].ModRevision != main || !bytes.Equal(key, revisionBytes(main))) {
		return nil // it was there before; one of ours that is missing shows at the end
	}
	if v.next == len(list) {
		return unlike("there is a record at revision %x that nobody wrote", key)
	}
	want := list[v.next]
	if !bytes.Equal(key, revisionBytes(want.ModRevision)) || !bytes.Equal(value, want.Append(nil)) {
		return unlike("key %q, revision %d: %s", want.Key, want.ModRevision, describe(key, value))
	}
	if v.nodes != nil {
		if err := v.node(value); err != nil {
			return err
		}
	}
	if v.next++; v.next%reportEvery == 0 {
		v.m.o.Progress(Progress{Stage: Verifying, Done: int64(v.next), Total: int64(len(list))})
	}
	return context.Cause(v.ctx)
}

// node compares a record with the node of its key.
func (v *verifier) node(value []byte) error {
	var kv wire.KeyValue
	if err := kv.Unmarshal(value); err != nil {
		return unlike("%v", err)
	}
	n := v.nodes[string(kv.Key)]
	if n == nil || *n.Value != string(kv.Value) || int64(n.Created) != kv.CreateRevision || int64(n.Modified) != kv.ModRevision || kv.Version != 1 {
		return unlike("key %q, create_revision %d, mod_revision %d", kv.Key, kv.CreateRevision, kv.ModRevision)
	}
	return nil
}

func (v *verifier) lease(key, value []byte) error {
	want, ok := v.leases[string(key)]
	switch {
	case ok && !bytes.Equal(want, value):
		return unlike("lease %x", key)
	case !ok && v.m.o.Target.Kind != InPlace: // there it may have been before
		return unlike("there is a lease %x that nobody wrote", key)
	}
	delete(v.leases, string(key))
	return nil
}

func (v *verifier) done() error {
	list := v.m.out.list
	switch {
	case v.next != len(list):
		return unlike("%d of %d keys are there, and key %q at revision %d is not", v.next, len(list), list[v.next].Key, list[v.next].ModRevision)
	case v.nodes != nil && len(v.nodes) != len(list)+int(v.m.out.clashes):
		return unlike("%d keys are there of %d", len(list), len(v.nodes))
	case len(v.leases) > 0:
		return unlike("%d of %d leases are not there", len(v.leases), len(v.m.leases))
	}
	v.m.report.Verified = int64(v.next)
	return nil
}

// verifyFile reads a db file back.
func (m *migration) verifyFile(ctx context.Context, path string) error {
	f, err := etcddb.Open(path)
	if err != nil {
		return err
	}
	v := m.verifier(ctx)
	err = f.Walk(etcddb.Visitor{Bucket: func(name string) (bool, error) { return name == "key" || name == "lease", nil }, Pair: v.pair})
	if err == nil {
		err = v.done()
	}
	return errors.Join(err, f.Close())
}

// verifyStore reads a store of ours back.
func (m *migration) verifyStore(ctx context.Context, path string) error {
	e, err := storage.Open(path, storage.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	frozen := e.Freeze()
	v := m.verifier(ctx)
	if err = v.bucket(frozen, storage.BucketKey, "key"); err == nil {
		err = v.bucket(frozen, storage.BucketLease, "lease")
	}
	if err == nil {
		err = v.done()
	}
	return errors.Join(err, frozen.Close(), e.Close())
}

func (v *verifier) bucket(r storage.Reader, bucket byte, name string) error {
	it, err := r.Iter(storage.BucketBounds(bucket))
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		key := it.Key()[1:]
		if bucket == storage.BucketKey {
			key = storage.RevisionKey(key)
		}
		err = v.pair(name, key, it.Value())
	}
	return errors.Join(err, it.Err(), it.Close())
}
