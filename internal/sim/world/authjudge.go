package world

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sort"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
)

// applications is how each entry of the log was decided, and what follows of it for users and roles.
type applications struct {
	outcomes []outcome // of the entries from 1 on
	admins   []*admin
	canons   []*canon           // ascending by since; none without authentication
	tokens   []state.AuthChange // what the entries say to those who keep tokens
	heard    []ids.Index        // the entries of tokens
	attached map[string]int64   // the lease of each key that has one
	seen     ids.Revision       // up to which attached has all events
	shared   bool               // the v2 tree shares the keys
}

// outcome is how an entry was decided.
type outcome struct {
	member   string // that applied it first; "": nobody was seen to
	entry    uint32 // a hash of it
	refusal  string
	revision ids.Revision
}

// frontier is the newest entry that any member has applied. What comes behind a read's barrier later has seen it.
func (a *applications) frontier() ids.Index { return ids.Index(len(a.outcomes)) }

// at is users and roles after an entry.
func (a *applications) at(index ids.Index) *canon {
	n := sort.Search(len(a.canons), func(i int) bool { return a.canons[i].since > index })
	return a.canons[n-1]
}

// decided judges what a member has applied: as all others did, and as users and roles have it. before is what it had applied before.
func (w *World) decided(m *Member, before ids.Index, cmds []command.Command, results []command.Result, effects *state.Effects) {
	a := &w.applications
	if w.guarded() && len(a.canons) == 0 {
		a.canons, a.attached = []*canon{{revision: 1, users: map[string]profile{}, roles: map[string][]*authpb.Permission{}}}, map[string]int64{}
	}
	events := 0
	for i := range cmds {
		c, r := &cmds[i], &results[i]
		if c.Index <= before {
			continue
		}
		for a.frontier()+1 < c.Index {
			a.outcomes = append(a.outcomes, outcome{})
		}
		o := outcome{member: m.name, entry: hashOf(c), revision: r.Revision}
		if r.Err != nil {
			o.refusal = r.Err.Error()
		}
		switch {
		case c.Index > a.frontier():
			a.outcomes = append(a.outcomes, o)
			if w.guarded() {
				w.conform(m, c, r)
			}
		case a.outcomes[c.Index-1].member != "":
			switch first := a.outcomes[c.Index-1]; {
			case first.entry != o.entry:
				w.violate("agreement", "entry %d is not the same for %s and for %s, which has %s of %q", c.Index, first.member, m.name, c.Kind, c.Username)
			case first.refusal != o.refusal || first.revision != o.revision:
				w.violate("decision", "entry %d, %s of %q: %s has revision %d, refusal %q; %s has revision %d, refusal %q",
					c.Index, c.Kind, c.Username, first.member, first.revision, first.refusal, m.name, o.revision, o.refusal)
			}
		}
		for ; w.guarded() && events < len(effects.Events) && effects.Events[events].Revision <= r.Revision; events++ {
			if b := effects.Events[events]; b.Revision > a.seen {
				a.seen = b.Revision
				for j := range b.Events {
					a.attach(b.Events[j].KV)
				}
			}
		}
	}
	if w.guarded() {
		w.sameUsers(m, before, effects)
	}
}

// hashOf is what tells an entry from another one. Its ID is shown to the member alone where somebody waits for it.
func hashOf(c *command.Command) uint32 {
	var head [17]byte
	binary.LittleEndian.PutUint64(head[:], uint64(c.Term))
	binary.LittleEndian.PutUint64(head[8:], c.AuthRevision)
	head[16] = byte(c.Kind)
	return crc32.Update(crc32.Update(crc32.ChecksumIEEE(head[:]), crc32.IEEETable, []byte(c.Username)), crc32.IEEETable, c.Body)
}

// attach learns from an event which lease a key has.
func (a *applications) attach(encoded []byte) {
	kv := &mvccpb.KeyValue{}
	if err := proto.Unmarshal(encoded, kv); err != nil {
		panic(err)
	}
	delete(a.attached, string(kv.Key))
	if kv.Lease != 0 {
		a.attached[string(kv.Key)] = kv.Lease
	}
}

// keysOf are the keys of a lease, in any order.
func (a *applications) keysOf(lease int64) (keys []string, ok bool) {
	for key, l := range a.attached {
		if l == lease {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, true
}

// conform judges an entry that nobody had applied before, and takes it.
func (w *World) conform(m *Member, c *command.Command, r *command.Result) {
	a := &w.applications
	v := a.canons[len(a.canons)-1]
	n := needOf(c)
	if c.Kind == command.V2 && !a.shared {
		n = need{}
	}
	want, _ := v.decide(auth.Identity{User: c.Username, Revision: c.AuthRevision}, &n, a.keysOf)
	var d *draft
	ours := false
	if want == nil {
		d, want, ours = v.change(c)
	} else {
		w.counts.Overtaken++
	}
	switch {
	case want == nil && (r.Err == nil || !ours && !denied(r.Err)):
	case want != nil && errors.Is(r.Err, want):
	default:
		w.violate("decision", "%s answers entry %d, %s of %q at revision %d of users and roles, with %v; by those of entry %d, revision %d, enabled %t, it is %v",
			m.name, c.Index, c.Kind, c.Username, c.AuthRevision, r.Err, v.since, v.revision, v.enabled, want)
	}
	if c.Kind == command.V2 && r.Err == nil {
		a.shares(c)
	}
	if want != nil || !ours {
		return
	}
	if d.enabled != v.enabled || d.revision != v.revision {
		next := d.canon
		a.canons = append(a.canons, &next)
	}
	for _, t := range d.tokens {
		a.tokens, a.heard = append(a.tokens, t), append(a.heard, c.Index)
	}
}

// sameUsers judges what a member knows of users and roles after a batch, and what it was told for those who keep tokens.
func (w *World) sameUsers(m *Member, before ids.Index, effects *state.Effects) {
	a := &w.applications
	view := m.state.View()
	want := a.at(view.Applied)
	if view.Auth.Enabled() != want.enabled || view.Auth.Revision() != want.revision {
		w.violate("decision", "%s at index %d has users and roles of revision %d, enabled %t; by entry %d it is %d, %t",
			m.name, view.Applied, view.Auth.Revision(), view.Auth.Enabled(), want.since, want.revision, want.enabled)
	}
	if m.users != want {
		m.users = want
		w.sameHash(m, view.Auth, want)
	}
	from := sort.Search(len(a.heard), func(i int) bool { return a.heard[i] > before })
	to := sort.Search(len(a.heard), func(i int) bool { return a.heard[i] > view.Applied })
	if !slices.Equal(a.tokens[from:to], effects.Auth) {
		w.violate("tokens", "%s was told %v of tokens after the entries from %d to %d: it is %v", m.name, effects.Auth, before+1, view.Applied, a.tokens[from:to])
	}
}

// sameHash compares users and roles of two members, with what follows of them for decisions.
func (w *World) sameHash(m *Member, v *auth.View, at *canon) {
	hash := v.Hash()
	switch {
	case at.member == "":
		at.member, at.hash = m.name, hash
	case at.hash != hash:
		w.violate("divergence", "%s and %s differ in users and roles of entry %d: %08x and %08x", at.member, m.name, at.since, at.hash, hash)
	}
}

// judgeFront judges what a member decides outside the log, by what it has applied. q is the request, nil for what needs the role root.
// floor is what it must have applied.
func (w *World) judgeFront(m *Member, id auth.Identity, r *auth.Request, q *check.Request, got error, floor ids.Index) {
	if w.stopped {
		return
	}
	a, at := &w.applications, m.state.View().Applied
	if at < floor {
		w.violate("decision", "%s decides %s of %q behind the barrier at index %d, and entry %d had been applied before", m.name, r.Method, id.User, at, floor)
	}
	v := &canon{}
	if len(a.canons) > 0 {
		v = a.at(at)
	}
	n := frontNeed(r, q)
	want, sure := v.decide(id, &n, func(int64) ([]string, bool) { return nil, false })
	if got != nil && denied(got) {
		w.counts.Denied++
	}
	if sure && !errors.Is(got, want) || !sure && got != nil && !errors.Is(got, fault.PermissionDenied) && !errors.Is(got, fault.AuthOldRevision) {
		w.violate("decision", "%s at index %d answers %s of %q at revision %d of users and roles with %v; by entry %d, revision %d, enabled %t, it is %v",
			m.name, at, r.Method, id.User, id.Revision, got, v.since, v.revision, v.enabled, want)
	}
}

// frontNeed is what a request needs before it is in the log.
func frontNeed(r *auth.Request, q *check.Request) need {
	if q == nil {
		return need{level: ofRoot}
	}
	switch q.Kind {
	case check.Range:
		return need{level: ofKeys, touches: []touch{{key: q.Key, end: q.End}}}
	case check.Put:
		return need{level: ofKeys, touches: putTouches(putOf(*q))}
	case check.Delete:
		return need{level: ofKeys, touches: deleteTouches(deleteOf(*q))}
	case check.Grant:
		return need{level: someone}
	case check.Revoke:
		return need{level: ofLease, lease: int64(r.Lease)}
	case check.Compact:
		return need{level: ofRoot}
	}
	return need{level: ofKeys, touches: txnTouches(txnOf(*q))}
}

// compareUsers compares what members have stored of users and roles in the end.
func (w *World) compareUsers() {
	var first string
	var want uint32
	for _, m := range w.members {
		if !m.up {
			continue
		}
		got, err := m.storedUsers()
		switch {
		case err != nil:
			w.violate("broken", "the users and roles that %s has stored cannot be read: %v", m.name, err)
		case first == "":
			first, want = m.name, got
		case got != want:
			w.violate("divergence", "%s and %s have stored other users and roles in the end: %08x and %08x", first, m.name, want, got)
		}
	}
}

// storedUsers is a hash of all records of users and roles.
func (m *Member) storedUsers() (hash uint32, err error) {
	image := m.state.Image()
	defer func() { err = errors.Join(err, image.Close()) }()
	for _, bucket := range []byte{storage.BucketAuth, storage.BucketAuthUsers, storage.BucketAuthRoles} {
		it, err := image.Frozen.Iter(storage.BucketBounds(bucket))
		if err != nil {
			return 0, err
		}
		for ok := it.First(); ok; ok = it.Next() {
			hash = crc32.Update(hash, crc32.IEEETable, fmt.Appendf(nil, "%q=%q;", it.Key(), it.Value()))
		}
		if err := it.Close(); err != nil {
			return 0, err
		}
	}
	return hash, nil
}

// Guarding counts what has to do with authentication.
type Guarding struct {
	AuthChanges int // of users and roles that were acknowledged
	Denied      int // requests that a member refused for who asked
	Overtaken   int // entries that were refused, since users or roles had changed meanwhile
}

func (g *Guarding) add(o Guarding) {
	g.AuthChanges += o.AuthChanges
	g.Denied += o.Denied
	g.Overtaken += o.Overtaken
}
