// Package member is the register of who is in the cluster, and of the version the cluster has agreed on.
//
// It does not connect to anybody and does not run raft: it says what a change of membership means for the register and
// whether it is valid, the same way on every member. Applying it to raft is node's work.
//
// Data passes like this. The one writer opens a Table from the engine, hands it the changes that were committed, and takes
// a View after each batch. A change arrives as the bytes of a raftpb.ConfChange whose context is JSON, as etcd writes it.
//
// Invariants: what is stored is byte for byte what etcd stores (buckets members, members_removed, cluster, and confState in
// meta; source: etcd v3.7 server/storage/schema/{membership,confstate}.go), so that writing a db file is a copy; an id that
// was removed never comes back; the last voter cannot be removed; a refused change writes nothing.
package member

import (
	"crypto/sha1"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
)

// Member is one member. Its JSON is the value that the members bucket holds and the context of a change that adds it.
type Member struct {
	ID         ids.MemberID
	Name       string // empty until the member has started
	PeerURLs   []string
	ClientURLs []string // empty until the member has started
	IsLearner  bool
}

// record is the stored form of a Member; the order of fields is that of etcd's.
type record struct {
	ID         uint64   `json:"id"`
	PeerURLs   []string `json:"peerURLs"`
	IsLearner  bool     `json:"isLearner,omitempty"`
	Name       string   `json:"name,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (m Member) MarshalJSON() ([]byte, error) {
	return json.Marshal(record{uint64(m.ID), m.PeerURLs, m.IsLearner, m.Name, m.ClientURLs})
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *Member) UnmarshalJSON(b []byte) error {
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return err
	}
	*m = Member{ids.MemberID(r.ID), r.Name, r.PeerURLs, r.ClientURLs, r.IsLearner}
	return nil
}

// Started says whether the member has published its name.
func (m *Member) Started() bool { return m.Name != "" }

// JSON is the stored form of m, which is also the context of a ConfChange that adds m or updates its peer URLs.
func (m Member) JSON() []byte { return mustJSON(m) }

// PromoteContext is the context of a ConfChange (type AddNode) that makes the learner m a voter.
func PromoteContext(m Member) []byte {
	return mustJSON(struct {
		record
		IsPromote bool `json:"isPromote"`
	}{record{uint64(m.ID), m.PeerURLs, m.IsLearner, m.Name, m.ClientURLs}, true})
}

// mustJSON encodes what always can be encoded.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("BUG: member: %T cannot be encoded: %v", v, err))
	}
	return b
}

// IDOf is the id of a founding member: the first 8 bytes, big-endian, of SHA-1 over its sorted peer URLs and the cluster's
// token (source: etcd v3.7 server/etcdserver/api/membership/member.go).
func IDOf(peerURLs []string, token string) ids.MemberID {
	urls := slices.Sorted(slices.Values(peerURLs))
	sum := sha1.Sum([]byte(strings.Join(urls, "") + token))
	return ids.MemberID(binary.BigEndian.Uint64(sum[:8]))
}

// IDOfAdded is the id of a member that is added to a running cluster: IDOf with the current time, in seconds since 1970,
// as decimal digits in place of the token.
func IDOfAdded(peerURLs []string, unixSeconds int64) ids.MemberID {
	return IDOf(peerURLs, strconv.FormatInt(unixSeconds, 10))
}

// ClusterIDOf is the id of a cluster with these founding members: the first 8 bytes, big-endian, of SHA-1 over their ids,
// ascending, 8 bytes big-endian each.
func ClusterIDOf(members []ids.MemberID) ids.ClusterID {
	var b []byte
	for _, id := range slices.Sorted(slices.Values(members)) {
		b = binary.BigEndian.AppendUint64(b, uint64(id))
	}
	sum := sha1.Sum(b)
	return ids.ClusterID(binary.BigEndian.Uint64(sum[:8]))
}

// CheckURLs says whether every peer URL of a new member can be one: scheme http or https with host and port and no path, or
// unix or unixs. The error is fault.MemberBadURLs with the reason.
func CheckURLs(urls []string) error {
	if len(urls) == 0 {
		return fmt.Errorf("%w: none given", fault.MemberBadURLs)
	}
	for _, s := range urls {
		u, err := url.Parse(strings.TrimSpace(s))
		if err != nil {
			return fmt.Errorf("%w: %q: %v", fault.MemberBadURLs, s, err)
		}
		switch u.Scheme {
		case "http", "https":
			if !hasPort(u.Host) || u.Path != "" {
				return fmt.Errorf("%w: %q: want host:port and no path", fault.MemberBadURLs, s)
			}
		case "unix", "unixs":
		default:
			return fmt.Errorf("%w: %q: the scheme must be http, https, unix or unixs", fault.MemberBadURLs, s)
		}
	}
	return nil
}

// hasPort says whether host has the form host:port; an IPv6 address must be in brackets.
func hasPort(host string) bool {
	colon := strings.LastIndexByte(host, ':')
	if colon < 0 || strings.HasSuffix(host, "]") {
		return false
	}
	return strings.HasPrefix(host, "[") || !strings.Contains(host[:colon], ":")
}
