package auth_test

import (
	"slices"
	"strings"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/wire"
)

// universe are the keys that the model looks at: those that requests and permissions name, and after each the next one that
// there is. Range ends are of the universe too. So what lies between two neighbours is decided like the lower one, and
// looking at these keys alone is looking at all.
var (
	named    = []string{"\x00", "a", "aa", "ab", "b", "ba", "c", "d"}
	universe = func() (out []string) {
		for _, k := range named {
			out = append(out, k, k+"\x00")
		}
		slices.Sort(out)
		return out
	}()
)

// inRange says whether a key is in the interval that a key and a range end of the API mean.
func inRange(k, key, end string) bool {
	switch end {
	case "":
		return k == key
	case "\x00":
		return k >= key
	}
	return key <= k && k < end
}

// modelPerm is a permission.
type modelPerm struct {
	key, end    string
	read, write bool
}

// model is what package auth does, in the simplest way that is right: maps, and every key looked at by itself.
type model struct {
	enabled  bool
	revision uint64
	users    map[string]map[string]bool // to their roles
	roles    map[string][]modelPerm
	leases   map[ids.LeaseID][]string
}

func newModel() *model {
	return &model{revision: 1, users: map[string]map[string]bool{}, roles: map[string][]modelPerm{},
		leases: map[ids.LeaseID][]string{}}
}

// need is one key that is read or written.
type need struct {
	key   string
	write bool
}

// keys lists the needs for an interval. One without keys needs its first.
func keysOf(key, end string, write bool) []need {
	out := []need{{key, write}}
	for _, k := range universe {
		if inRange(k, key, end) {
			out = append(out, need{k, write})
		}
	}
	return out
}

func (m *model) attached(lease ids.LeaseID, write bool) []need {
	var out []need
	for _, k := range m.leases[lease] {
		out = append(out, need{k, write})
	}
	return out
}

func (m *model) put(p *wire.PutRequest) []need {
	out := keysOf(string(p.Key), "", true)
	if p.PrevKV {
		out = append(out, keysOf(string(p.Key), "", false)...)
	}
	return append(out, m.attached(ids.LeaseID(p.Lease), true)...)
}

func (m *model) delete(d *wire.DeleteRangeRequest) []need {
	out := keysOf(string(d.Key), string(d.RangeEnd), true)
	if d.PrevKV {
		out = append(out, keysOf(string(d.Key), string(d.RangeEnd), false)...)
	}
	return out
}

func (m *model) txn(t *wire.TxnRequest) []need {
	var out []need
	for _, c := range t.Compare {
		out = append(out, keysOf(string(c.Key), string(c.RangeEnd), false)...)
	}
	for _, op := range append(slices.Clone(t.Success), t.Failure...) {
		if op.Range != nil {
			out = append(out, keysOf(string(op.Range.Key), string(op.Range.RangeEnd), false)...)
		}
		if op.Put != nil {
			out = append(out, m.put(op.Put)...)
		}
		if op.DeleteRange != nil {
			out = append(out, m.delete(op.DeleteRange)...)
		}
		if op.Txn != nil {
			out = append(out, m.txn(op.Txn)...)
		}
	}
	return out
}

// ask is a request in the terms of the model: what the client sent.
type ask struct {
	method string
	get    *wire.RangeRequest
	put    *wire.PutRequest
	delete *wire.DeleteRangeRequest
	txn    *wire.TxnRequest
	watch  *wire.WatchCreateRequest
	lease  ids.LeaseID
	keys   bool
	name   string // of a user or role
	alarms bool   // only lists alarms
}

// needs lists what a request does with keys.
func (m *model) needs(a *ask) []need {
	switch {
	case a.get != nil:
		return keysOf(string(a.get.Key), string(a.get.RangeEnd), false)
	case a.put != nil:
		return m.put(a.put)
	case a.delete != nil:
		return m.delete(a.delete)
	case a.txn != nil:
		return m.txn(a.txn)
	case a.watch != nil:
		key := string(a.watch.Key)
		if key == "" {
			key = "\x00"
		}
		return keysOf(key, string(a.watch.RangeEnd), false)
	}
	return nil
}

// The rules of contract and etcd, by method.
var (
	forAnybody = "AuthStatus Authenticate Health Reflection"
	forUsers   = "LeaseGrant MemberList Status"
	forRoot    = "Compact Defragment Snapshot Hash HashKV MoveLeader Downgrade MemberAdd MemberRemove MemberUpdate MemberPromote AuthEnable " +
		"AuthDisable UserAdd UserDelete UserChangePassword UserGrantRole UserRevokeRole UserList RoleAdd RoleDelete " +
		"RoleGrantPermission RoleRevokePermission RoleList"
	forKeys = "Range RangeStream Put DeleteRange Txn Watch Lock Unlock Campaign Proclaim Leader Observe Resign"
)

func among(list, method string) bool { return slices.Contains(strings.Fields(list), method) }

// short is the last part of a method's name, and Health or Reflection for those services.
func short(full string) string {
	switch parts := strings.Split(full, "/"); {
	case strings.HasPrefix(full, "/grpc.health"):
		return "Health"
	case strings.HasPrefix(full, "/grpc.reflection"):
		return "Reflection"
	default:
		return parts[len(parts)-1]
	}
}

// decide is the model's May.
func (m *model) decide(id auth.Identity, a *ask) error {
	method := short(a.method)
	known := id.User != ""
	isRoot := m.users[id.User]["root"]
	switch {
	case !m.enabled || among(forAnybody, method):
		return nil
	case among(forUsers, method) || method == "Alarm" && a.alarms:
		return m.user(known)
	case among(forRoot, method) || method == "Alarm":
		return m.root(id)
	case method == "UserGet" && known && id.User == a.name, method == "RoleGet" && m.users[id.User][a.name]:
		return nil
	case method == "UserGet", method == "RoleGet":
		return m.root(id)
	case among(forKeys, method):
		if err := m.fresh(id); err != nil {
			return err
		}
		return m.all(id.User, m.needs(a))
	case among("LeaseRevoke LeaseKeepAlive", method):
		return m.onLease(id, isRoot, m.attached(a.lease, true))
	case method == "LeaseTimeToLive":
		if !a.keys {
			return m.user(known)
		}
		return m.onLease(id, isRoot, m.attached(a.lease, false))
	case method == "LeaseLeases":
		var all []need
		for l := range m.leases {
			all = append(all, m.attached(l, false)...)
		}
		return m.onLease(id, isRoot, all)
	}
	return fault.PermissionDenied
}

func (m *model) user(known bool) error {
	if !known {
		return fault.UserEmpty
	}
	return nil
}

func (m *model) root(id auth.Identity) error {
	if id.User == "" {
		return fault.UserEmpty
	}
	roles, exists := m.users[id.User]
	if !exists {
		return fault.UserNotFound
	}
	if !roles["root"] {
		return fault.PermissionDenied
	}
	return nil
}

func (m *model) onLease(id auth.Identity, isRoot bool, needs []need) error {
	if id.User == "" {
		return fault.UserEmpty
	}
	if isRoot || len(needs) == 0 {
		return nil
	}
	if err := m.fresh(id); err != nil {
		return err
	}
	return m.all(id.User, needs)
}

func (m *model) fresh(id auth.Identity) error {
	if id.Revision == 0 {
		return fault.UserEmpty
	}
	if id.Revision < m.revision {
		return fault.AuthOldRevision
	}
	if _, exists := m.users[id.User]; !exists {
		return fault.PermissionDenied
	}
	return nil
}

func (m *model) all(user string, needs []need) error {
	for _, n := range needs {
		if !m.allowed(user, n) {
			return fault.PermissionDenied
		}
	}
	return nil
}

func (m *model) allowed(user string, n need) bool {
	if m.users[user]["root"] {
		return true
	}
	for role := range m.users[user] {
		for _, p := range m.roles[role] {
			if inRange(n.key, p.key, p.end) && (n.write && p.write || !n.write && p.read) {
				return true
			}
		}
	}
	return false
}

// The changes, as the contract has them.

func (m *model) changed(err error) error {
	if err == nil {
		m.revision++
	}
	return err
}

func (m *model) enable() error {
	roles, exists := m.users["root"]
	switch {
	case m.enabled:
	case !exists:
		return fault.RootUserNotExist
	case !roles["root"]:
		return fault.RootRoleNotExist
	}
	m.enabled = true
	return nil
}

func (m *model) disable() {
	if m.enabled {
		m.enabled = false
		m.revision++
	}
}

func (m *model) userAdd(name string) error {
	if _, exists := m.users[name]; exists {
		return fault.UserAlreadyExist
	}
	m.users[name] = map[string]bool{}
	return m.changed(nil)
}

func (m *model) userDelete(name string) error {
	if m.enabled && name == "root" {
		return fault.InvalidAuthMgmt
	}
	if _, exists := m.users[name]; !exists {
		return fault.UserNotFound
	}
	delete(m.users, name)
	return m.changed(nil)
}

func (m *model) grant(name, role string) error {
	if _, exists := m.users[name]; !exists {
		return fault.UserNotFound
	}
	if _, exists := m.roles[role]; !exists && role != "root" {
		return fault.RoleNotFound
	}
	if m.users[name][role] {
		return nil
	}
	m.users[name][role] = true
	return m.changed(nil)
}

func (m *model) revoke(name, role string) error {
	if m.enabled && name == "root" && role == "root" {
		return fault.InvalidAuthMgmt
	}
	if _, exists := m.users[name]; !exists {
		return fault.UserNotFound
	}
	if !m.users[name][role] {
		return fault.RoleNotGranted
	}
	delete(m.users[name], role)
	return m.changed(nil)
}

func (m *model) roleAdd(name string) error {
	if _, exists := m.roles[name]; exists {
		return fault.RoleAlreadyExist
	}
	m.roles[name] = nil
	return m.changed(nil)
}

func (m *model) roleDelete(name string) error {
	if m.enabled && name == "root" {
		return fault.InvalidAuthMgmt
	}
	if _, exists := m.roles[name]; !exists {
		return fault.RoleNotFound
	}
	delete(m.roles, name)
	for user := range m.users {
		delete(m.users[user], name)
	}
	return m.changed(nil)
}

func (m *model) rolePermit(name string, p modelPerm) error {
	if p.end != "" && p.end != "\x00" && p.end <= p.key {
		return fault.InvalidAuthMgmt
	}
	if _, exists := m.roles[name]; !exists {
		return fault.RoleNotFound
	}
	kept := slices.DeleteFunc(m.roles[name], func(o modelPerm) bool { return o.key == p.key && o.end == p.end })
	m.roles[name] = append(kept, p)
	return m.changed(nil)
}

func (m *model) roleForbid(name, key, end string) error {
	if _, exists := m.roles[name]; !exists {
		return fault.RoleNotFound
	}
	kept := slices.DeleteFunc(slices.Clone(m.roles[name]), func(o modelPerm) bool { return o.key == key && o.end == end })
	if len(kept) == len(m.roles[name]) {
		return fault.PermissionNotGranted
	}
	m.roles[name] = kept
	return m.changed(nil)
}
