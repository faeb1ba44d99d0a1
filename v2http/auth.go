package v2http

import (
	"context"
	"encoding/json"
	"net/http"
	"path"
	"strings"
)

// adminBytes bounds the JSON of a request for a user, a role or a member.
const adminBytes = 1 << 20

func (h *handler) serveAuth(w http.ResponseWriter, r *http.Request) {
	p := strings.TrimPrefix(r.URL.Path, pathAuth)
	kind, _, deeper := strings.Cut(strings.TrimPrefix(p, "/"), "/")
	switch {
	case kind == "enable" && !deeper, kind == "users", kind == "roles":
	default:
		http.NotFound(w, r)
		return
	}
	if h.cfg.Backend.Cluster.Members().Version() == "" {
		h.fail(w, say(http.StatusInternalServerError, "Not capable of accessing auth feature during rolling upgrades."))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.Timeout)
	defer cancel()
	bound(w, r, adminBytes)
	q := authRequest{h, w, r, ctx}
	if kind == "enable" {
		q.enable()
		return
	}
	pieces := strings.Split(path.Clean(p), "/") // of /users/NAME: "", users, NAME
	switch {
	case len(pieces) == 2 && kind == "users":
		q.listUsers()
	case len(pieces) == 2:
		q.listRoles()
	case len(pieces) != 3:
		h.fail(w, say(http.StatusBadRequest, "Invalid path"))
	case kind == "users":
		q.user(pieces[2])
	default:
		q.role(pieces[2])
	}
}

// authRequest is one request for users, roles or the switch.
type authRequest struct {
	h   *handler
	w   http.ResponseWriter
	r   *http.Request
	ctx context.Context
}

// begin checks method and sender, and reports whether to go on.
func (q *authRequest) begin(may func(context.Context, *http.Request) (asker, error), methods ...string) bool {
	if !allow(q.w, q.r, methods...) {
		return false
	}
	if _, err := may(q.ctx, q.r); err != nil {
		q.h.fail(q.w, err)
		return false
	}
	q.h.named(q.w)
	q.w.Header().Set(contentType, typeJSON)
	return true
}

// answer writes v after a success.
func (q *authRequest) answer(status int, v any, err error) {
	if err != nil {
		q.h.fail(q.w, err)
		return
	}
	q.w.WriteHeader(status)
	if v != nil {
		_ = json.NewEncoder(q.w).Encode(v)
	}
}

// in decodes the body.
func (q *authRequest) in(v any) bool {
	if err := json.NewDecoder(q.r.Body).Decode(v); err != nil {
		text := "Invalid JSON in request body."
		if why, large := bodyError(err); large {
			text = why
		}
		q.h.fail(q.w, say(http.StatusBadRequest, "%s", text))
		return false
	}
	return true
}

// enable is /v2/auth/enable.
func (q *authRequest) enable() {
	if !q.begin(q.h.mayWriteCluster, http.MethodGet, http.MethodPut, http.MethodDelete) {
		return
	}
	on, err := q.h.auth.enabled() // for other methods, too: reads are counted
	switch q.r.Method {
	case http.MethodGet:
		if q.h.underV3() {
			on = true
		}
		q.answer(http.StatusOK, struct {
			Enabled bool `json:"enabled"`
		}{on}, err)
	case http.MethodPut:
		q.answer(http.StatusOK, nil, q.h.auth.enable(q.ctx))
	case http.MethodDelete:
		q.answer(http.StatusOK, nil, q.h.auth.disable(q.ctx))
	}
}

func (q *authRequest) listRoles() {
	if !q.begin(q.h.rooted, http.MethodGet) {
		return
	}
	names, err := q.h.auth.names("roles")
	var out struct {
		Roles []*role `json:"roles"`
	}
	for _, name := range set(append(names, rootRole)) {
		var r *role
		if err == nil {
			r, err = q.h.auth.role(name)
			out.Roles = append(out.Roles, r)
		}
	}
	q.answer(http.StatusOK, out, err)
}

func (q *authRequest) role(name string) {
	if !q.begin(q.h.rooted, http.MethodGet, http.MethodPut, http.MethodDelete) {
		return
	}
	switch q.r.Method {
	case http.MethodGet:
		r, err := q.h.auth.role(name)
		q.answer(http.StatusOK, r, err)
	case http.MethodPut:
		q.putRole(name)
	case http.MethodDelete:
		q.answer(http.StatusOK, nil, q.h.auth.deleteRole(q.ctx, name))
	}
}

func (q *authRequest) putRole(name string) {
	var in role
	if !q.in(&in) {
		return
	}
	if in.Role != name {
		q.h.fail(q.w, say(http.StatusBadRequest, "Role JSON name does not match the name in the URL"))
		return
	}
	if in.Grant.empty() && in.Revoke.empty() {
		q.answer(http.StatusCreated, &in, q.h.auth.createRole(q.ctx, &in))
		return
	}
	if !in.Permissions.empty() {
		q.h.fail(q.w, say(http.StatusBadRequest, "Role JSON contains both permissions and grant/revoke"))
		return
	}
	out, err := q.h.auth.updateRole(q.ctx, &in)
	q.answer(http.StatusOK, out, err)
}

// shownUser is a user with what its roles allow.
type shownUser struct {
	User  string  `json:"user"`
	Roles []*role `json:"roles,omitempty"`
}

func (q *authRequest) listUsers() {
	if !q.begin(q.h.rooted, http.MethodGet) {
		return
	}
	names, err := q.h.auth.names("users")
	var out struct {
		Users []shownUser `json:"users"`
	}
	for _, name := range names {
		var u *user
		if u, err = q.h.auth.user(name); err != nil {
			break
		}
		shown := shownUser{User: u.User}
		for _, name := range u.Roles {
			if r, err := q.h.auth.role(name); err == nil { // one that is gone allows nothing
				shown.Roles = append(shown.Roles, r)
			}
		}
		out.Users = append(out.Users, shown)
	}
	q.answer(http.StatusOK, out, err)
}

func (q *authRequest) user(name string) {
	if !q.begin(q.h.rooted, http.MethodGet, http.MethodPut, http.MethodDelete) {
		return
	}
	switch q.r.Method {
	case http.MethodGet:
		u, err := q.h.auth.user(name)
		if err != nil {
			q.h.fail(q.w, err)
			return
		}
		shown := shownUser{User: u.User}
		for _, name := range u.Roles {
			r, err := q.h.auth.role(name)
			if err != nil {
				q.h.fail(q.w, err)
				return
			}
			shown.Roles = append(shown.Roles, r)
		}
		q.answer(http.StatusOK, shown, nil)
	case http.MethodPut:
		q.putUser(name)
	case http.MethodDelete:
		q.answer(http.StatusOK, nil, q.h.auth.deleteUser(q.ctx, name))
	}
}

func (q *authRequest) putUser(name string) {
	var in user
	if !q.in(&in) {
		return
	}
	if in.User != name {
		q.h.fail(q.w, say(http.StatusBadRequest, "User JSON name does not match the name in the URL"))
		return
	}
	out, status, err := q.changeUser(in)
	if err != nil {
		q.h.fail(q.w, err)
		return
	}
	out.Password = ""
	q.answer(status, out, nil)
}

// changeUser makes a user or changes it, as what is in the request says.
func (q *authRequest) changeUser(in user) (out *user, status int, err error) {
	s := &q.h.auth
	switch {
	case len(in.Grant)+len(in.Revoke) > 0 && len(in.Roles) > 0:
		return nil, 0, say(http.StatusBadRequest, "User JSON contains both roles and grant/revoke")
	case len(in.Grant)+len(in.Revoke) > 0:
		out, err = s.updateUser(q.ctx, in)
	case len(in.Roles) > 0:
		out, err = s.createUser(q.ctx, in) // answered as a change, in etcd too
	default:
		if _, err = s.findUser(q.ctx, in.User, true); err == nil {
			out, err = s.updateUser(q.ctx, in)
			break
		}
		out, err = s.createUser(q.ctx, in)
		return out, http.StatusCreated, err
	}
	return out, http.StatusOK, err
}
