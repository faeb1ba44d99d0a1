package v2http

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"go.uber.org/zap"

	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/v2store"
)

// asker is who sends a request. Only a user of v3 has a name here: what v2's users may do is decided before the request is, as in
// etcd.
type asker struct {
	identity authn.Identity
	v3       bool // v3 authentication decides
}

// underV3 says that v3 authentication decides about the tree, not v2's.
func (h *handler) underV3() bool {
	tree, _ := h.cfg.Backend.Store.View()
	return tree.Mode() == v2store.Shared && h.cfg.Backend.Users.Enabled()
}

// admit finds out who sends a request for a key. It refuses what v2's users may not; what v3's may is decided where it is done.
func (h *handler) admit(ctx context.Context, r *http.Request, key string, recursive bool) (asker, error) {
	if h.underV3() {
		return h.v3User(ctx, r)
	}
	enabled, err := h.auth.enabled()
	if err != nil || !enabled {
		return asker{}, err
	}
	writing := r.Method != http.MethodGet && r.Method != http.MethodHead
	if r.Header.Get("Authorization") == "" {
		u, ok := h.certified(r)
		if !ok {
			guest, err := h.auth.role(guestRole)
			if err == nil && guest.allows(key, writing, false) {
				return asker{}, nil
			}
			return asker{}, h.deny(err)
		}
		return asker{}, h.userMay(u, key, writing, recursive)
	}
	u, err := h.basic(ctx, r)
	if err != nil {
		return asker{}, err
	}
	return asker{}, h.userMay(u, key, writing, recursive)
}

// deny is the refusal of a request for a key. An error that is not about what exists is told as it is.
func (h *handler) deny(err error) error {
	var said *message
	if err == nil || errors.As(err, &said) {
		return fault.PermissionDenied
	}
	return err
}

// userMay asks each role of a user of v2.
func (h *handler) userMay(u *user, key string, writing, recursive bool) error {
	for _, name := range u.Roles {
		if r, err := h.auth.role(name); err == nil && r.allows(key, writing, recursive) {
			return nil
		}
	}
	h.cfg.Logger.Warn("a v2 user may not do this to a key", zap.String("user-name", u.User), zap.String("key", key), zap.Bool("write", writing))
	return fault.PermissionDenied
}

// v3User is who a request is from while v3 authentication decides; nobody in particular is no error.
func (h *handler) v3User(ctx context.Context, r *http.Request) (asker, error) {
	users := h.cfg.Backend.Users
	if r.Header.Get("Authorization") == "" {
		id, _ := users.Certified(r)
		return asker{id, true}, nil
	}
	name, password, ok := r.BasicAuth()
	if !ok {
		return asker{}, fault.AuthFailed
	}
	id, err := users.Check(ctx, name, password)
	return asker{id, true}, err
}

// mayWriteCluster refuses a request that only root may make, unless it only reads.
func (h *handler) mayWriteCluster(ctx context.Context, r *http.Request) (asker, error) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return asker{}, nil
	}
	return h.rooted(ctx, r)
}

// rooted refuses a request that is not root's.
func (h *handler) rooted(ctx context.Context, r *http.Request) (asker, error) {
	if h.underV3() {
		who, err := h.v3User(ctx, r)
		if err == nil {
			err = h.cfg.Backend.Users.Admin(who.identity)
		}
		return who, err
	}
	enabled, err := h.auth.enabled()
	if err != nil || !enabled {
		return asker{}, err
	}
	var u *user
	if r.Header.Get("Authorization") == "" && h.cfg.Certificates {
		var ok bool
		if u, ok = h.certified(r); !ok {
			return asker{}, fault.PermissionDenied
		}
	} else if u, err = h.basic(ctx, r); err != nil {
		return asker{}, err
	}
	for _, name := range u.Roles {
		if name == rootRole {
			return asker{}, nil
		}
	}
	h.cfg.Logger.Warn("a v2 user lacks the root role", zap.String("user-name", u.User), zap.String("resource-path", r.URL.Path))
	return asker{}, fault.PermissionDenied
}

// basic is the user of v2 whose name and password a request has.
func (h *handler) basic(ctx context.Context, r *http.Request) (*user, error) {
	name, password, ok := r.BasicAuth()
	if !ok {
		h.cfg.Logger.Warn("malformed basic auth encoding")
		return nil, fault.AuthFailed
	}
	u, err := h.auth.user(name)
	var said *message
	if err != nil && !errors.As(err, &said) {
		return nil, err
	}
	a := authn.Account{Name: name, Known: err == nil}
	if err == nil {
		a.Hash = []byte(u.Password)
	}
	// A name that nobody has takes as long as one that somebody has.
	done := make(chan error, 1)
	h.cfg.Passwords.Check(a, password, func(err error) { done <- err })
	select {
	case err = <-done:
	case <-ctx.Done():
		return nil, fault.Timeout
	}
	if errors.Is(err, fault.AuthFailed) {
		h.cfg.Logger.Warn("incorrect password of a v2 user", zap.String("user-name", name))
	}
	if err != nil {
		return nil, err
	}
	return u, nil
}

// certified is the user of v2 whom a certificate of a request's client names.
func (h *handler) certified(r *http.Request) (*user, bool) {
	if !h.cfg.Certificates || r.TLS == nil {
		return nil, false
	}
	for _, chain := range r.TLS.VerifiedChains {
		for _, c := range chain {
			if u, err := h.auth.user(c.Subject.CommonName); err == nil {
				return u, true
			}
		}
	}
	return nil, false
}

// isOld says that permissions have changed since a request's user was found out.
func isOld(err error) bool { return errors.Is(err, fault.AuthOldRevision) }

func asRefusal(err error) (*v2store.Error, bool) {
	var e *v2store.Error
	return e, errors.As(err, &e)
}

// allows says whether a role may read or write a key, or all below it.
func (r *role) allows(key string, writing, recursive bool) bool {
	if r.Role == rootRole {
		return true
	}
	patterns := r.Permissions.KV.Read
	if writing {
		patterns = r.Permissions.KV.Write
	}
	for _, p := range patterns {
		prefix, open := strings.CutSuffix(p, "*")
		switch {
		case open && strings.HasPrefix(key, prefix):
			return true
		case !open && !recursive && p == key && p != "": // etcd's handler dies of an empty pattern
			return true
		}
	}
	return false
}
