package v2http_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/v2http"
	"quorate.dev/quorate/v2hub"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

const (
	selfID    = ids.MemberID(0xabc)
	clusterID = ids.ClusterID(0xdef)
	patience  = 2 * time.Minute
)

// fake is a member without a group: what is proposed is applied at once.
type fake struct {
	mu    sync.Mutex
	store *v2store.Store
	view  atomic.Pointer[v2store.View]
	hub   *v2hub.Hub
	table *member.Table
	batch *storage.Batch
	clock *clock.Manual

	// What a test has happen in place of what a member does.
	propose func(ctx context.Context, r *wire.V2Request, as authn.Identity) (*v2store.Event, error)
	change  func(c member.Change, as authn.Identity) error
	may     v2http.May
	admin   error
	v3      map[string]string // passwords of v3's users; not nil: v3 authentication is on
	enabled func() bool       // in place of v3 != nil
	leader  ids.MemberID

	proposed []wire.V2Request
	askers   []authn.Identity
}

func newFake(t testing.TB) *fake {
	t.Helper()
	engine, err := storage.Open("db", storage.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	f := &fake{store: v2store.New(), clock: clock.NewManual(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), leader: selfID}
	if f.table, err = member.Open(engine, 0); err != nil {
		t.Fatal(err)
	}
	f.batch = engine.NewBatch()
	m := member.Member{ID: selfID, PeerURLs: []string{"http://127.0.0.1:2380"}}
	f.apply(t, member.Change{Kind: member.Added, Member: m})
	if err := f.table.SetAttributes(f.batch, selfID, "m1", []string{"http://127.0.0.1:2379", "http://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	if err := f.table.SetVersion(f.batch, "3.7.0"); err != nil {
		t.Fatal(err)
	}
	f.store.Assume(v2store.Founding{Members: 1, Published: 1, Version: true})
	f.view.Store(f.store.Publish())
	f.hub = v2hub.New(f.view.Load())
	t.Cleanup(f.hub.Close)
	return f
}

// View implements v2http.Store.
func (f *fake) View() (*v2store.View, v2http.May) {
	may := f.may
	if may == nil {
		may = func(authn.Identity, string, bool) error { return nil }
	}
	return f.view.Load(), may
}

// Propose implements v2http.Store.
func (f *fake) Propose(ctx context.Context, r *wire.V2Request, as authn.Identity) (*v2store.Event, error) {
	f.mu.Lock()
	f.proposed, f.askers = append(f.proposed, *r), append(f.askers, as)
	f.mu.Unlock()
	if f.propose != nil {
		return f.propose(ctx, r, as)
	}
	return f.do(r)
}

func (f *fake) do(r *wire.V2Request) (*v2store.Event, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ev, err := f.store.Apply(nil, r)
	events := f.store.Events()
	f.view.Store(f.store.Publish())
	f.hub.Publish(f.view.Load(), events)
	return ev, err
}

// Raft implements v2http.Store.
func (f *fake) Raft() (ids.Index, ids.Term) { return 17, 3 }

// Watch implements v2http.Watches.
func (f *fake) Watch(path string, recursive, stream bool, since uint64) (v2http.Watcher, error) {
	w, err := f.hub.Watch(path, recursive, stream, since)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Count implements v2http.Watches.
func (f *fake) Count() int { return f.hub.Count() }

// ID implements v2http.Cluster.
func (f *fake) ID() ids.ClusterID { return clusterID }

// Members implements v2http.Cluster.
func (f *fake) Members() *member.View { return f.table.View() }

// Leader implements v2http.Cluster.
func (f *fake) Leader() ids.MemberID { return f.leader }

// Self implements v2http.Cluster.
func (f *fake) Self() v2http.SelfStats {
	start := f.clock.Now().Add(-time.Minute)
	return v2http.SelfStats{Name: "m1", ID: selfID, State: "StateLeader", Start: start, Leader: f.leader, LeaderSince: start.Add(time.Second), Sent: 3, SentPerSecond: 1.5}
}

// Followers implements v2http.Cluster.
func (f *fake) Followers() (map[ids.MemberID]v2http.FollowerStats, bool) {
	return map[ids.MemberID]v2http.FollowerStats{2: {Current: 1.5, Average: 2, Minimum: 1, Maximum: 3, Succeeded: 7}}, f.leader == selfID
}

// Change implements v2http.Changes.
func (f *fake) Change(_ context.Context, c member.Change, as authn.Identity) error {
	if f.change != nil {
		return f.change(c, as)
	}
	kind, text := c.Proposal()
	data, err := proto.Marshal(&raftpb.ConfChange{Type: kind.Enum(), NodeId: proto.Uint64(uint64(c.Member.ID)), Context: text})
	if err != nil {
		return err
	}
	_, err = f.table.ApplyConfChange(f.batch, data)
	return err
}

func (f *fake) apply(t testing.TB, c member.Change) {
	t.Helper()
	if err := f.Change(context.Background(), c, authn.Identity{}); err != nil {
		t.Fatal(err)
	}
}

// Enabled implements v2http.Users.
func (f *fake) Enabled() bool {
	if f.enabled != nil {
		return f.enabled()
	}
	return f.v3 != nil
}

// Check implements v2http.Users.
func (f *fake) Check(_ context.Context, name, password string) (authn.Identity, error) {
	if want, ok := f.v3[name]; !ok || want != password {
		return authn.Identity{}, fault.AuthFailed
	}
	return authn.Identity{User: name, Revision: 7}, nil
}

// Certified implements v2http.Users.
func (f *fake) Certified(*http.Request) (authn.Identity, bool) { return authn.Identity{}, false }

// Admin implements v2http.Users.
func (f *fake) Admin(who authn.Identity) error {
	if who.User != "root" {
		return fault.PermissionDenied
	}
	return nil
}

// passwords hashes by writing backwards.
type passwords struct{ refuse error }

func (p passwords) Check(a authn.Account, password string, done func(error)) {
	switch {
	case p.refuse != nil:
		done(p.refuse)
	case !a.Known || string(a.Hash) != "hash of "+password:
		done(fault.AuthFailed)
	default:
		done(nil)
	}
}

func (p passwords) Hash(password string, done func(string, error)) {
	if len(password) > 72 {
		done("", errors.New("too long"))
		return
	}
	done("hash of "+password, p.refuse)
}

// serve makes the handler of a fake. edit may change its settings.
func (f *fake) serve(edit ...func(*v2http.Config)) http.Handler {
	c := v2http.Config{
		Backend: v2http.Backend{Store: f, Watches: f, Cluster: f, Changes: f, Users: f}, Passwords: passwords{}, Timeout: patience,
		RequestBytes: 1 << 20, Clock: f.clock, Logger: zap.NewNop(),
	}
	for _, e := range edit {
		e(&c)
	}
	return v2http.New(c)
}

// ask sends a request in memory. form becomes its body unless it is "".
func ask(h http.Handler, method, target, form string, headers ...string) *httptest.ResponseRecorder {
	var body io.Reader
	if form != "" {
		body = strings.NewReader(form)
	}
	r := httptest.NewRequest(method, target, body)
	switch {
	case strings.HasPrefix(form, "{"):
		r.Header.Set("Content-Type", "application/json")
	case form != "":
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}
