package watch

import (
	"fmt"
	"testing"
)

// TestLook: of two watchers one does not read, and is found with what it watches and by how much it is behind.
func TestLook(t *testing.T) {
	f := newFixture(t, 1<<20, driveIt)
	deaf, good := &fakeSink{capacity: 2}, &fakeSink{}
	f.hub.Open(deaf).Create(create("a", "b", 0), "")
	stream := f.hub.Open(good)
	stream.Create(create("a", "", 0), "")
	stream.Create(create("b", "", 0), "")
	for i := range 5 {
		f.write(put("a", fmt.Sprint(i)))
		rest(t, f.hub)
	}
	behind, streams := f.hub.Look(10, 10)
	if len(behind) != 1 || behind[0].Sink != Sink(deaf) || string(behind[0].Key) != "a" || string(behind[0].End) != "b" || behind[0].Lag != 4 || !behind[0].Full {
		t.Errorf("behind: %+v", behind)
	}
	if len(streams) != 2 || streams[0].Watchers != 1 || streams[1].Sink != Sink(good) || streams[1].Watchers != 2 {
		t.Errorf("streams: %+v", streams)
	}
	if behind, streams = f.hub.Look(0, 1); len(behind) != 0 || len(streams) != 1 {
		t.Errorf("more than asked for: %+v, %+v", behind, streams)
	}
	now(t, deaf, "id=0 rev=1 created", "id=0 rev=2 PUT:a@2")
	rest(t, f.hub)
	if behind, _ = f.hub.Look(10, 10); len(behind) != 0 {
		t.Errorf("still behind: %+v", behind)
	}
}
