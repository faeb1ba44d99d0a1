package v2http

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/member"
)

// Texts of refused changes of members; etcd's clients show them (source: etcd 3.4 etcdserver/api/membership/errors.go).
const (
	textIDExists  = "membership: ID exists"
	textURLExists = "membership: peerURL exists"
)

// shownMember is a member as the API has it.
type shownMember struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"`
}

func showMember(m *member.Member) shownMember {
	return shownMember{m.ID.String(), m.Name, append([]string{}, m.PeerURLs...), append([]string{}, m.ClientURLs...)}
}

// serveMachines is /v2/machines: where clients may connect to.
func (h *handler) serveMachines(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	var urls []string
	for _, m := range h.cfg.Backend.Cluster.Members().Members() {
		urls = append(urls, m.ClientURLs...)
	}
	slices.Sort(urls)
	w.Header().Set(contentType, "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, strings.Join(urls, ", "))
}

func (h *handler) serveMembers(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodPut) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.Timeout)
	defer cancel()
	who, err := h.mayWriteCluster(ctx, r)
	if err != nil {
		h.fail(w, err)
		return
	}
	h.named(w)
	bound(w, r, adminBytes)
	switch r.Method {
	case http.MethodGet:
		h.getMembers(w, memberPath(r))
	case http.MethodPost:
		h.addMember(ctx, w, r, who)
	case http.MethodDelete:
		if id, ok := h.memberID(w, r); ok {
			h.changeMember(ctx, w, who, member.Change{Kind: member.Removed, Member: member.Member{ID: id}})
		}
	case http.MethodPut:
		id, ok := h.memberID(w, r)
		if !ok {
			return
		}
		urls, err := peerURLs(r)
		if err != nil {
			h.fail(w, err)
			return
		}
		h.changeMember(ctx, w, who, member.Change{Kind: member.Updated, Member: member.Member{ID: id, PeerURLs: urls}})
	}
}

// memberPath is what a path names below /v2/members.
func memberPath(r *http.Request) string {
	return strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, pathMembers), "/")
}

func (h *handler) getMembers(w http.ResponseWriter, name string) {
	var v any
	members := h.cfg.Backend.Cluster.Members()
	switch name {
	case "":
		all := []shownMember{}
		for _, m := range members.Members() {
			all = append(all, showMember(&m))
		}
		v = struct {
			Members []shownMember `json:"members"`
		}{all}
	case "leader":
		m, ok := members.Get(h.cfg.Backend.Cluster.Leader())
		if !ok {
			h.fail(w, say(http.StatusServiceUnavailable, "During election"))
			return
		}
		v = showMember(&m)
	default:
		h.fail(w, say(http.StatusNotFound, "Not found"))
		return
	}
	w.Header().Set(contentType, typeJSON)
	_ = json.NewEncoder(w).Encode(v)
}

func (h *handler) addMember(ctx context.Context, w http.ResponseWriter, r *http.Request, who asker) {
	urls, err := peerURLs(r)
	if err != nil {
		h.fail(w, err)
		return
	}
	m := member.Member{ID: member.IDOfAdded(urls, h.cfg.Clock.Now().Unix()), PeerURLs: urls}
	err = h.cfg.Backend.Changes.Change(ctx, member.Change{Kind: member.Added, Member: m}, who.identity)
	switch {
	case errors.Is(err, fault.MemberExist):
		err = say(http.StatusConflict, textIDExists)
	case errors.Is(err, fault.PeerURLExist):
		err = say(http.StatusConflict, textURLExists)
	}
	if err != nil {
		h.fail(w, h.hidden(err, who))
		return
	}
	w.Header().Set(contentType, typeJSON)
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(showMember(&m))
}

// hidden is a refusal by v3's users where v2's decide: such a request cannot say who it is from, and etcd does not say why.
func (h *handler) hidden(err error, who asker) error {
	if !who.v3 && unauthorized(err) {
		return fmt.Errorf("v3 authentication is on, and a request of the v2 API has no v3 user: %w", errors.New(err.Error()))
	}
	return err
}

// changeMember removes or updates a member.
func (h *handler) changeMember(ctx context.Context, w http.ResponseWriter, who asker, c member.Change) {
	err := h.cfg.Backend.Changes.Change(ctx, c, who.identity)
	id := c.Member.ID
	switch {
	case errors.Is(err, fault.MemberNotFound) && h.cfg.Backend.Cluster.Members().Removed(id):
		if c.Kind == member.Removed {
			err = say(http.StatusGone, "Member permanently removed: %s", id)
		} else {
			err = errors.New("an update of a removed member")
		}
	case errors.Is(err, fault.MemberNotFound):
		err = say(http.StatusNotFound, "No such member: %s", id)
	case errors.Is(err, fault.PeerURLExist):
		err = say(http.StatusConflict, textURLExists)
	}
	if err != nil {
		h.fail(w, h.hidden(err, who))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// memberID is the member that a request names.
func (h *handler) memberID(w http.ResponseWriter, r *http.Request) (ids.MemberID, bool) {
	name := memberPath(r)
	if name == "" {
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return 0, false
	}
	id, err := strconv.ParseUint(name, 16, 64)
	if err != nil {
		h.fail(w, say(http.StatusNotFound, "No such member: %s", name))
		return 0, false
	}
	return ids.MemberID(id), true
}

// peerURLs reads the body of a request to add or update a member.
func peerURLs(r *http.Request) ([]string, error) {
	kind, _, params := strings.Cut(r.Header.Get(contentType), ";")
	if params {
		kind = strings.ToLower(strings.TrimSpace(kind))
	}
	if kind != typeJSON {
		return nil, say(http.StatusUnsupportedMediaType, "Bad Content-Type %s, accept application/json", kind)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		text, _ := bodyError(err)
		return nil, say(http.StatusBadRequest, "%s", text)
	}
	var in struct {
		PeerURLs []string `json:"peerURLs"`
	}
	if err = json.Unmarshal(body, &in); err == nil {
		in.PeerURLs, err = checkedURLs(in.PeerURLs)
	}
	if err != nil {
		return nil, say(http.StatusBadRequest, "%v", err)
	}
	return in.PeerURLs, nil
}

// checkedURLs are addresses of a member in their written form and order. The errors' texts are etcd's (source: etcd 3.4
// pkg/types/urls.go).
func checkedURLs(urls []string) ([]string, error) {
	if len(urls) == 0 {
		return nil, errors.New("no valid URLs given")
	}
	out := make([]string, len(urls))
	for i, text := range urls {
		text = strings.TrimSpace(text)
		u, err := url.Parse(text)
		switch {
		case err != nil:
			return nil, err
		case !slices.Contains([]string{"http", "https", "unix", "unixs"}, u.Scheme):
			return nil, fmt.Errorf("URL scheme must be http, https, unix, or unixs: %s", text)
		}
		if _, _, err := net.SplitHostPort(u.Host); err != nil {
			return nil, fmt.Errorf(`URL address does not have the form "host:port": %s`, text)
		}
		if u.Path != "" {
			return nil, fmt.Errorf("URL must not contain a path: %s", text)
		}
		out[i] = u.String()
	}
	slices.Sort(out)
	return out, nil
}
