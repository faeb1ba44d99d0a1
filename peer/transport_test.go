package peer

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
)

const patience = 2 * time.Minute // for what must happen; it decides nothing when all is well

// member is a transport behind an HTTP server, and what it received.
type member struct {
	*Transport
	web *httptest.Server

	mu          sync.Mutex
	got         []*raftpb.Message
	unreachable map[ids.MemberID]int
	removed     map[ids.MemberID]bool
	expelled    error
}

func (m *member) Receive(x *raftpb.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.got = append(m.got, x)
}

func (m *member) Unreachable(id ids.MemberID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unreachable[id]++
}

func (m *member) Removed(id ids.MemberID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.removed[id]
}

func (m *member) Expelled(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expelled = err
}

func (m *member) messages() []*raftpb.Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]*raftpb.Message(nil), m.got...)
}

func start(t *testing.T, id ids.MemberID, change ...func(*Config)) *member {
	m := &member{unreachable: map[ids.MemberID]int{}, removed: map[ids.MemberID]bool{}}
	m.web = httptest.NewUnstartedServer(nil)
	c := Config{Member: id, Cluster: 0xc1, URLs: []string{"http://" + m.web.Listener.Addr().String()}, Version: "3.7.3", MinVersion: "3.0.0", Receiver: m}
	for _, f := range change {
		f(&c)
	}
	var err error
	m.Transport, err = New(c)
	require.NoError(t, err)
	m.web.Config.Handler = m.Handler()
	m.web.Start()
	t.Cleanup(func() {
		m.Close()
		m.web.CloseClientConnections()
		m.web.Close()
	})
	return m
}

// acquaint makes the members know each other.
func acquaint(all ...*member) {
	for _, m := range all {
		for _, other := range all {
			m.Add(other.cfg.Member, []string{other.web.URL})
		}
	}
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, patience, time.Millisecond, what)
}

// linkedBoth waits until a member has both streams to write to another.
func linkedBoth(t *testing.T, from *member, to ids.MemberID) {
	t.Helper()
	until(t, "both streams are asked for", func() bool {
		r := from.remote(to)
		return r != nil && r.out[appends].served() && r.out[others].served()
	})
}

func beat(from, to ids.MemberID, term uint64) *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(uint64(from)), To: proto.Uint64(uint64(to)), Term: proto.Uint64(term)}
}

// TestMessagesArriveInOrder sends appends and other messages both ways; each stream keeps its order.
func TestMessagesArriveInOrder(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	acquaint(a, b)
	linkedBoth(t, a, 2)
	linkedBoth(t, b, 1)
	const n = 1000
	for i := range uint64(n) {
		app := appendOf(3, 3, i, int(i%50))
		app.From, app.To = proto.Uint64(1), proto.Uint64(2)
		a.Send([]*raftpb.Message{app, beat(1, 2, i)})
		b.Send([]*raftpb.Message{beat(2, 1, i)})
	}
	arrived := func(all []*raftpb.Message) (things int) { // appends that waited together are one
		for _, m := range all {
			things += max(1, len(m.GetEntries()))
		}
		return things
	}
	until(t, "all have arrived", func() bool { return arrived(b.messages()) == 2*n && len(a.messages()) == n })
	var apps, beats uint64
	for _, m := range b.messages() {
		if m.GetType() == raftpb.MsgApp {
			require.Equal(t, apps, m.GetIndex())
			for _, e := range m.GetEntries() {
				apps++
				require.Equal(t, apps, e.GetIndex())
			}
		} else {
			require.Equal(t, beats, m.GetTerm())
			beats++
		}
	}
	require.False(t, a.ActiveSince(2).IsZero())
	require.True(t, a.ActiveSince(9).IsZero(), "a stranger")
	require.Zero(t, a.Stats())
}

// TestStreamsComeBack cuts all connections and starts a member again at another address.
func TestStreamsComeBack(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	acquaint(a, b)
	linkedBoth(t, a, 2)
	b.web.CloseClientConnections()
	a.web.CloseClientConnections()
	again := start(t, 2)
	b.Close()
	b.web.Close()
	until(t, "the loss is noticed", func() bool { return a.ActiveSince(2).IsZero() })
	a.Update(2, []string{again.web.URL})
	again.Add(1, []string{a.web.URL})
	linkedBoth(t, a, 2)
	a.Send([]*raftpb.Message{beat(1, 2, 7)})
	until(t, "it arrives", func() bool { return len(again.messages()) > 0 })
	require.EqualValues(t, 7, again.messages()[0].GetTerm())
}

// TestMessagesGoByPost sends to a member that never asks for streams, as one that was just added.
func TestMessagesGoByPost(t *testing.T) {
	a, b := start(t, 1, func(c *Config) { c.URLs = nil }), start(t, 2) // so that the other does not come to know it
	a.Add(2, []string{b.web.URL})
	a.Send([]*raftpb.Message{beat(1, 2, 5), beat(1, 3, 5)})
	until(t, "it arrives", func() bool { return len(b.messages()) == 1 })
	b.web.Close()
	a.Send([]*raftpb.Message{beat(1, 2, 6)})
	until(t, "the failure is reported", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.unreachable[2] > 0
	})
	require.EqualValues(t, 1, a.Stats().Failed)
}

// TestRemovedMember checks that one who was removed hears of it on every way.
func TestRemovedMember(t *testing.T) {
	for _, way := range []string{"stream", "post"} {
		t.Run(way, func(t *testing.T) {
			a, b := start(t, 1), start(t, 2)
			b.mu.Lock()
			b.removed[1] = true
			b.mu.Unlock()
			if way == "stream" {
				a.Add(2, []string{b.web.URL})
			} else {
				r := &remote{t: a.Transport, id: 2, urls: []string{b.web.URL}, ctx: t.Context()}
				require.ErrorIs(t, r.postOnce(beat(1, 2, 1)), ErrRemoved)
				return
			}
			until(t, "it is told", func() bool {
				a.mu.Lock()
				defer a.mu.Unlock()
				return a.expelled != nil
			})
			a.mu.Lock()
			defer a.mu.Unlock()
			require.ErrorIs(t, a.expelled, ErrRemoved)
		})
	}
}

// TestSlowMember checks that what goes to a member that takes nothing is bounded, and does not hold up another.
func TestSlowMember(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	acquaint(a, b)
	linkedBoth(t, a, 2)
	// Nobody reads this connection.
	stuck := a.remote(2)
	a.Add(3, []string{"http://127.0.0.1:1"})
	slow := a.remote(3)
	end := slow.out[appends].serve()
	big := appendOf(3, 3, 1, limits.PeerQueueBytes/4)
	big.From, big.To = proto.Uint64(1), proto.Uint64(3)
	for range 10 {
		a.Send([]*raftpb.Message{big})
	}
	require.EqualValues(t, 6, a.Stats().Dropped)
	require.Len(t, slow.out[appends].take(), 4)
	require.True(t, slow.out[appends].leave(end))
	a.Send([]*raftpb.Message{beat(1, 2, 9)})
	until(t, "the other one gets its message", func() bool { return len(b.messages()) == 1 })
	require.True(t, stuck.out[others].served())
}

// TestRefusals asks for streams and sends messages that must not be taken.
func TestRefusals(t *testing.T) {
	a := start(t, 1)
	a.mu.Lock()
	a.removed[4] = true
	a.mu.Unlock()
	a.Add(2, []string{"http://127.0.0.1:1"})
	head := func(change ...string) http.Header {
		h := http.Header{}
		other := &Transport{cfg: Config{Member: 2, Cluster: 0xc1, Version: "3.7.3", MinVersion: "3.0.0"}}
		other.identify(h)
		h.Set(headerTo, "1")
		for i := 0; i < len(change); i += 2 {
			h.Set(change[i], change[i+1])
		}
		return h
	}
	message := func(m *raftpb.Message) []byte {
		b, err := proto.Marshal(m)
		require.NoError(t, err)
		return b
	}
	for _, c := range []struct {
		method, path string
		header       http.Header
		body         []byte
		code         int
		text         string
	}{
		{"POST", "/raft/stream/msgapp/2", head(), nil, 405, "Method Not Allowed\n"},
		{"GET", "/raft", head(), nil, 405, "Method Not Allowed\n"},
		{"GET", "/raft/stream/bogus/2", head(), nil, 404, "invalid path\n"},
		{"GET", "/raft/stream/msgapp", head(), nil, 404, "invalid path\n"},
		{"GET", "/raft/stream/msgapp/xyz", head(), nil, 404, "invalid from\n"},
		{"GET", "/raft/stream/msgapp/3", head(), nil, 404, "error sender not found\n"},
		{"GET", "/raft/stream/msgapp/4", head(), nil, 410, "removed member\n"},
		{"GET", "/raft/stream/msgapp/2", head(headerTo, "7"), nil, 412, "to field mismatch\n"},
		{"GET", "/raft/stream/msgapp/2", head(headerCluster, "c2"), nil, 412, "cluster ID mismatch\n"},
		{"GET", "/raft/stream/msgapp/2", head(headerVersion, "2.3.0"), nil, 412, "incompatible version\n"},
		{"GET", "/raft/stream/msgapp/2", head(headerMinVersion, "4.0.0"), nil, 412, "incompatible version\n"},
		{"POST", "/raft", head(), []byte{0xff}, 400, "error unmarshalling raft message\n"},
		{"POST", "/raft", head(), message(beat(2, 7, 1)), 403, "{\"message\":\"cannot process message to mismatch member\"}\n"},
		{"POST", "/raft", head(), message(beat(4, 1, 1)), 403, "{\"message\":\"cannot process message from removed member\"}\n"},
		{"POST", "/raft", head(), message(beat(2, 1, 1)), 204, ""},
		{"GET", "/raft/else", head(), nil, 404, "404 page not found\n"},
	} {
		t.Run(fmt.Sprintf("%s %s %d", c.method, c.path, c.code), func(t *testing.T) {
			req, err := http.NewRequest(c.method, a.web.URL+c.path, bytes.NewReader(c.body))
			require.NoError(t, err)
			req.Header = c.header
			resp, err := http.DefaultTransport.RoundTrip(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, c.code, resp.StatusCode)
			require.Equal(t, c.text, string(body))
		})
	}
	require.Len(t, a.messages(), 1)
}

// TestRemoveEndsEverything checks that no goroutine of a member stays when it is removed.
func TestRemoveEndsEverything(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	acquaint(a, b)
	linkedBoth(t, a, 2)
	r := a.remote(2)
	a.Remove(2)
	require.Nil(t, a.remote(2))
	r.done.Wait()
	until(t, "the other side notices", func() bool { return b.ActiveSince(1).IsZero() })
	a.Send([]*raftpb.Message{beat(1, 2, 1)})
	require.Empty(t, b.messages())
}

// TestProbe checks that the distance of a member is known.
func TestProbe(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	acquaint(a, b)
	d, err := a.remote(2).probeOnce()
	require.NoError(t, err)
	require.Positive(t, d)
}

func TestConfigErrors(t *testing.T) {
	_, err := New(Config{Member: 1, Cluster: 2})
	require.ErrorContains(t, err, "a receiver")
	_, err = New(Config{Member: 1, Cluster: 2, Receiver: &member{}, Version: "x", MinVersion: "3.0.0"})
	require.ErrorContains(t, err, `version "x" is not three numbers`)
}

// TestStrangersMeet has a member talk to one that does not know it yet, as one that has just joined knows nobody: it learns the
// address and answers. One that was removed stays a stranger.
func TestStrangersMeet(t *testing.T) {
	a, b, c := start(t, 1), start(t, 2), start(t, 3)
	b.mu.Lock()
	b.removed[3] = true
	b.mu.Unlock()
	a.Add(2, []string{b.web.URL})
	c.Add(2, []string{b.web.URL})
	until(t, "b is connected with a", func() bool { return !b.ActiveSince(1).IsZero() })
	b.Send([]*raftpb.Message{beat(2, 1, 5)})
	until(t, "the answer arrives", func() bool { return len(a.messages()) == 1 })
	require.True(t, b.ActiveSince(3).IsZero())
}
