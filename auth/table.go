package auth

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// Table holds the authentication state for the one writer. Its methods are not safe for concurrent use; those of a View are.
//
// A change checks first and then writes to the batch and to the table; one that is refused leaves no trace. What a view has
// seen is replaced and never changed: the lists are copied by the first change after a view, users and roles by every change.
type Table struct {
	View
	seen   bool // a view shares the lists
	view   *View
	merged map[string]*access // by the names of roles, for users who have the same ones
}

// Published returns the table as it is now. It is the same View as before when nothing has changed.
func (t *Table) Published() *View {
	if t.view == nil {
		v := t.View
		t.view, t.seen = &v, true
	}
	return t.view
}

// change begins a change.
func (t *Table) change() {
	if t.seen {
		t.users, t.roles = slices.Clone(t.users), slices.Clone(t.roles)
	}
	t.view, t.seen = nil, false
}

// bump ends a change that counts.
func (t *Table) bump(b *storage.Batch) {
	t.revision++
	writeRevision(b, t.revision)
}

// Enable turns authentication on. It needs a user root that has the role root.
func (t *Table) Enable(b *storage.Batch) error {
	if t.enabled {
		return nil
	}
	switch root := t.find(Root); {
	case root == nil:
		return fault.RootUserNotExist
	case !root.root:
		return fault.RootRoleNotExist
	}
	t.change()
	t.enabled = true
	writeEnabled(b, true)
	return nil
}

// Disable turns authentication off and says whether it was on.
func (t *Table) Disable(b *storage.Batch) (was bool) {
	if !t.enabled {
		return false
	}
	t.change()
	t.enabled = false
	writeEnabled(b, false)
	t.bump(b)
	return true
}

// password reads a hash as the log has it. Only logs of etcd before 3.5 have passwords that are not hashed; a hash made here
// would differ from member to member, so they are refused.
func password(plain, hashed string) ([]byte, error) {
	if plain != "" && hashed == "" {
		return nil, fault.NoPasswordUser
	}
	hash, err := base64.StdEncoding.DecodeString(hashed)
	if err != nil {
		return nil, fault.NoPasswordUser
	}
	return hash, nil
}

// UserAdd adds a user.
func (t *Table) UserAdd(b *storage.Batch, r *wire.AuthUserAddRequest) error {
	if r.Name == "" {
		return fault.UserEmpty
	}
	at, exists := findUser(t.users, r.Name)
	if exists {
		return fault.UserAlreadyExist
	}
	u := User{Name: r.Name, NoPassword: r.Options != nil && r.Options.NoPassword, options: true}
	if !u.NoPassword {
		var err error
		if u.PasswordHash, err = password(r.Password, r.HashedPassword); err != nil {
			return err
		}
	}
	t.change()
	t.users = slices.Insert(t.users, at, t.with(u))
	writeUser(b, &u)
	t.bump(b)
	return nil
}

// UserDelete removes a user.
func (t *Table) UserDelete(b *storage.Batch, name string) error {
	if t.enabled && name == Root {
		return fault.InvalidAuthMgmt
	}
	at, exists := findUser(t.users, name)
	if !exists {
		return fault.UserNotFound
	}
	t.change()
	t.users = slices.Delete(t.users, at, at+1)
	deleteUser(b, name)
	t.bump(b)
	return nil
}

// UserChangePassword sets the password of a user; that of who has none stays none.
func (t *Table) UserChangePassword(b *storage.Batch, name, plain, hashed string) error {
	at, exists := findUser(t.users, name)
	if !exists {
		return fault.UserNotFound
	}
	u := t.users[at].User
	u.PasswordHash = nil
	if !u.NoPassword {
		var err error
		if u.PasswordHash, err = password(plain, hashed); err != nil {
			return err
		}
	}
	t.setUser(b, at, u)
	t.bump(b)
	return nil
}

// UserGrantRole gives a user a role. That of root need not exist; one that the user has already changes nothing.
func (t *Table) UserGrantRole(b *storage.Batch, name, role string) error {
	at, exists := findUser(t.users, name)
	if !exists {
		return fault.UserNotFound
	}
	if _, ok := findRole(t.roles, role); !ok && role != Root {
		return fault.RoleNotFound
	}
	u := t.users[at].User
	i, has := slices.BinarySearch(u.Roles, role)
	if has {
		return nil
	}
	u.Roles = slices.Insert(slices.Clone(u.Roles), i, role)
	t.setUser(b, at, u)
	t.bump(b)
	return nil
}

// UserRevokeRole takes a role from a user.
func (t *Table) UserRevokeRole(b *storage.Batch, name, role string) error {
	if t.enabled && name == Root && role == Root {
		return fault.InvalidAuthMgmt
	}
	at, exists := findUser(t.users, name)
	if !exists {
		return fault.UserNotFound
	}
	u, has := t.users[at].User.without(role)
	if !has {
		return fault.RoleNotGranted
	}
	t.setUser(b, at, u)
	t.bump(b)
	return nil
}

// without returns the user without a role.
func (u User) without(role string) (_ User, had bool) {
	i, had := slices.BinarySearch(u.Roles, role)
	if had {
		u.Roles = slices.Delete(slices.Clone(u.Roles), i, i+1)
	}
	return u, had
}

// RoleAdd adds a role without permissions.
func (t *Table) RoleAdd(b *storage.Batch, name string) error {
	if name == "" {
		return fault.RoleEmpty
	}
	at, exists := findRole(t.roles, name)
	if exists {
		return fault.RoleAlreadyExist
	}
	t.change()
	r := &Role{Name: name}
	t.roles = slices.Insert(t.roles, at, r)
	writeRole(b, r)
	t.roleChanged(name)
	t.bump(b)
	return nil
}

// RoleDelete removes a role, also from all users.
func (t *Table) RoleDelete(b *storage.Batch, name string) error {
	if t.enabled && name == Root {
		return fault.InvalidAuthMgmt
	}
	at, exists := findRole(t.roles, name)
	if !exists {
		return fault.RoleNotFound
	}
	t.change()
	t.roles = slices.Delete(t.roles, at, at+1)
	deleteRole(b, name)
	t.merged = nil
	for i, old := range t.users {
		if u, had := old.User.without(name); had {
			t.setUser(b, i, u)
		}
	}
	t.bump(b)
	return nil
}

// RoleGrantPermission gives a role a permission, or another type to the one that it has for exactly these keys.
func (t *Table) RoleGrantPermission(b *storage.Batch, name string, p *wire.AuthPermission) error {
	if p == nil {
		return fault.PermissionNotGiven
	}
	if _, ok := spanOf(p.Key, p.RangeEnd); !ok {
		return fault.InvalidAuthMgmt
	}
	at, exists := findRole(t.roles, name)
	if !exists {
		return fault.RoleNotFound
	}
	list := slices.Clone(t.roles[at].Permissions)
	if i := slices.IndexFunc(list, func(o wire.AuthPermission) bool { return sameKeys(&o, p.Key, p.RangeEnd) }); i >= 0 {
		list[i].Type = p.Type
		t.setRole(b, at, list)
		return nil
	}
	i := slices.IndexFunc(list, func(o wire.AuthPermission) bool { return bytes.Compare(o.Key, p.Key) > 0 })
	if i < 0 {
		i = len(list)
	}
	granted := wire.AuthPermission{Type: p.Type, Key: bytes.Clone(p.Key), RangeEnd: bytes.Clone(p.RangeEnd)}
	t.setRole(b, at, slices.Insert(list, i, granted))
	return nil
}

// RoleRevokePermission takes from a role the permission for exactly these keys.
func (t *Table) RoleRevokePermission(b *storage.Batch, r *wire.AuthRoleRevokePermissionRequest) error {
	at, exists := findRole(t.roles, r.Role)
	if !exists {
		return fault.RoleNotFound
	}
	old := t.roles[at].Permissions
	list := slices.DeleteFunc(slices.Clone(old), func(p wire.AuthPermission) bool { return sameKeys(&p, r.Key, r.RangeEnd) })
	if len(list) == len(old) {
		return fault.PermissionNotGranted
	}
	t.setRole(b, at, list)
	return nil
}

func sameKeys(p *wire.AuthPermission, key, end []byte) bool {
	return bytes.Equal(p.Key, key) && bytes.Equal(p.RangeEnd, end)
}

// setUser replaces a user.
func (t *Table) setUser(b *storage.Batch, at int, u User) {
	t.change()
	t.users[at] = t.with(u)
	writeUser(b, &u)
}

// setRole replaces the permissions of a role, and what they mean for users.
func (t *Table) setRole(b *storage.Batch, at int, list []wire.AuthPermission) {
	t.change()
	r := &Role{Name: t.roles[at].Name, Permissions: list}
	t.roles[at] = r
	writeRole(b, r)
	t.roleChanged(r.Name)
	t.bump(b)
}

// roleChanged makes anew what users may who have the role.
func (t *Table) roleChanged(name string) {
	t.merged = nil
	for i, u := range t.users {
		if u.has(name) {
			t.users[i] = t.with(u.User)
		}
	}
}

// with adds to a user what follows from the roles. Who has the same roles shares it.
func (t *Table) with(u User) *user {
	_, root := slices.BinarySearch(u.Roles, Root)
	return &user{User: u, root: root, access: t.accessOf(u.Roles)}
}

func (t *Table) accessOf(names []string) *access {
	if len(names) == 0 {
		return noAccess
	}
	key := strings.Join(names, "\x00")
	if a := t.merged[key]; a != nil {
		return a
	}
	var roles []*Role
	for _, name := range names {
		if i, ok := findRole(t.roles, name); ok {
			roles = append(roles, t.roles[i])
		}
	}
	a := mergeRoles(roles)
	if t.merged == nil {
		t.merged = map[string]*access{}
	}
	t.merged[key] = a
	return a
}
