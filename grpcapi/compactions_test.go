package grpcapi_test

import (
	"fmt"
	"testing"

	"quorate.dev/quorate/grpcapi"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/mvcc"
)

// TestCompactionLog follows two compactions whose hashes and removals end in turn.
func TestCompactionLog(t *testing.T) {
	l := new(grpcapi.CompactionLog)
	var done []ids.Revision
	wait := func(at ids.Revision) { l.Scrubbed(at, func() { done = append(done, at) }) }
	expect := func(want ...ids.Revision) {
		t.Helper()
		if fmt.Sprint(done) != fmt.Sprint(want) {
			t.Fatalf("done %v, want %v", done, want)
		}
	}
	l.Started(5)
	wait(5)
	expect()
	l.Finished(5)
	expect() // its hash is not there yet
	l.Started(9)
	wait(9)
	l.Hashed(5, &mvcc.Hash{Revision: 5, Hash: 55})
	expect(5)
	l.Hashed(9, nil) // could not be taken
	expect(5)
	l.Finished(9)
	expect(5, 9)
	wait(7) // overtaken by the one at 9
	expect(5, 9, 7)
	if h, ok := l.Hash(5); !ok || h.Hash != 55 {
		t.Fatalf("%v %v", h, ok)
	}
	if _, ok := l.Hash(9); ok {
		t.Fatal("a hash that was not taken")
	}
	for at := ids.Revision(10); at < 20; at++ {
		l.Started(at)
		l.Hashed(at, &mvcc.Hash{Revision: at})
	}
	if _, ok := l.Hash(5); ok {
		t.Fatal("only the last ten are kept")
	}
	if _, ok := l.Hash(10); !ok {
		t.Fatal("the last ten are kept")
	}
}
