package auth

import (
	"slices"
	"strings"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/wire"
)

// Root is the name of the user, and of the role, that may do everything.
const Root = "root"

// View is the authentication state at one moment. It is immutable and for any goroutine; what its methods return is not to be
// changed.
type View struct {
	enabled  bool
	revision uint64
	users    []*user // ascending by name
	roles    []*Role // ascending by name
}

// User is what is stored of a user.
type User struct {
	Name         string
	PasswordHash []byte   // the bcrypt string; nil for who has no password
	NoPassword   bool     // can only be known by a certificate
	Roles        []string // ascending
	options      bool     // the record has UserAddOptions; those of old versions have none
}

// user is a user of a View, with what follows from the roles.
type user struct {
	User
	root   bool // has the role root
	access *access
}

// Role is what is stored of a role. What the role root may do is not stored: see View.Role.
type Role struct {
	Name        string
	Permissions []wire.AuthPermission // ascending by key
}

// Enabled says whether requests are decided at all.
func (v *View) Enabled() bool { return v.enabled }

// Revision counts the changes of users and roles, from 1 on. Enabling does not count, disabling does.
func (v *View) Revision() uint64 { return v.revision }

// User returns a user.
func (v *View) User(name string) (User, bool) {
	u := v.find(name)
	if u == nil {
		return User{}, false
	}
	return u.User, true
}

// rootPermission is what the role root has instead of stored permissions, in the form in which it is shown.
var rootPermission = []wire.AuthPermission{{Type: wire.AuthReadWrite, Key: []byte{}, RangeEnd: []byte{0}}}

// Role returns a role. That named root shows one permission for everything, whatever is stored with it.
func (v *View) Role(name string) (Role, bool) {
	i, ok := findRole(v.roles, name)
	if !ok {
		return Role{}, false
	}
	r := *v.roles[i]
	if name == Root {
		r.Permissions = rootPermission
	}
	return r, true
}

// Users returns the names of all users, ascending.
func (v *View) Users() []string {
	out := make([]string, len(v.users))
	for i, u := range v.users {
		out[i] = u.Name
	}
	return out
}

// Roles returns the names of all roles, ascending.
func (v *View) Roles() []string {
	out := make([]string, len(v.roles))
	for i, r := range v.roles {
		out[i] = r.Name
	}
	return out
}

// MayAuthenticate says whether a token may be issued to the user: nil, fault.AuthNotEnabled or fault.AuthFailed. It does not
// know about passwords, except that there must be one.
func (v *View) MayAuthenticate(name string) error {
	if !v.enabled {
		return fault.AuthNotEnabled
	}
	if u := v.find(name); u == nil || u.NoPassword {
		return fault.AuthFailed
	}
	return nil
}

func (v *View) find(name string) *user {
	if i, ok := findUser(v.users, name); ok {
		return v.users[i]
	}
	return nil
}

func findUser(users []*user, name string) (int, bool) {
	return slices.BinarySearchFunc(users, name, func(u *user, name string) int { return strings.Compare(u.Name, name) })
}

func findRole(roles []*Role, name string) (int, bool) {
	return slices.BinarySearchFunc(roles, name, func(r *Role, name string) int { return strings.Compare(r.Name, name) })
}

// has says whether the user has the role.
func (u *user) has(role string) bool {
	_, ok := slices.BinarySearch(u.Roles, role)
	return ok
}
