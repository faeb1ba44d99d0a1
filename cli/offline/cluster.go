package offline

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.uber.org/zap"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/member"
)

// founders are the members of the new cluster that the flags describe, this one's id among them.
type founders struct {
	self    ids.MemberID
	members []member.Member // ascending by id
}

func (f *founders) cluster() ids.ClusterID {
	var all []ids.MemberID
	for _, m := range f.members {
		all = append(all, m.ID)
	}
	return member.ClusterIDOf(all)
}

// founders checks the flags as etcd does (source: etcd v3.7 server/config/config.go, VerifyBootstrap).
func (t *tool) founders(ctx context.Context, f *restoreFlags, lg *zap.Logger) (*founders, error) {
	own, err := types.NewURLs(strings.Split(f.peerURLs, ","))
	if err != nil {
		return nil, err
	}
	all, err := types.NewURLsMap(f.cluster)
	if err != nil {
		return nil, err
	}
	named, ok := all[f.name]
	if !ok {
		return nil, fmt.Errorf("couldn't find local name %q in the initial cluster configuration", f.name)
	}
	if err := sameURLs(ctx, lg, f.name, own, named); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, u := range all.URLs() {
		if seen[u] {
			return nil, fmt.Errorf("initial cluster %s has duplicate url", all)
		}
		seen[u] = true
	}
	out := &founders{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		urls := all[name].StringSlice()
		m := member.Member{ID: member.IDOf(urls, f.token), Name: name, PeerURLs: urls}
		if name == f.name {
			out.self = m.ID
		}
		out.members = append(out.members, m)
	}
	slices.SortFunc(out.members, func(a, b member.Member) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return out, nil
}

// sameURLs checks that --initial-cluster and --initial-advertise-peer-urls say the same of this member, or name the same
// addresses. Unlike etcd it asks for an address once.
func sameURLs(ctx context.Context, lg *zap.Logger, name string, own, named types.URLs) error {
	cause := resolvedEqual(ctx, lg, own, named)
	if cause == nil {
		return nil
	}
	advertised := strings.Join(own.StringSlice(), ",")
	if missing := without(named, own); len(missing) > 0 {
		for i := range missing {
			missing[i] = name + "=" + missing[i]
		}
		return fmt.Errorf("--initial-cluster has %s but missing from --initial-advertise-peer-urls=%s (%w)", strings.Join(missing, ","), advertised, cause)
	}
	pairs := types.URLsMap{name: own}
	if missing := without(own, named); len(missing) > 0 {
		return fmt.Errorf("--initial-advertise-peer-urls has %s but missing from --initial-cluster=%s", strings.Join(missing, ","), pairs)
	}
	return fmt.Errorf("failed to resolve %s to match --initial-cluster=%s (%w)", advertised, pairs, cause)
}

// without are the URLs of a that b has not, sorted.
func without(a, b types.URLs) []string {
	there := b.StringSlice()
	var out []string
	for _, u := range a.StringSlice() {
		if !slices.Contains(there, u) && !slices.Contains(out, u) {
			out = append(out, u)
		}
	}
	return out
}

// resolvedEqual compares two lists of URLs, and their addresses where the names differ. The error says what differs.
func resolvedEqual(ctx context.Context, lg *zap.Logger, a, b types.URLs) error {
	if len(a) != len(b) {
		return fmt.Errorf("len(%q) != len(%q)", a.StringSlice(), b.StringSlice())
	}
	if slices.Equal(a.StringSlice(), b.StringSlice()) {
		return nil
	}
	var resolved [2][]string
	for i, urls := range []types.URLs{a, b} {
		for _, u := range urls {
			text, err := resolve(ctx, lg, u)
			if err != nil {
				return fmt.Errorf("failed to resolve %q (%w)", u.String(), err)
			}
			resolved[i] = append(resolved[i], text)
		}
		slices.Sort(resolved[i])
	}
	for i := range resolved[0] {
		if resolved[0][i] != resolved[1][i] {
			return fmt.Errorf("resolved urls: %q != %q", resolved[0][i], resolved[1][i])
		}
	}
	return nil
}

// resolve puts the address of its host into a URL. localhost stays.
func resolve(ctx context.Context, lg *zap.Logger, u url.URL) (string, error) {
	if u.Scheme == "unix" || u.Scheme == "unixs" {
		return u.String(), nil
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil || host == "localhost" {
		return u.String(), err
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return "", err
	}
	addresses, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		lg.Warn("failed to resolve URL Host", zap.String("url", u.String()), zap.String("host", u.Host), zap.Error(err))
		return "", err
	}
	address := net.TCPAddr{IP: addresses[0].IP, Port: number, Zone: addresses[0].Zone}
	lg.Info("resolved URL Host", zap.String("url", u.String()), zap.String("host", u.Host), zap.String("resolved-addr", address.String()))
	u.Host = address.String()
	return u.String(), nil
}
