// Package lease is the table of leases and of the keys that are attached to them.
//
// It knows no deadlines: how long a lease still lives is the leader's business (package leader), and what is stored here is
// only what was granted and, if it was checkpointed, what remained. It does not delete keys either; state does, in the same
// batch in which it takes the lease out.
//
// Data passes like this. The one writer opens a Table from the engine, tells it which keys are attached (attachments are not
// stored: every KeyValue names its lease), changes it while it applies commands, and publishes a View after each batch.
//
// Invariants: the lease bucket holds exactly the leases of the table; keys are attached to leases of the table only, and a
// key to at most one; a View never changes, and publishing one costs what has changed since the last, not what there is.
package lease

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/storage"
)

// Lease is what is stored of one lease.
type Lease struct {
	ID        ids.LeaseID
	TTL       int64 // as granted, seconds
	Remaining int64 // seconds left at the last checkpoint, 0 when there is none since the last renewal
}

// Kind says what happened to a lease.
type Kind uint8

// What can happen to a lease.
const (
	Granted Kind = iota + 1
	Revoked
	Checkpointed
)

// Change is something that happened to a lease, for those who keep its deadline.
type Change struct {
	Lease
	Kind Kind
}

// entry is one lease with its keys. Like the nodes of a tree it belongs to an epoch and is copied when a later one changes it.
type entry struct {
	Lease
	epoch uint64
	keys  tree[string, struct{}]
}

// Table holds the leases for the one writer. Its methods are not safe for concurrent use; those of a View are.
type Table struct {
	leases  tree[ids.LeaseID, *entry]
	epoch   uint64
	view    *View
	changed bool // since view was made
}

// Open reads the lease bucket. Attach tells it of the keys afterwards. Errors are failures of the disk or name the record
// that is damaged.
func Open(r storage.Reader) (*Table, error) {
	t := &Table{epoch: 1, changed: true}
	it, err := r.Iter(storage.BucketBounds(storage.BucketLease))
	if err != nil {
		return nil, err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var l Lease
		if l, err = decode(it.Key()[1:], it.Value()); err == nil {
			t.leases.set(t.epoch, l.ID, &entry{Lease: l, epoch: t.epoch})
		}
	}
	if closing := it.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Len is the number of leases.
func (t *Table) Len() int { return t.leases.count }

// Has says whether the lease exists.
func (t *Table) Has(id ids.LeaseID) bool {
	_, ok := t.leases.get(id)
	return ok
}

// Get returns the lease.
func (t *Table) Get(id ids.LeaseID) (Lease, bool) {
	e, ok := t.leases.get(id)
	if !ok {
		return Lease{}, false
	}
	return e.Lease, true
}

// Keys returns the keys attached to the lease, sorted, as copies.
func (t *Table) Keys(id ids.LeaseID) [][]byte { return keysOf(&t.leases, id) }

// EachKey is View.EachKey of the table as it is now.
func (t *Table) EachKey(id ids.LeaseID, f func(key string) bool) { eachKey(&t.leases, id, f) }

// EachAttached is View.EachAttached of the table as it is now.
func (t *Table) EachAttached(f func(key string) bool) { eachAttached(&t.leases, f) }

// Grant adds a lease that does not exist and is not 0. ttl is in seconds.
func (t *Table) Grant(b *storage.Batch, id ids.LeaseID, ttl int64) {
	if id == 0 || t.Has(id) {
		panic(fmt.Sprintf("BUG: lease %s granted, which is 0 or exists", id))
	}
	e := &entry{Lease: Lease{ID: id, TTL: ttl}, epoch: t.epoch}
	t.changed = true
	t.leases.set(t.epoch, id, e)
	write(b, e.Lease)
}

// Revoke removes a lease and returns the keys that were attached to it, sorted. The caller deletes them in the same batch.
// It does nothing when there is no such lease.
func (t *Table) Revoke(b *storage.Batch, id ids.LeaseID) (keys [][]byte) {
	if !t.Has(id) {
		return nil
	}
	keys = t.Keys(id)
	t.changed = true
	t.leases.remove(t.epoch, id)
	b.Delete(key(id))
	return keys
}

// Checkpoint stores how many seconds of a lease remain; 0 forgets an earlier checkpoint. It does nothing when there is no
// such lease.
func (t *Table) Checkpoint(b *storage.Batch, id ids.LeaseID, remaining int64) {
	e := t.own(id)
	if e == nil {
		return
	}
	e.Remaining = remaining
	write(b, e.Lease)
}

// Attach notes that the key's current KeyValue names the lease. It does nothing when there is no such lease. The key is
// copied.
func (t *Table) Attach(id ids.LeaseID, key []byte) {
	if e := t.own(id); e != nil {
		e.keys.set(t.epoch, string(key), struct{}{})
	}
}

// Detach notes that the key's current KeyValue does not name the lease any more. It does nothing when the key is not attached.
func (t *Table) Detach(id ids.LeaseID, key []byte) {
	if e := t.own(id); e != nil {
		e.keys.remove(t.epoch, string(key))
	}
}

// own returns the lease for changing it, nil when there is none.
func (t *Table) own(id ids.LeaseID) *entry {
	e, ok := t.leases.get(id)
	if !ok {
		return nil
	}
	t.changed = true
	if e.epoch != t.epoch {
		c := *e
		c.epoch = t.epoch
		e = &c
		t.leases.set(t.epoch, id, e)
	}
	return e
}

// View returns the table as it is now. It is the same View as before when nothing has changed.
func (t *Table) View() *View {
	if t.changed {
		t.view = &View{leases: t.leases}
		t.changed = false
		t.epoch++
	}
	return t.view
}

// View is the table at one moment. It is immutable and for any goroutine.
type View struct {
	leases tree[ids.LeaseID, *entry]
}

// Len is the number of leases.
func (v *View) Len() int { return v.leases.count }

// Get returns the lease.
func (v *View) Get(id ids.LeaseID) (Lease, bool) {
	e, ok := v.leases.get(id)
	if !ok {
		return Lease{}, false
	}
	return e.Lease, true
}

// All returns all leases, ascending by ID.
func (v *View) All() []Lease {
	out := make([]Lease, 0, v.leases.count)
	v.leases.each(func(_ ids.LeaseID, e *entry) bool {
		out = append(out, e.Lease)
		return true
	})
	return out
}

// Keys returns the keys attached to the lease, sorted, as copies; nil when there are none or no such lease.
func (v *View) Keys(id ids.LeaseID) [][]byte { return keysOf(&v.leases, id) }

// EachKey calls f with the keys attached to the lease, ascending, until f returns false.
func (v *View) EachKey(id ids.LeaseID, f func(key string) bool) { eachKey(&v.leases, id, f) }

// EachAttached calls f with the keys attached to any lease until f returns false.
func (v *View) EachAttached(f func(key string) bool) { eachAttached(&v.leases, f) }

// KeyCount is the number of keys attached to the lease.
func (v *View) KeyCount(id ids.LeaseID) int {
	e, ok := v.leases.get(id)
	if !ok {
		return 0
	}
	return e.keys.count
}

func keysOf(leases *tree[ids.LeaseID, *entry], id ids.LeaseID) [][]byte {
	e, ok := leases.get(id)
	if !ok || e.keys.count == 0 {
		return nil
	}
	out := make([][]byte, 0, e.keys.count)
	e.keys.each(func(k string, _ struct{}) bool {
		out = append(out, []byte(k))
		return true
	})
	return out
}

func eachKey(leases *tree[ids.LeaseID, *entry], id ids.LeaseID, f func(key string) bool) {
	if e, ok := leases.get(id); ok {
		e.keys.each(func(k string, _ struct{}) bool { return f(k) })
	}
}

func eachAttached(leases *tree[ids.LeaseID, *entry], f func(key string) bool) {
	leases.each(func(_ ids.LeaseID, e *entry) bool {
		more := true
		e.keys.each(func(k string, _ struct{}) bool {
			more = f(k)
			return more
		})
		return more
	})
}

// The record of a lease is etcd's (source: etcd v3.7 server/lease/leasepb/lease.proto and server/storage/schema/lease.go):
// key 8 bytes big-endian ID; value Lease{ID 1, TTL 2, RemainingTTL 3}, all int64, zero values left out.

func key(id ids.LeaseID) []byte {
	return binary.BigEndian.AppendUint64([]byte{storage.BucketLease}, uint64(id))
}

func write(b *storage.Batch, l Lease) {
	var buf [3 * (1 + binary.MaxVarintLen64)]byte
	v := buf[:0]
	for i, n := range [...]int64{int64(l.ID), l.TTL, l.Remaining} {
		if n != 0 {
			v = protowire.AppendVarint(protowire.AppendTag(v, protowire.Number(i+1), protowire.VarintType), uint64(n))
		}
	}
	b.Set(key(l.ID), v)
}

func decode(k, v []byte) (Lease, error) {
	var n [4]int64
	ok := len(k) == 8
	for b := v; ok && len(b) > 0; {
		num, typ, used := protowire.ConsumeField(b)
		if ok = used > 0; !ok {
			break
		}
		if typ == protowire.VarintType && num < 4 {
			_, _, tag := protowire.ConsumeTag(b)
			u, _ := protowire.ConsumeVarint(b[tag:])
			n[num] = int64(u)
		}
		b = b[used:]
	}
	if !ok || uint64(n[1]) != binary.BigEndian.Uint64(k) || n[1] == 0 {
		return Lease{}, fmt.Errorf("lease: the record %x -> %x is no lease: the store is damaged; restore it from a snapshot or another member", k, v)
	}
	return Lease{ID: ids.LeaseID(n[1]), TTL: n[2], Remaining: n[3]}, nil
}
