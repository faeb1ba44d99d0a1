package server

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
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/config"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/wal"
)

// Bounds of what a new member asks the others (source: etcd's server/etcdserver/cluster_util.go).
const (
	joinTimeout    = 10 * time.Second // of one question by a member that joins
	rebornTimeout  = time.Second      // of one question by a founder
	joinBytes      = 1 << 20          // of one answer
	resolveTimeout = 30 * time.Second // of the names in peer URLs
)

// fetched is a cluster as one of its members describes it.
type fetched struct {
	cluster ids.ClusterID
	members []member.Member // ascending by id
}

// join makes the log of a member that joins a running cluster: it begins empty, and everything comes from the others.
func (s *Server) join(ctx context.Context, options wal.Options) error {
	if err := s.cfg.CheckJoining(); err != nil {
		return err
	}
	named, err := s.cfg.Founders()
	if err != nil {
		return err
	}
	existing, err := s.fetchCluster(ctx, othersURLs(named, s.cfg.Member.Name), joinTimeout)
	if err != nil {
		return fmt.Errorf("cannot fetch cluster info from peer urls: %w; check that --initial-cluster names the peer URLs of members that run", err)
	}
	self, err := matchMembers(ctx, existing.members, named, s.cfg.Member.Name)
	if err != nil {
		return fmt.Errorf("error validating peerURLs %s: %w", existing, err)
	}
	if err := s.compatible(ctx, existing, self); err != nil {
		return err
	}
	learners := 0
	for _, m := range existing.members {
		if m.IsLearner {
			learners++
		}
	}
	if int64(learners) > s.cfg.Cluster.MaxLearners {
		return fmt.Errorf("the cluster has %d learners and --max-learners is %d, which must be the same on every member: %w", learners, s.cfg.Cluster.MaxLearners, fault.TooManyLearners)
	}
	s.identify(identity{member: self, cluster: existing.cluster})
	s.logger.Info("joining a running cluster", zap.Stringer("local-member-id", self), zap.Stringer("cluster-id", existing.cluster), zap.Int("members", len(existing.members)))
	log, err := wal.Create(s.dir.log, options, wal.Metadata{Member: self, Cluster: existing.cluster})
	if err != nil {
		return err
	}
	s.keepLog(log)
	s.core.past = history{others: existing.members}
	return nil
}

// String shows a cluster as etcd does in the same messages.
func (f *fetched) String() string {
	var members []string
	for _, m := range f.members {
		members = append(members, fmt.Sprintf("{ID:%s Name:%s PeerURLs:%v IsLearner:%t}", m.ID, m.Name, m.PeerURLs, m.IsLearner))
	}
	return fmt.Sprintf("{ClusterID:%s Members:[%s]}", f.cluster, strings.Join(members, " "))
}

// othersURLs are the peer URLs of all but one member, sorted.
func othersURLs(named []config.Founder, except string) (urls []string) {
	for _, f := range named {
		if f.Name != except {
			urls = append(urls, f.PeerURLs...)
		}
	}
	slices.Sort(urls)
	return urls
}

// fetchCluster asks the members at these URLs, one after the other, who is in the cluster. The first answer counts.
func (s *Server) fetchCluster(ctx context.Context, urls []string, timeout time.Duration) (*fetched, error) {
	var failures []error
	for _, u := range urls {
		f, err := s.fetchFrom(ctx, u, timeout)
		if err == nil {
			return f, nil
		}
		s.logger.Debug("failed to get cluster response", zap.String("address", u), zap.Error(err))
		failures = append(failures, err)
	}
	return nil, errors.Join(append([]error{errors.New("could not retrieve cluster information from the given URLs")}, failures...)...)
}

func (s *Server) fetchFrom(ctx context.Context, u string, timeout time.Duration) (*fetched, error) {
	body, header, err := s.ask(ctx, u+"/members", timeout)
	if err != nil {
		return nil, err
	}
	f := &fetched{}
	if err := json.Unmarshal(body, &f.members); err != nil {
		return nil, fmt.Errorf("%s/members answered no list of members: %w", u, err)
	}
	cluster, err := strconv.ParseUint(header.Get("X-Etcd-Cluster-ID"), 16, 64)
	if err != nil {
		return nil, fmt.Errorf("%s/members named the cluster %q: %w", u, header.Get("X-Etcd-Cluster-ID"), err)
	}
	if len(f.members) == 0 {
		return nil, fmt.Errorf("%s/members named no member", u)
	}
	f.cluster = ids.ClusterID(cluster)
	slices.SortFunc(f.members, func(a, b member.Member) int { return compareIDs(a.ID, b.ID) })
	return f, nil
}

func compareIDs(a, b ids.MemberID) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// ask fetches a small document from a member.
func (s *Server) ask(ctx context.Context, address string, timeout time.Duration) ([]byte, http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, err
	}
	web := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: s.secure.peer.Client()},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := web.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, joinBytes))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s: %s", address, resp.Status, strings.TrimSpace(string(body)))
	}
	return body, resp.Header, err
}

// matchMembers finds every member of the running cluster among those that --initial-cluster names, by their peer URLs, and
// returns the id of the one with this name.
func matchMembers(ctx context.Context, existing []member.Member, named []config.Founder, self string) (own ids.MemberID, err error) {
	if len(existing) != len(named) {
		return 0, fmt.Errorf("member count is unequal: the cluster has %d members and --initial-cluster names %d", len(existing), len(named))
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	for _, m := range existing {
		i := slices.IndexFunc(named, func(f config.Founder) bool { return sameURLs(ctx, m.PeerURLs, f.PeerURLs) })
		if i < 0 {
			return 0, fmt.Errorf("PeerURLs: no match found for existing member (%s, %v)", m.ID, m.PeerURLs)
		}
		if named[i].Name == self {
			own = m.ID
		}
	}
	if own == 0 {
		return 0, fmt.Errorf("no member of the cluster has the peer URLs of this one, %q: add it first (etcdctl member add)", self)
	}
	return own, nil
}

// sameURLs compares two sets of URLs, with names resolved when they differ as text.
func sameURLs(ctx context.Context, a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b) || slices.Equal(resolved(ctx, a), resolved(ctx, b))
}

// resolved replaces the names in URLs by addresses as far as that is possible.
func resolved(ctx context.Context, urls []string) []string {
	out := slices.Clone(urls)
	for i, text := range out {
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" || net.ParseIP(u.Hostname()) != nil {
			continue
		}
		found, err := net.DefaultResolver.LookupHost(ctx, u.Hostname())
		if err == nil && len(found) > 0 {
			u.Host = net.JoinHostPort(slices.Min(found), u.Port())
			out[i] = u.String()
		}
	}
	slices.Sort(out)
	return out
}

// compatible refuses to join a cluster of another major or a newer minor version. At least one member must say what the
// version is.
func (s *Server) compatible(ctx context.Context, f *fetched, self ids.MemberID) error {
	heard := false
	for _, m := range f.members {
		for _, u := range m.PeerURLs {
			if m.ID == self {
				continue
			}
			body, _, err := s.ask(ctx, u+"/version", s.cfg.RequestTimeout())
			if err != nil {
				s.logger.Warn("failed to get version", zap.Stringer("remote-member-id", m.ID), zap.Error(err))
				continue
			}
			var v struct {
				Cluster string `json:"etcdcluster"`
			}
			if err := json.Unmarshal(body, &v); err != nil || v.Cluster == "not_decided" {
				continue
			}
			if !between(config.MinClusterVersion, v.Cluster, config.ClusterVersion) {
				return fmt.Errorf("incompatible with current running cluster: member %s says that its version is %s, this release works with %s to %s",
					m.ID, v.Cluster, config.MinClusterVersion, config.ClusterVersion)
			}
			heard = true
			break
		}
	}
	if !heard {
		return errors.New("incompatible with current running cluster: no member says what the version of the cluster is")
	}
	return nil
}

// between reports whether the major and minor numbers of v lie between those of two others.
func between(low, v, high string) bool {
	var n [3][2]int
	for i, text := range []string{low, v, high} {
		if _, err := fmt.Sscanf(text, "%d.%d.", &n[i][0], &n[i][1]); err != nil {
			return false
		}
	}
	return slices.Compare(n[0][:], n[1][:]) <= 0 && slices.Compare(n[1][:], n[2][:]) <= 0
}

// refuseReborn refuses to found a cluster in which this member has served already: its votes and its data are lost, and as
// if nothing had happened it would vote again.
func (s *Server) refuseReborn(ctx context.Context, id identity) error {
	named, err := s.cfg.Founders()
	if err != nil || len(named) < 2 {
		return err
	}
	f, err := s.fetchCluster(ctx, othersURLs(named, s.cfg.Member.Name), rebornTimeout)
	if err != nil {
		return nil // nobody is there yet
	}
	for _, m := range f.members {
		if m.ID == id.member && len(m.ClientURLs) > 0 {
			return fmt.Errorf("member %s has already been bootstrapped: its data is not in %s. Give the --data-dir it had, or remove it from the cluster, add it again, and start it with --initial-cluster-state=existing",
				id.member, s.dir.path)
		}
	}
	return nil
}
