package mvcc_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/wire"
)

// TestReadersBesideWriter has readers check, on whatever view is newest and at whatever revision is readable, that two keys
// which only ever change together are seen together, while a writer updates, deletes, compacts and publishes.
func TestReadersBesideWriter(t *testing.T) {
	r := newRig(t)
	var done atomic.Bool
	var readers sync.WaitGroup
	var answers atomic.Int64
	for i := range 4 {
		readers.Go(func() {
			rnd := rand.New(rand.NewSource(int64(i)))
			for n, answered := 0, 0; !done.Load() || answered <= 100; n++ { // a hundred each, however late they begin
				if read(t, r.s.View(), rnd, n%5) {
					answered++
					answers.Add(1)
				}
			}
		})
	}
	writePairs(t, r, rand.New(rand.NewSource(99)))
	done.Store(true)
	readers.Wait()
	require.Greater(t, answers.Load(), int64(400))
}

const pairs = 300

// writePairs keeps "l/i" and "r/i" equal in everything but the first byte of the key.
func writePairs(t *testing.T, r *rig, rnd *rand.Rand) {
	for n := range 4000 {
		i := rnd.Intn(pairs)
		l, right := fmt.Appendf(nil, "l/%03d", i), fmt.Appendf(nil, "r/%03d", i)
		tx := r.s.Begin(r.b)
		if rnd.Intn(3) == 0 {
			tx.DeleteRange(l, nil)
			tx.DeleteRange(right, nil)
		} else {
			value := fmt.Append(nil, "value of step ", n)
			tx.Put(&wire.PutRequest{Key: l, Value: value})
			tx.Put(&wire.PutRequest{Key: right, Value: value})
		}
		tx.End()
		switch rnd.Intn(12) {
		case 0, 1, 2:
			r.publish()
		case 3:
			if rev := r.s.Revision() - ids.Revision(rnd.Intn(10)); rev > r.s.Compacted() {
				require.NoError(t, r.s.Compact(r.b, rev))
			}
		case 4, 5:
			r.s.Scrub(r.b, 1+rnd.Intn(30))
		}
	}
	r.publish()
}

// read checks one thing about a view and says whether the view could answer. A view that is too old says so.
func read(t *testing.T, v *mvcc.View, rnd *rand.Rand, what int) bool {
	rev := int64(0)
	if low := max(v.Compacted(), 1); what > 1 && v.Revision() > low {
		rev = int64(low) + rnd.Int63n(int64(v.Revision()-low+1))
	}
	get := func(side string) (*wire.RangeResponse, error) {
		req := wire.RangeRequest{Key: []byte(side + "/"), RangeEnd: []byte(side + "0"), Revision: rev, Limit: int64(what * 100)}
		return v.Range(&req)
	}
	if what == 4 {
		return readEvents(t, v, ids.Revision(rev))
	}
	left, err := get("l")
	if overtaken(t, err) {
		return false
	}
	right, err := get("r")
	if overtaken(t, err) {
		return false
	}
	if left.Count != right.Count || len(left.KVs) != len(right.KVs) {
		t.Errorf("view %d at %d: %d and %d keys", v.Revision(), rev, left.Count, right.Count)
		return false
	}
	for i := range left.KVs {
		if !bytes.Equal(left.KVs[i][3:], right.KVs[i][3:]) || left.KVs[i][2] != 'l' {
			t.Errorf("view %d at %d: %q beside %q", v.Revision(), rev, left.KVs[i], right.KVs[i])
		}
	}
	return true
}

func readEvents(t *testing.T, v *mvcc.View, from ids.Revision) bool {
	if from == 0 {
		return false
	}
	batches, next, err := v.Events(from, v.Revision(), 1<<30, nil)
	if overtaken(t, err) {
		return false
	}
	want := max(from, 2)
	for _, b := range batches {
		if b.Revision != want || len(b.Events) != 2 || !bytes.Equal(b.Events[0].KV[3:], b.Events[1].KV[3:]) {
			t.Errorf("events of revision %d: %q", want, b.Events)
		}
		want++
	}
	if next < want {
		t.Errorf("next is %d after %d", next, want)
	}
	return true
}

func overtaken(t *testing.T, err error) bool {
	if err != nil && !errors.Is(err, mvcc.Stale) && !errors.Is(err, fault.Compacted) {
		t.Error(err)
	}
	return err != nil
}
