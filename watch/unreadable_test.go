package watch

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// TestUnreadableStore: a watcher whose past cannot be read is not cancelled, which its client would take for final: its stream ends.
func TestUnreadableStore(t *testing.T) {
	files := vfs.NewMem()
	f := newFixture(t, 1<<20, func(c *Config) { c.LogRevisions = 1 })
	_ = f
	open := func(fs vfs.FS) (*storage.Engine, *mvcc.Store) {
		e, err := storage.Open("db", storage.Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		s, err := mvcc.Open(e)
		if err != nil {
			t.Fatal(err)
		}
		s.Publish()
		return e, s
	}
	e, s := open(files)
	own := &fixture{t: t, e: e, s: s, current: map[string]string{}}
	own.hub = New(Config{View: s.View, Header: func() wire.Header { return wire.Header{} }, FragmentBytes: 1 << 20, Clock: f.clock, LogRevisions: 1})
	for i := range 200 {
		own.write(change{key: fmt.Sprint(i), value: fmt.Sprintf("%01000d", i)})
	}
	own.hub.Close()
	if err := errors.Join(e.Flush(), e.Close()); err != nil {
		t.Fatal(err)
	}

	var broken atomic.Bool
	e, s = open(errorfs.Wrap(files, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsRead {
			return syscall.EIO
		}
		return nil
	})))
	defer e.Close()
	hub := New(Config{View: s.View, Header: func() wire.Header { return wire.Header{} }, FragmentBytes: 1 << 20, Clock: clock.NewManual(f.clock.Now()), LogRevisions: 1, Driven: true})
	defer hub.Close()
	broken.Store(true)
	sink := &fakeSink{}
	stream := hub.Open(sink)
	stream.Create(&wire.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: 2}, "")
	for hub.Step() {
	}
	if !errors.Is(sink.failed, fault.StoreUnreadable) || !errors.Is(sink.failed, syscall.EIO) {
		t.Errorf("the stream was ended with %v", sink.failed)
	}
	for _, m := range sink.take(10) {
		if m.Canceled || len(m.Events) > 0 {
			t.Errorf("unexpected: %v", summary(m))
		}
	}
}
