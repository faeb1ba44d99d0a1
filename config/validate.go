package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

var (
	errAdvertiseUnset = errors.New("--advertise-client-urls is required when --listen-client-urls is set explicitly")
	errBootstrap      = errors.New(`multiple discovery or bootstrap flags are set. Choose one of "initial-cluster", "discovery-endpoints" or "discovery-srv"`)
)

// derive fills in what follows from other settings: the data directory, advertised addresses and the initial cluster.
func (l *loader) derive() error {
	c := l.config
	if o := c.origin["listen-client-urls"]; (o == "flag" || o == "env") && !c.IsSet("advertise-client-urls") {
		return errAdvertiseUnset
	}
	l.deriveAdvertised()
	switch {
	case c.IsSet("initial-cluster"):
	case c.discovers():
		c.Cluster.Initial = ""
	default:
		c.Cluster.Initial = c.initialFromName()
	}
	if c.Member.DataDir == "" {
		suffix := dataDirSuffix
		if l.src.Program == programEtcd {
			suffix = dataDirSuffixAsEtcd
		}
		c.Member.DataDir = c.Member.Name + suffix
	}
	return nil
}

// discovers reports whether the members of a new cluster are to be found elsewhere, so that none may be derived.
func (c *Config) discovers() bool {
	return c.Finding.SRVDomain != "" || c.Finding.SRVSuffix != "" || len(c.Finding.Endpoints) > 0
}

// deriveAdvertised replaces the default localhost by this machine's address where the server listens on all of them.
func (l *loader) deriveAdvertised() {
	if l.src.DefaultHost == nil {
		return
	}
	c := l.config
	for _, pair := range []struct {
		listen    []url.URL
		advertise []url.URL
		name      string
	}{
		{c.Listen.Peer, c.Cluster.AdvertisePeer, "initial-advertise-peer-urls"},
		{c.Listen.Client, c.Cluster.AdvertiseClient, "advertise-client-urls"},
	} {
		if len(pair.listen) == 0 || pair.listen[0].Hostname() != "0.0.0.0" || joinURLs(pair.advertise) != lookup(pair.name).Default {
			continue
		}
		host, err := l.src.DefaultHost()
		if err != nil {
			l.note(false, "failed to detect default host", [2]string{"error", err.Error()})
			return
		}
		pair.advertise[0].Host = net.JoinHostPort(host, pair.listen[0].Port())
		l.note(false, "detected default host for advertise", [2]string{"host", host}, [2]string{"setting", pair.name})
	}
}

func (c *Config) initialFromName() string {
	name := c.Member.Name
	if name == "" {
		name = DefaultName
	}
	pairs := make([]string, len(c.Cluster.AdvertisePeer))
	for i, u := range c.Cluster.AdvertisePeer {
		pairs[i] = name + "=" + u.String()
	}
	return strings.Join(pairs, ",")
}

// Validate checks every rule between settings and values, and refuses what is unsafe to ignore.
func (c *Config) Validate() error {
	for _, check := range c.checks() {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// checks are the rules, each of which returns the first that is broken.
func (c *Config) checks() []func() error {
	return []func() error{c.checkLog, c.checkAudit, c.checkListen, c.checkAdvertised, c.checkBootstrap, c.checkTimes, c.checkChoices, c.checkTLS, c.checkRefused}
}

func (c *Config) checkListen() error {
	for _, part := range []struct {
		flag string
		urls []url.URL
	}{
		{"listen-peer-urls", c.Listen.Peer}, {"listen-client-urls", c.Listen.Client},
		{"listen-client-http-urls", c.Listen.ClientHTTP}, {"listen-metrics-urls", c.Listen.Metrics},
	} {
		for _, u := range part.urls {
			if err := checkBind(u); err != nil {
				return fmt.Errorf("--%s: %w", part.flag, err)
			}
		}
	}
	switch {
	case len(c.Listen.Client) == 0:
		return errors.New("--listen-client-urls is empty: give at least one URL such as http://localhost:2379")
	case len(c.Listen.Peer) == 0:
		return errors.New("--listen-peer-urls is empty: give at least one URL such as http://localhost:2380")
	}
	return nil
}

// checkBind: a name would depend on DNS at every start, so only addresses and localhost can be listened on.
func checkBind(u url.URL) error {
	if u.Scheme == "unix" || u.Scheme == "unixs" {
		return nil
	}
	host, _, err := net.SplitHostPort(u.Host)
	if err != nil {
		return err
	}
	if host != "localhost" && net.ParseIP(host) == nil {
		return fmt.Errorf("expected IP in URL for binding (%s)", u.String())
	}
	return nil
}

func (c *Config) checkAdvertised() error {
	for _, part := range []struct {
		flag string
		urls []url.URL
	}{{"initial-advertise-peer-urls", c.Cluster.AdvertisePeer}, {"advertise-client-urls", c.Cluster.AdvertiseClient}} {
		if len(part.urls) == 0 {
			return fmt.Errorf("--%s is empty: give at least one URL under which this member is reached", part.flag)
		}
		for _, u := range part.urls {
			if !strings.HasPrefix(u.Scheme, "unix") && u.Hostname() == "" {
				return fmt.Errorf("--%s: unexpected empty host (%s): others need a host to connect to", part.flag, u.String())
			}
		}
	}
	return nil
}

func (c *Config) checkBootstrap() error {
	endpoints, srv := strings.Join(c.Finding.Endpoints, ","), c.Finding.SRVDomain
	sources := 0
	for _, given := range []bool{c.Cluster.Initial != "", endpoints != "", srv != ""} {
		if given {
			sources++
		}
	}
	switch {
	case sources > 1:
		return errBootstrap
	case (endpoints != "") != (c.Finding.Token != ""):
		return errors.New("both --discovery-token and --discovery-endpoints must be set")
	case slices.ContainsFunc(c.Finding.Endpoints, func(w string) bool { return strings.TrimSpace(w) == "" }):
		return fmt.Errorf("--discovery-endpoints %q must not contain empty endpoints", endpoints)
	case c.inactive["discovery-fallback"] == "proxy":
		return errors.New(`v2 proxy is deprecated, and --discovery-fallback can't be configured as "proxy"`)
	case endpoints != "":
		return c.checkEndpoints()
	}
	return nil
}

// checkEndpoints refuses a discovery that would be less safe than its settings say.
func (c *Config) checkEndpoints() error {
	for _, e := range c.Finding.Endpoints {
		if _, _, err := net.SplitHostPort(strings.TrimPrefix(strings.TrimPrefix(e, "https://"), "http://")); err != nil {
			return fmt.Errorf("--discovery-endpoints %q: use host:port, http://host:port or https://host:port", e)
		}
	}
	for i := range table {
		s := &table[i]
		if s.State == Later && s.Why == whyDiscovery && s.changed(c) {
			return fmt.Errorf("--%s cannot be honoured: %s", s.Name, whyDiscovery)
		}
	}
	return nil
}

// CheckFounding checks the settings that only count when there is no data yet: this member must be one of the cluster. The
// caller ignores them when it restarts with data.
func (c *Config) CheckFounding() error {
	own, err := c.checkInitial()
	if err != nil {
		return err
	}
	if joinURLs(own) != joinURLs(c.Cluster.AdvertisePeer) {
		return fmt.Errorf("--initial-cluster has %s but missing from --initial-advertise-peer-urls=%s: make both the same",
			pairsOf(c.Member.Name, own), joinURLs(c.Cluster.AdvertisePeer))
	}
	return nil
}

// CheckJoining checks the settings of a member without data that joins a running cluster. That has been told this member's
// peer URLs when it was added, so --initial-advertise-peer-urls does not count.
func (c *Config) CheckJoining() error {
	_, err := c.checkInitial()
	return err
}

// checkInitial checks --initial-cluster and returns this member's URLs in it.
func (c *Config) checkInitial() ([]url.URL, error) {
	members, err := parseCluster(c.Cluster.Initial)
	if err != nil {
		return nil, fmt.Errorf("--initial-cluster %q: %w", c.Cluster.Initial, err)
	}
	own, ok := members[c.Member.Name]
	if !ok {
		return nil, fmt.Errorf("--initial-cluster %q does not include this member: couldn't find local name %q in the initial cluster configuration; add %s=%s or change --name",
			c.Cluster.Initial, c.Member.Name, c.Member.Name, joinURLs(c.Cluster.AdvertisePeer))
	}
	owner := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		for _, u := range URLStrings(members[name]) {
			if other, taken := owner[u]; taken {
				return nil, fmt.Errorf("initial cluster %s has duplicate url: %s belongs to %q and to %q", c.Cluster.Initial, u, other, name)
			}
			owner[u] = name
		}
	}
	return own, nil
}

// Founder is a member of a new cluster, as --initial-cluster names it.
type Founder struct {
	Name     string
	PeerURLs []string // sorted
}

// Founders are the members that --initial-cluster names, by name.
func (c *Config) Founders() ([]Founder, error) {
	members, err := parseCluster(c.Cluster.Initial)
	if err != nil {
		return nil, fmt.Errorf("--initial-cluster %q: %w", c.Cluster.Initial, err)
	}
	var out []Founder
	for _, name := range slices.Sorted(maps.Keys(members)) {
		urls := URLStrings(members[name])
		slices.Sort(urls)
		out = append(out, Founder{Name: name, PeerURLs: urls})
	}
	return out, nil
}

func pairsOf(name string, urls []url.URL) string {
	out := make([]string, len(urls))
	for i, u := range urls {
		out[i] = name + "=" + u.String()
	}
	return strings.Join(out, ",")
}

// parseCluster reads name=url pairs; a name may occur several times with several URLs.
func parseCluster(text string) (map[string][]url.URL, error) {
	lists := map[string][]string{}
	for _, pair := range words(text) {
		if pair == "" {
			continue
		}
		name, u, _ := strings.Cut(pair, "=")
		lists[name] = append(lists[name], u)
	}
	out := make(map[string][]url.URL, len(lists))
	for name, list := range lists {
		urls, err := parseURLs(list)
		if err != nil {
			return nil, fmt.Errorf("member %q: %w", name, err)
		}
		out[name] = urls
	}
	return out, nil
}

func (c *Config) checkTimes() error {
	beat, election := c.Raft.HeartbeatMillis, c.Raft.ElectionMillis
	switch {
	case beat == 0:
		return errors.New("--heartbeat-interval must be >0 (set to 0ms): the usual value is 100")
	case election == 0:
		return errors.New("--election-timeout must be >0 (set to 0ms): the usual value is 1000")
	case election > electionMillisMax:
		return fmt.Errorf("--election-timeout[%dms] is too long, and should be set less than %dms", election, electionMillisMax)
	case beat > election/electionHeartbeats:
		return fmt.Errorf("--election-timeout[%dms] should be at least as %d times as --heartbeat-interval[%dms]", election, electionHeartbeats, beat)
	}
	for i := range table {
		if table[i].Kind != Duration {
			continue
		}
		v, err := table[i].parse(table[i].get(c))
		if err == nil && lessDuration(v, 0) {
			return fmt.Errorf("--%s %s is negative: use a duration of at least 0", table[i].Name, table[i].get(c))
		}
	}
	if c.Checks.Compactions <= 0 {
		return fmt.Errorf("--compact-hash-check-time must be >0 (set to %s)", c.Checks.Compactions)
	}
	return nil
}

func lessDuration(v any, than time.Duration) bool {
	d, ok := v.(time.Duration)
	return ok && d < than
}

func (c *Config) checkChoices() error {
	if _, err := c.Compaction(); err != nil {
		return err
	}
	switch {
	case !slices.Contains([]string{"", "basic", MetricsExtensive}, c.HTTP.Metrics):
		return fmt.Errorf("--metrics %q is unknown: use basic or extensive", c.HTTP.Metrics)
	case c.Store.MaxRequestBytes == 0 || c.Store.MaxRequestBytes > requestBytesMax:
		return fmt.Errorf("--max-request-bytes %d is out of range: use 1 to %d", c.Store.MaxRequestBytes, uint64(requestBytesMax))
	case c.Store.MaxTxnOps == 0:
		return errors.New("--max-txn-ops 0 would refuse every transaction: the usual value is 128")
	case c.Cluster.MaxLearners < 0:
		return fmt.Errorf("--max-learners %d is negative: use at least 0", c.Cluster.MaxLearners)
	case c.Gates.Enabled("LeaseCheckpointPersist") && !c.Gates.Enabled("LeaseCheckpoint"):
		return errors.New("enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint")
	}
	return c.checkAuth()
}

// requestBytesMax keeps a request and its framing inside the 32-bit lengths of the wire formats, bytes.
const requestBytesMax = 1 << 30

// checkRefused ends the start for settings that must not be ignored silently.
func (c *Config) checkRefused() error {
	for i := range table {
		s := &table[i]
		if s.State == Refused && s.changed(c) {
			return fmt.Errorf("--%s=%s cannot be honoured: %s. Remove the setting to start without it", s.Name, s.get(c), s.Why)
		}
	}
	return nil
}

// Rebind replaces the addresses to listen on by those really bound, which differ where port 0 asked for any port. Advertised
// addresses with port 0 follow, and so does an initial cluster that was not given.
func (c *Config) Rebind(peer, client []url.URL) {
	c.Cluster.AdvertisePeer = realPorts(c.Cluster.AdvertisePeer, peer)
	c.Cluster.AdvertiseClient = realPorts(c.Cluster.AdvertiseClient, client)
	c.Listen.Peer, c.Listen.Client = peer, client
	if !c.IsSet("initial-cluster") && !c.discovers() {
		c.Cluster.Initial = c.initialFromName()
	}
}

// realPorts gives advertised URLs without a port those of the bound ones, in order.
func realPorts(advertised, bound []url.URL) []url.URL {
	out := slices.Clone(advertised)
	for i := range out {
		if out[i].Port() == "0" && i < len(bound) {
			out[i].Host = net.JoinHostPort(out[i].Hostname(), bound[i].Port())
		}
	}
	return out
}
