package load

import (
	"errors"
	"testing"
	"time"

	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/wire"
)

// TestListJob: the pages of a list follow each other at the revision of the first, and an error begins a new list.
func TestListJob(t *testing.T) {
	o := &Options{Clock: clock.NewManual(time.Unix(0, 0)), Data: Data{Prefix: "p/", KeySize: 4}, Work: Work{Limit: 2, Lists: 2}}
	w := new(listWork)
	r := &run{o: o, epoch: o.Clock.Now()}
	j, _ := w.job(r, 0)
	ask := func(key string, revision int64) {
		t.Helper()
		_, m, ok := j.next(0, 0)
		req, is := m.(*wire.RangeRequest)
		if !ok || !is || string(req.Key) != key || string(req.RangeEnd) != "p0" || req.Revision != revision || req.Limit != 2 {
			t.Fatalf("%v %+v; want key %q at %d", ok, req, key, revision)
		}
	}
	answer := func(revision int64, more bool, keys ...string) error {
		resp := wire.RangeResponse{Header: wire.Header{Revision: revision}, More: more}
		for _, k := range keys {
			kv := wire.KeyValue{Key: []byte(k)}
			resp.KVs = append(resp.KVs, kv.Append(nil))
		}
		_, err := j.done(resp.Append(nil), nil)
		return err
	}
	ask("p/", 0)
	err := answer(7, true, "p/a", "p/b")
	ask("p/b\x00", 7)
	err = errors.Join(err, answer(9, true, "p/c", "p/d"))
	ask("p/d\x00", 7)
	err = errors.Join(err, answer(9, false))
	if ask("p/", 0); err != nil || w.lists != 1 || w.keys != 4 {
		t.Errorf("%v; %d lists, %d keys", err, w.lists, w.keys)
	}
	err = answer(11, true, "p/a", "p/b")
	ask("p/b\x00", 11)
	if _, gone := j.done(nil, errors.New("compacted")); gone == nil || err != nil {
		t.Error("an error is lost")
	}
	ask("p/", 0)
	if answer(12, true) == nil || answer(12, true, "p/a", "p/b", "p/c") == nil {
		t.Error("a page without keys, or with too many, passes")
	}
	ask("p/", 0)
	err = answer(13, false, "p/a")
	if _, _, ok := j.next(0, 0); ok || err != nil || w.lists != 2 || w.keys != 5 {
		t.Errorf("more than the lists asked for: %v, %d lists, %d keys", err, w.lists, w.keys)
	}
}
