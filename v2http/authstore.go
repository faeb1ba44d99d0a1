package v2http

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"reflect"
	"slices"
	"sync/atomic"

	"go.uber.org/zap"

	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

// The names that mean something.
const (
	rootUser  = "root"
	rootRole  = "root"
	guestRole = "guest"
)

// user is a user as its file and the API have it.
type user struct {
	User     string   `json:"user"`
	Password string   `json:"password,omitempty"` // in its file the hash
	Roles    []string `json:"roles"`
	Grant    []string `json:"grant,omitempty"`
	Revoke   []string `json:"revoke,omitempty"`
}

// role is a role as its file and the API have it.
type role struct {
	Role        string       `json:"role"`
	Permissions permissions  `json:"permissions"`
	Grant       *permissions `json:"grant,omitempty"`
	Revoke      *permissions `json:"revoke,omitempty"`
}

type permissions struct {
	KV patterns `json:"kv"`
}

// patterns are keys, and prefixes that end with a star.
type patterns struct {
	Read  []string `json:"read"`
	Write []string `json:"write"`
}

func (p *permissions) empty() bool {
	return p == nil || len(p.KV.Read) == 0 && len(p.KV.Write) == 0
}

// everything is what the roles root and guest allow at first.
func everything(name string) *role {
	return &role{Role: name, Permissions: permissions{patterns{Read: []string{"/*"}, Write: []string{"/*"}}}}
}

// authStore keeps the users and roles of v2 in the tree, below /2, where an etcd keeps them.
type authStore struct {
	h     *handler
	ready atomic.Bool // the directories are known to be there
}

// found says that err is about what the tree has, with that code.
func found(err error, code int) bool {
	e, ok := asRefusal(err)
	return ok && e.Code == code
}

// propose makes a request for a file below /2.
func (s *authStore) propose(ctx context.Context, r *wire.V2Request) (*v2store.Event, error) {
	r.Time = s.h.cfg.Clock.Now().UnixNano()
	return s.h.cfg.Backend.Store.Propose(ctx, r, authn.Identity{})
}

// value reads a file below /2 into v: as this member knows it, or with quorum as the group does.
func (s *authStore) value(ctx context.Context, name string, quorum bool, v any) error {
	p := path.Join(authSpace, name)
	var ev *v2store.Event
	var err error
	if quorum {
		ev, err = s.propose(ctx, &wire.V2Request{Method: methodQuorumGet, Path: p})
	} else {
		tree, _ := s.h.cfg.Backend.Store.View()
		ev, err = s.h.get(tree, p, false, false)
	}
	if err != nil {
		return err
	}
	if ev.Node.Value == nil {
		return fmt.Errorf("%s is a directory, and not what v2 authentication keeps there", p)
	}
	if err := json.Unmarshal([]byte(*ev.Node.Value), v); err != nil {
		return fmt.Errorf("what v2 authentication keeps at %s cannot be read: %w", p, err)
	}
	return nil
}

// names lists a directory below /2, in order; none when there is no such directory.
func (s *authStore) names(name string) ([]string, error) {
	tree, _ := s.h.cfg.Backend.Store.View()
	ev, err := s.h.get(tree, path.Join(authSpace, name), false, false)
	if found(err, v2store.CodeKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range ev.Node.Nodes {
		names = append(names, path.Base(n.Key))
	}
	slices.Sort(names)
	return names, nil
}

// ensure makes what there has to be before the first write. Each of the four takes an index, as in etcd.
func (s *authStore) ensure(ctx context.Context) error {
	if s.ready.Load() {
		return nil
	}
	absent := false
	for _, r := range []wire.V2Request{
		{Path: authSpace, Dir: true}, {Path: authSpace + "/users/", Dir: true}, {Path: authSpace + "/roles/", Dir: true}, {Path: authSpace + "/enabled", Val: "false"},
	} {
		r.Method, r.PrevExist = http.MethodPut, &absent
		if _, err := s.propose(ctx, &r); err != nil && !found(err, v2store.CodeNodeExist) {
			return err
		}
	}
	s.ready.Store(true)
	return nil
}

// put writes a file, which must exist or must not.
func (s *authStore) put(ctx context.Context, name string, exists bool, v any) error {
	if err := s.ensure(ctx); err != nil {
		return err
	}
	_, err := s.propose(ctx, &wire.V2Request{Method: http.MethodPut, Path: path.Join(authSpace, name), Val: string(marshal(v)), PrevExist: &exists})
	return err
}

func (s *authStore) remove(ctx context.Context, name string) error {
	if err := s.ensure(ctx); err != nil {
		return err
	}
	exists := true
	_, err := s.propose(ctx, &wire.V2Request{Method: http.MethodDelete, Path: path.Join(authSpace, name), PrevExist: &exists})
	return err
}

// enabled says whether v2 authentication is on. What is not readable there is no reason to let everybody in.
func (s *authStore) enabled() (on bool, err error) {
	err = s.value(context.Background(), "enabled", false, &on)
	if found(err, v2store.CodeKeyNotFound) {
		return false, nil
	}
	return on, err
}

// user is a user as this member knows it.
func (s *authStore) user(name string) (*user, error) {
	return s.findUser(context.Background(), name, false)
}

func (s *authStore) findUser(ctx context.Context, name string, quorum bool) (*user, error) {
	u := new(user)
	if err := s.value(ctx, "users/"+name, quorum, u); found(err, v2store.CodeKeyNotFound) {
		return nil, say(http.StatusNotFound, "auth: User %s does not exist.", name)
	} else if err != nil {
		return nil, err
	}
	u.rooted()
	return u, nil
}

// rooted gives the user root the role of that name.
func (u *user) rooted() {
	if u.User == rootUser && !slices.Contains(u.Roles, rootRole) {
		u.Roles = append(u.Roles, rootRole)
	}
}

// role is a role as this member knows it.
func (s *authStore) role(name string) (*role, error) {
	return s.findRole(context.Background(), name, false)
}

func (s *authStore) findRole(ctx context.Context, name string, quorum bool) (*role, error) {
	if name == rootRole {
		return everything(rootRole), nil
	}
	r := new(role)
	if err := s.value(ctx, "roles/"+name, quorum, r); found(err, v2store.CodeKeyNotFound) {
		return nil, say(http.StatusNotFound, "auth: Role %s does not exist.", name)
	} else if err != nil {
		return nil, err
	}
	return r, nil
}

// hash computes the hash of a new password.
func (s *authStore) hash(ctx context.Context, name, password string) (string, error) {
	type result struct {
		hash string
		err  error
	}
	done := make(chan result, 1)
	s.h.cfg.Passwords.Hash(password, func(hash string, err error) { done <- result{hash, err} })
	select {
	case r := <-done:
		var known *fault.Error
		if r.err != nil && !errors.As(r.err, &known) {
			return "", say(http.StatusBadRequest, "auth: The password of user %s cannot be used: %v", name, r.err)
		}
		return r.hash, r.err
	case <-ctx.Done():
		return "", fault.Timeout
	}
}

// createUser makes a user, and is given it with the password in the clear.
func (s *authStore) createUser(ctx context.Context, u user) (_ *user, err error) {
	u.rooted()
	if u.Password == "" {
		return nil, say(http.StatusBadRequest, "auth: Cannot create user %s with an empty password", u.User)
	}
	if u.Password, err = s.hash(ctx, u.User, u.Password); err != nil {
		return nil, err
	}
	if err = s.put(ctx, "users/"+u.User, false, &u); found(err, v2store.CodeNodeExist) {
		err = say(http.StatusConflict, "auth: User %s already exists.", u.User)
	}
	s.log(err, "created a v2 user", u.User)
	return &u, err
}

// updateUser changes the password, and the roles by grant and revoke.
func (s *authStore) updateUser(ctx context.Context, change user) (*user, error) {
	old, err := s.findUser(ctx, change.User, true)
	if err != nil {
		return nil, err
	}
	next, err := s.mergeUser(ctx, old, &change)
	if err != nil {
		return nil, err
	}
	if reflect.DeepEqual(old, next) {
		return nil, say(http.StatusBadRequest, "auth: User not updated. Use grant/revoke/password to update the user.")
	}
	err = s.put(ctx, "users/"+next.User, true, next)
	s.log(err, "updated a v2 user", next.User)
	return next, err
}

func (s *authStore) mergeUser(ctx context.Context, old, change *user) (_ *user, err error) {
	if old.User != change.User {
		return nil, say(http.StatusConflict, "auth: Merging user data with conflicting usernames: %s %s", old.User, change.User)
	}
	next := &user{User: old.User, Password: old.Password, Roles: append([]string{}, old.Roles...)} // no roles are [] from now on
	if change.Password != "" {
		if next.Password, err = s.hash(ctx, change.User, change.Password); err != nil {
			return nil, err
		}
	}
	for _, g := range change.Grant {
		if slices.Contains(next.Roles, g) {
			return nil, say(http.StatusConflict, "auth: Granting duplicate role %s for user %s", g, change.User)
		}
		next.Roles = append(next.Roles, g)
	}
	for _, g := range change.Revoke {
		if !slices.Contains(next.Roles, g) {
			return nil, say(http.StatusConflict, "auth: Revoking ungranted role %s for user %s", g, change.User)
		}
		next.Roles = slices.DeleteFunc(next.Roles, func(r string) bool { return r == g })
	}
	next.Roles = set(next.Roles)
	return next, nil
}

// set is sorted and has everything once.
func set(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// deleteUser removes a user, but root only while authentication is off.
func (s *authStore) deleteUser(ctx context.Context, name string) error {
	on, err := s.enabled()
	if err != nil {
		return err
	}
	if on && name == rootUser {
		return say(http.StatusForbidden, "auth: Cannot delete root user while auth is enabled.")
	}
	if err = s.remove(ctx, "users/"+name); found(err, v2store.CodeKeyNotFound) {
		err = say(http.StatusNotFound, "auth: User %s does not exist", name)
	}
	s.log(err, "deleted a v2 user", name)
	return err
}

// notRoot refuses a change of the role that cannot be changed.
func notRoot(name string) error {
	if name == rootRole {
		return say(http.StatusForbidden, "auth: Cannot modify role %s: is root role.", name)
	}
	return nil
}

func (s *authStore) createRole(ctx context.Context, r *role) error {
	err := notRoot(r.Role)
	if err != nil {
		return err
	}
	if err = s.put(ctx, "roles/"+r.Role, false, r); found(err, v2store.CodeNodeExist) {
		err = say(http.StatusConflict, "auth: Role %s already exists.", r.Role)
	}
	s.log(err, "created a v2 role", r.Role)
	return err
}

// updateRole changes permissions by grant and revoke.
func (s *authStore) updateRole(ctx context.Context, change *role) (*role, error) {
	if err := notRoot(change.Role); err != nil {
		return nil, err
	}
	old, err := s.findRole(ctx, change.Role, true)
	if err != nil {
		return nil, err
	}
	next, err := old.merge(change)
	if err != nil {
		return nil, err
	}
	if reflect.DeepEqual(old, next) {
		return nil, say(http.StatusBadRequest, "auth: Role not updated. Use grant/revoke to update the role.")
	}
	err = s.put(ctx, "roles/"+next.Role, true, next)
	s.log(err, "updated a v2 role", next.Role)
	return next, err
}

func (r *role) merge(change *role) (*role, error) {
	if r.Role != change.Role {
		return nil, say(http.StatusConflict, "auth: Merging role with conflicting names: %s %s", r.Role, change.Role)
	}
	next := &role{Role: r.Role, Permissions: r.Permissions}
	kv := &next.Permissions.KV
	var err error
	if g := change.Grant; g != nil {
		if kv.Read, err = granted("read", kv.Read, g.KV.Read); err != nil {
			return nil, err
		}
		if kv.Write, err = granted("write", kv.Write, g.KV.Write); err != nil {
			return nil, err
		}
	}
	if g := change.Revoke; g != nil { // what was not granted need not be revoked
		kv.Read, kv.Write = revoked(kv.Read, g.KV.Read), revoked(kv.Write, g.KV.Write)
	}
	return next, nil
}

func granted(kind string, old, more []string) ([]string, error) {
	next := append([]string{}, old...)
	for _, p := range more {
		if slices.Contains(next, p) {
			return nil, say(http.StatusConflict, "auth: Granting duplicate %s permission %s", kind, p)
		}
		next = append(next, p)
	}
	return set(next), nil
}

func revoked(old, less []string) []string {
	next := append([]string{}, old...)
	return set(slices.DeleteFunc(next, func(p string) bool { return slices.Contains(less, p) }))
}

func (s *authStore) deleteRole(ctx context.Context, name string) error {
	err := notRoot(name)
	if err != nil {
		return err
	}
	if err = s.remove(ctx, "roles/"+name); found(err, v2store.CodeKeyNotFound) {
		err = say(http.StatusNotFound, "auth: Role %s doesn't exist.", name)
	}
	s.log(err, "deleted a v2 role", name)
	return err
}

// enable turns authentication on. A guest who may do everything is made when there is no role for guests.
func (s *authStore) enable(ctx context.Context) error {
	on, err := s.enabled()
	if err != nil {
		return err
	}
	if on {
		return say(http.StatusConflict, "auth: already enabled")
	}
	if _, err := s.findUser(ctx, rootUser, true); err != nil {
		return say(http.StatusConflict, "auth: No root user available, please create one")
	}
	if _, err := s.findRole(ctx, guestRole, true); err != nil {
		if err := s.createRole(ctx, everything(guestRole)); err != nil {
			return err
		}
	}
	err = s.put(ctx, "enabled", true, true)
	s.log(err, "enabled v2 authentication", rootUser)
	return err
}

func (s *authStore) disable(ctx context.Context) error {
	on, err := s.enabled()
	if err != nil {
		return err
	}
	if !on {
		return say(http.StatusConflict, "auth: already disabled")
	}
	err = s.put(ctx, "enabled", true, false)
	s.log(err, "disabled v2 authentication", rootUser)
	return err
}

// log notes a change that was made.
func (s *authStore) log(err error, what, name string) {
	if err == nil {
		s.h.cfg.Logger.Info(what, zap.String("name", name))
	}
}
