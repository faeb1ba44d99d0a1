package v2hub_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/v2hub"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

// bench is a store and its hub.
type bench struct {
	t     *testing.T
	store *v2store.Store
	hub   *v2hub.Hub
}

func newBench(t *testing.T) *bench {
	s := v2store.New()
	return &bench{t, s, v2hub.New(s.Publish())}
}

func (b *bench) do(requests ...wire.V2Request) {
	b.t.Helper()
	for _, r := range requests {
		_, err := b.store.Apply(nil, &r)
		require.NoError(b.t, err)
		events := b.store.Events()
		b.hub.Publish(b.store.Publish(), events)
	}
}

func (b *bench) watch(path string, recursive, stream bool, since uint64) *v2hub.Watcher {
	b.t.Helper()
	w, err := b.hub.Watch(path, recursive, stream, since)
	require.NoError(b.t, err)
	return w
}

// got lists what is queued for a watcher.
func got(w *v2hub.Watcher) []string {
	list := []string{}
	for {
		select {
		case e, ok := <-w.Events():
			if !ok {
				return append(list, "closed")
			}
			list = append(list, fmt.Sprintf("%s %s %d", e.Action, e.Node.Key, e.Index))
		default:
			return list
		}
	}
}

func put(path string) wire.V2Request { return wire.V2Request{Method: "PUT", Path: path, Val: "v"} }

func remove(path string) wire.V2Request {
	return wire.V2Request{Method: "DELETE", Path: path, Recursive: true}
}

func TestPresent(t *testing.T) {
	b := newBench(t)
	exact := b.watch("/1/a", false, true, 0)
	once := b.watch("/1/a/", false, false, 0)
	below := b.watch("/1/a", true, true, 0)
	root := b.watch("/", true, true, 0)
	leaf := b.watch("/1/a/b/c", false, false, 0)
	hiddenLeaf := b.watch("/1/a/_h", false, true, 0)
	insideHidden := b.watch("/1/a/_h/d", true, true, 0)
	require.Equal(t, 7, b.hub.Count())
	b.do(put("/1/a/b/c"), put("/1/a/_h/d/e"), put("/1/ab"), remove("/1/a"))
	require.Equal(t, []string{"delete /1/a 4", "delete /1/a 4"}, got(exact))
	require.Equal(t, []string{"delete /1/a 4"}, got(once))
	require.Equal(t, []string{"set /1/a/b/c 1", "delete /1/a 4", "delete /1/a 4"}, got(below))
	require.Equal(t, []string{"set /1/a/b/c 1", "set /1/ab 3", "delete /1/a 4"}, got(root))
	require.Equal(t, []string{"set /1/a/b/c 1"}, got(leaf))
	require.Equal(t, []string{"delete /1/a 4"}, got(hiddenLeaf))
	require.Equal(t, []string{"set /1/a/_h/d/e 2", "delete /1/a 4"}, got(insideHidden))
	require.Equal(t, 5, b.hub.Count())
}

func TestLeavesAreToldOfTheDirectory(t *testing.T) {
	b := newBench(t)
	b.do(put("/1/a/b/c"))
	leaf := b.watch("/1/a/b/c", false, false, 0)
	missing := b.watch("/1/a/b/x", false, false, 0)
	b.do(remove("/1/a"))
	require.Equal(t, []string{"delete /1/a 2"}, got(leaf))
	require.Empty(t, got(missing))
}

func TestPast(t *testing.T) {
	b := newBench(t)
	b.do(put("/1/a"), put("/1/b"), put("/1/a"), put("/1/d/_h"), remove("/1/d"))
	w := b.watch("/1/a", false, false, 2)
	require.EqualValues(t, 5, w.StartIndex())
	require.Equal(t, []string{"set /1/a 3"}, got(w))
	require.Equal(t, []string{"set /1/a 1", "set /1/a 3"}, got(b.watch("/1/a", false, true, 1)))
	require.Equal(t, []string{"set /1/d/_h 4"}, got(b.watch("/1/d", true, false, 4)))
	require.Equal(t, []string{"delete /1/d 5"}, got(b.watch("/1/d/_h/x", false, false, 1)))
	require.Equal(t, []string{"delete /1/d 5"}, got(b.watch("/1/dx", false, false, 1)), "a path that only begins alike")
	require.Equal(t, 1, b.hub.Count(), "only the stream goes on")
	future := b.watch("/1/a", false, false, 7)
	b.do(put("/1/a"))
	require.Empty(t, got(future))
	b.do(put("/1/a"))
	require.Equal(t, []string{"set /1/a 7"}, got(future))
}

func TestRefreshIsNotTold(t *testing.T) {
	b := newBench(t)
	yes := true
	b.do(put("/1/a"))
	w := b.watch("/1/a", true, true, 0)
	b.do(wire.V2Request{Method: "PUT", Path: "/1/a", PrevExist: &yes, Refresh: &yes, Expiration: 1e18})
	require.Empty(t, got(w))
	require.Equal(t, []string{"set /1/a 1"}, got(b.watch("/1/a", false, true, 1)))
}

func TestHistoryEnds(t *testing.T) {
	b := newBench(t)
	for range limits.V2HistoryEvents + 5 {
		b.do(put("/1/a"))
	}
	require.Equal(t, []string{"set /1/a 6"}, got(b.watch("/1/a", false, false, 6)))
	_, err := b.hub.Watch("/1/a", false, false, 5)
	require.Equal(t, v2store.HistoryCleared(6, 5, 1005), err)
	require.EqualError(t, err, "The event in requested index is outdated and cleared (the requested history has been cleared [6/5])")
}

func TestSlowWatcherIsClosed(t *testing.T) {
	b := newBench(t)
	slow, other := b.watch("/1", true, true, 0), b.watch("/1", true, true, 0)
	for range limits.V2WatcherEvents {
		b.do(put("/1/a"))
	}
	require.Len(t, got(other), limits.V2WatcherEvents)
	b.do(put("/1/a"), put("/1/a"))
	list := got(slow)
	require.Len(t, list, limits.V2WatcherEvents+1)
	require.Equal(t, "closed", list[limits.V2WatcherEvents])
	require.Len(t, got(other), 2)
	require.Equal(t, 1, b.hub.Count())
	slow.Close()
	other.Close()
	other.Close()
	require.Zero(t, b.hub.Count())
}

func TestClose(t *testing.T) {
	b := newBench(t)
	w := b.watch("/1", true, true, 0)
	b.hub.Close()
	require.Equal(t, []string{"closed"}, got(w))
	require.Equal(t, []string{"closed"}, got(b.watch("/1", true, true, 0)))
	w.Close()
}

// TestNothingIsMissed begins watchers while events come: each must see every index from its start.
func TestNothingIsMissed(t *testing.T) {
	b := newBench(t)
	const last = 900
	var done sync.WaitGroup
	for range 4 {
		done.Go(func() {
			for since := uint64(1); since <= last; since++ {
				w, err := b.hub.Watch("/1/a", false, false, since)
				if err != nil {
					t.Error(err)
					return
				}
				if e := <-w.Events(); e.Index != since {
					t.Errorf("event %d where %d belongs", e.Index, since)
				}
				w.Close()
			}
		})
	}
	for range last {
		b.do(put("/1/a"))
	}
	done.Wait()
}
