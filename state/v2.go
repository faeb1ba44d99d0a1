package state

import (
	"errors"
	"fmt"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

// tree is the tree of the v2 API. In shared mode its files and the v3 keys follow each other.
type tree struct {
	*v2store.Store
	writing bool // v3 keys are being changed by a v2 request: the tree has it already
}

func (m *Machine) openV2() (err error) {
	if m.v2.Store, err = v2store.Open(m.engine); err != nil {
		return err
	}
	m.assume()
	return nil
}

// assume tells a tree that was never asked what index it would have.
func (m *Machine) assume() {
	members := m.members.View()
	f := v2store.Founding{Members: len(members.Members()), Removed: members.RemovedCount(), Version: members.Version() != ""}
	for i := range members.Members() {
		if len(members.Members()[i].ClientURLs) > 0 { // a founder has its name from the start
			f.Published++
		}
	}
	m.v2.Assume(f)
}

// ofMembers says what the tree counts of a change of membership.
var ofMembers = [...]v2store.ClusterChange{
	member.Added: v2store.MemberAdded, member.Promoted: v2store.MemberUpdated, member.Updated: v2store.MemberUpdated, member.Removed: v2store.MemberRemoved,
}

func (m *Machine) clusterChanged(what v2store.ClusterChange) {
	if m.v2.Started() {
		m.v2.Tick(m.batch, what)
	} else {
		m.assume()
	}
}

// v2 applies a request of the v2 API. What it did to files is done to v3 keys too, in shared mode.
func v2(m *Machine, body []byte, r *command.Result) error {
	var req wire.V2Request
	if err := decode(command.V2, &req, body); err != nil {
		return err
	}
	if m.alarms.noSpace && takesSpace(&req) {
		return fault.NoSpace
	}
	if shares(&req) {
		return m.share(r)
	}
	before := len(m.v2.Events())
	shared := m.v2.Mode() == v2store.Shared
	if canary.On(canary.V2ExpireLocal) && req.Method == "SYNC" && m.config.Member%2 == 0 {
		req.Time += 1_000_000_000
	}
	e, err := m.v2.Apply(m.batch, &req)
	if err != nil {
		return err
	}
	r.V2 = e
	if shared {
		var changes []v2store.KeyChange
		for _, e := range m.v2.Events()[before:] {
			if canary.On(canary.V2KeyLeft) && e.Action == v2store.ActionExpire {
				continue
			}
			changes = append(changes, e.KeyChanges()...)
		}
		m.changeKeys(m.keys.Begin(m.batch), changes)
	}
	return nil
}

// takesSpace says whether a NOSPACE alarm refuses a request.
func takesSpace(req *wire.V2Request) bool {
	return req.Method == "PUT" || req.Method == "POST" || shares(req)
}

// shares says whether a request begins shared mode.
func shares(req *wire.V2Request) bool {
	return req.Method == "MODE" && req.Val == v2store.Shared.String()
}

// changeKeys does to v3 keys what a request did to files, as one revision, and ends the Tx.
func (m *Machine) changeKeys(tx *mvcc.Tx, changes []v2store.KeyChange) {
	for _, c := range changes {
		if c.Value == nil {
			tx.DeleteRange([]byte(c.Key), nil)
		} else {
			tx.Put(&wire.PutRequest{Key: []byte(c.Key), Value: []byte(*c.Value)})
		}
	}
	m.v2.writing = true
	m.end(tx)
	m.v2.writing = false
}

// follow does to files what a command did to v3 keys.
func (m *Machine) follow(events *mvcc.EventBatch) {
	for i := range events.Events {
		e := &events.Events[i]
		if e.Type == wire.EventDelete {
			m.v2.KeyDeleted(m.batch, e.Key)
		} else {
			m.v2.KeyPut(m.batch, e.Key, wire.ValueOf(e.KV))
		}
	}
}

// share begins shared mode.
func (m *Machine) share(r *command.Result) error {
	tx := m.keys.Begin(m.batch)
	missing, err := m.v2.Share(m.batch, txKeys{tx})
	var refused *v2store.Error
	if err != nil && !errors.As(err, &refused) {
		m.failed = fmt.Errorf("state: read the keys that are to be shared: %w", err)
	}
	m.changeKeys(tx, missing)
	if err == nil {
		r.V2 = &v2store.Event{Action: "mode", Index: m.v2.Index()}
	}
	return err
}

// txKeys are the v3 keys as a Tx sees them.
type txKeys struct{ *mvcc.Tx }

// sharePage is how many keys are looked at in one piece.
const sharePage = 1000

// Value implements v2store.SharedKeys.
func (t txKeys) Value(key string) (value string, ok bool, err error) {
	resp, err := t.Range(&wire.RangeRequest{Key: []byte(key)})
	if err != nil || len(resp.KVs) == 0 {
		return "", false, err
	}
	return string(wire.ValueOf(resp.KVs[0])), true, nil
}

// Each implements v2store.SharedKeys.
func (t txKeys) Each(f func(key, value []byte)) error {
	from := []byte{'/'}
	for {
		resp, err := t.Range(&wire.RangeRequest{Key: from, RangeEnd: []byte{'/' + 1}, Limit: sharePage})
		if err != nil {
			return err
		}
		for _, kv := range resp.KVs {
			f(wire.KeyOf(kv), wire.ValueOf(kv))
		}
		if len(resp.KVs) < sharePage {
			return nil
		}
		from = append(append([]byte(nil), wire.KeyOf(resp.KVs[len(resp.KVs)-1])...), 0)
	}
}

// permittedV2 decides a request of the v2 API while v3 authentication is enabled. A tree of its own is not its business: v2 has users
// of its own. In shared mode nobody reaches a key through v2 who may not reach it through v3: a write needs the permission to write
// and, because its answer shows what was there before, to read. What is not below /1 only the role root may touch.
func (m *Machine) permittedV2(c *command.Command) error {
	var req wire.V2Request
	if m.v2.Mode() != v2store.Shared || req.Unmarshal(c.Body) != nil {
		return nil
	}
	r := auth.Request{Method: auth.MethodUserAdd} // for the role root
	switch req.Method {
	case "SYNC", "MODE":
		return nil // members propose these; no client can
	case "PUT", "POST", "DELETE", "QGET":
		if path := m.v2.Target(&req); v2store.Readable(path) {
			r = auth.Request{Method: auth.MethodPut, Ops: m.v2Ops(&req, path)}
		}
	}
	return m.auth.May(auth.Identity{User: c.Username, Revision: c.AuthRevision}, &r, m.leases)
}

// v2Ops says what a request for a path below /1 does with v3 keys.
func (m *Machine) v2Ops(req *wire.V2Request, path string) []auth.Op {
	below := req.Method == "DELETE" && req.Recursive || req.Method == "QGET" && (req.Recursive || m.v2.IsDir(path))
	write := auth.Write
	if req.Method == "DELETE" {
		write = auth.Delete
	}
	var ops []auth.Op
	if puts := req.Method == "PUT" || req.Method == "POST"; puts && req.Expiration != 0 && (req.Dir || m.v2.IsDir(path)) {
		// With the directory ends what is in it then, whoever put it there.
		for _, in := range v2store.KeyRanges(path, true) {
			ops = append(ops, auth.Op{Kind: auth.Delete, Key: in[0], End: in[1]})
		}
	}
	for _, in := range v2store.KeyRanges(path, below) {
		ops = append(ops, auth.Op{Kind: auth.Read, Key: in[0], End: in[1]})
		if req.Method != "QGET" {
			ops = append(ops, auth.Op{Kind: write, Key: in[0], End: in[1]})
		}
	}
	return ops
}

// MayReadV2 decides whether somebody may read a path of the v2 tree, as permittedV2 does: nil in separate mode, else as v3
// decides a range of the key, and with below, or when the path is a directory's, of all keys under it.
func (v *View) MayReadV2(id auth.Identity, path string, below bool) error {
	if v.V2.Mode() != v2store.Shared {
		return nil
	}
	r := auth.Request{Method: auth.MethodUserAdd}
	if path = v2store.Clean(path); v2store.Readable(path) {
		r = auth.Request{Method: auth.MethodRange}
		for _, in := range v2store.KeyRanges(path, below || v.V2.IsDir(path)) {
			r.Ops = append(r.Ops, auth.Op{Kind: auth.Read, Key: in[0], End: in[1]})
		}
	}
	return v.Auth.May(id, &r, v.Leases)
}
