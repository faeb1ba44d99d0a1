package ops

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/insight"
	"quorate.dev/quorate/internal/clock"
)

// pageBytes bounds what is read of one HTTP answer.
const pageBytes = 16 << 20

// Cluster is what could be found out about a cluster.
type Cluster struct {
	ID       string    `json:"id"` // hexadecimal
	Time     int64     `json:"time"`
	Revision int64     `json:"revision"` // the newest that a member has
	Leader   string    `json:"leader"`   // name, "" for none
	Term     uint64    `json:"term"`
	Members  []*Member `json:"members"`
	Alarms   []Alarm   `json:"alarms"`
	Problem  string    `json:"problem,omitempty"` // why something could not be asked of the cluster as a whole
}

// Alarm is one that is raised.
type Alarm struct {
	Member string `json:"member"` // name
	Alarm  string `json:"alarm"`
}

// Member is what could be found out about one member.
type Member struct {
	ID        string   `json:"id"` // hexadecimal
	Name      string   `json:"name"`
	Learner   bool     `json:"learner"`
	Endpoints []string `json:"endpoints"` // that it advertises, or where it was found
	PeerURLs  []string `json:"peerUrls"`
	Endpoint  string   `json:"endpoint"`        // that answered
	Error     string   `json:"error,omitempty"` // why none did
	State     *State   `json:"state,omitempty"`
	Web       *Web     `json:"web,omitempty"`

	number uint64 // the id
}

// State is what a member says of itself over gRPC.
type State struct {
	Version   string   `json:"version"` // of etcd that it is compatible with, or is
	Leader    string   `json:"leader"`  // id, hexadecimal; "" for none
	Term      uint64   `json:"term"`
	Revision  int64    `json:"revision"`
	Index     uint64   `json:"index"`
	Applied   uint64   `json:"applied"`
	Size      int64    `json:"size"`  // bytes on disk
	InUse     int64    `json:"inUse"` // bytes
	Quota     int64    `json:"quota"` // bytes; 0 unknown or none
	Errors    []string `json:"errors"`
	RoundTrip float64  `json:"roundTrip"` // seconds
}

// Web is what a member says of itself over HTTP.
type Web struct {
	Own         string       `json:"own,omitempty"` // version of this program; "" for etcd
	Cluster     string       `json:"cluster"`       // the cluster version
	Error       string       `json:"error,omitempty"`
	Certificate *Certificate `json:"certificate,omitempty"` // that it shows to clients
	Clock       *Clock       `json:"clock,omitempty"`

	metrics metrics
	report  *insight.Report // nil when there is none, or we may not see it
	refused string          // why the report is not shown
}

// Certificate is what a member shows to clients.
type Certificate struct {
	NotAfter int64  `json:"notAfter"`        // seconds since 1970
	Wrong    string `json:"wrong,omitempty"` // why it does not fit the endpoint
}

// Clock is how far a member's clock is ahead of ours.
type Clock struct {
	Ahead float64 `json:"ahead"` // seconds
	Bound float64 `json:"bound"` // the truth is at most so far from that, seconds
}

// gatherer asks the members.
type gatherer struct {
	client   *clientv3.Client
	given    []string // endpoints
	web      *http.Client
	token    string
	clock    clock.Clock
	patience time.Duration // with each member
}

// newGatherer makes one of what flags and environment say. When nobody can say who we are, as when there is no quorum, it asks
// without saying so.
func newGatherer(s *cli.Session) (*gatherer, string, error) {
	spec, err := s.Spec()
	if err != nil {
		return nil, "", err
	}
	cfg, err := clientv3.NewClientConfig(spec, zap.NewNop())
	if err != nil {
		return nil, "", cli.Fail(cli.ExitBadArgs, err)
	}
	g := &gatherer{given: spec.Endpoints, clock: s.Clock(), patience: s.Globals.Dial.Timeout}
	problem := ""
	if g.client, err = s.Dial(spec); err != nil {
		if spec.Auth == nil {
			return nil, "", err
		}
		problem = fmt.Sprintf("cannot authenticate as %s: %v", spec.Auth.Username, err)
		spec.Auth = nil
		if g.client, err = s.Dial(spec); err != nil {
			return nil, "", err
		}
	}
	g.web = &http.Client{Transport: &http.Transport{TLSClientConfig: loose(cfg.TLS), ForceAttemptHTTP2: true, DialContext: dialer(g.patience)}}
	if spec.Auth != nil {
		g.token = spec.Auth.Token
		if g.token == "" {
			ctx, cancel := context.WithTimeout(s.Context, g.patience)
			defer cancel()
			if r, err := g.client.Authenticate(ctx, spec.Auth.Username, spec.Auth.Password); err == nil {
				g.token = r.Token
			}
		}
	}
	return g, problem, nil
}

// loose is a configuration that accepts certificates which do not fit, because we report on them. Nothing that HTTP answers here
// is trusted for more than a report, but a token is only sent where the certificate fits (see Certificate.Wrong).
func loose(c *tls.Config) *tls.Config {
	if c == nil {
		c = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	c = c.Clone()
	c.InsecureSkipVerify = true
	return c
}

func dialer(patience time.Duration) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{Timeout: patience}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if path, ok := strings.CutSuffix(addr, ".unix-socket:80"); ok {
			if path, err := url.PathUnescape(path); err == nil {
				return d.DialContext(ctx, "unix", path)
			}
		}
		return d.DialContext(ctx, network, addr)
	}
}

// close gives the connections back.
func (g *gatherer) close() { g.web.CloseIdleConnections() }

// gather asks everybody at once. It takes at most three times the patience with a member.
func (g *gatherer) gather(ctx context.Context) *Cluster {
	c := &Cluster{Time: g.clock.Now().Unix(), Alarms: []Alarm{}}
	alarms := make(chan *pb.AlarmResponse, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, g.patience)
		defer cancel()
		r, err := g.client.AlarmList(ctx)
		if err != nil {
			r = nil
		}
		alarms <- (*pb.AlarmResponse)(r)
	}()
	if err := g.members(ctx, c); err != nil {
		c.Problem = err.Error()
	}
	var all sync.WaitGroup
	for _, m := range c.Members {
		all.Go(func() { g.ask(ctx, m) })
	}
	all.Wait()
	c.sum(<-alarms)
	return c
}

// members finds the members: by the list that one of them has, or else those that are at the given endpoints.
func (g *gatherer) members(ctx context.Context, c *Cluster) error {
	ctx, cancel := context.WithTimeout(ctx, g.patience)
	defer cancel()
	var list *clientv3.MemberListResponse
	err := g.anyReached(ctx)
	if err == nil {
		list, err = g.client.MemberList(ctx, clientv3.WithSerializable())
	}
	if err == nil {
		c.ID = hex(list.Header.GetClusterId())
		for _, m := range list.Members {
			c.Members = append(c.Members, &Member{ID: hex(m.GetID()), Name: m.GetName(), Learner: m.GetIsLearner(), Endpoints: nonNil(m.GetClientURLs()), PeerURLs: nonNil(m.GetPeerURLs()), number: m.GetID()})
		}
		slices.SortFunc(c.Members, func(a, b *Member) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
		return nil
	}
	for _, ep := range g.given {
		c.Members = append(c.Members, &Member{Name: ep, Endpoints: []string{ep}, PeerURLs: []string{}})
	}
	return fmt.Errorf("no endpoint lists the members: %w", err)
}

func nonNil(list []string) []string { return append([]string{}, list...) }

// ask asks one member: at what it advertises and, if it does not answer there, at the given endpoints, one of which may be its own.
func (g *gatherer) ask(ctx context.Context, m *Member) {
	if len(m.Endpoints) == 0 && m.number != 0 {
		m.Error = "it has not started yet: nobody knows where its clients connect"
		return
	}
	var first error
	for _, list := range [][]string{m.Endpoints, g.given} {
		ep, state, id, err := g.anyState(ctx, list, m.number)
		if err == nil {
			m.Endpoint, m.State = ep, state
			if m.number == 0 {
				m.ID, m.number = hex(id), id
			}
			break
		}
		if first == nil {
			first = err
		}
	}
	if m.State == nil {
		m.Error = plain(first)
		return
	}
	m.Web = g.askWeb(ctx, m.Endpoint)
	if m.Web.report != nil && m.Name == m.Endpoint {
		m.Name = m.Web.report.Name
	}
}

// anyState is the state of the member, asked at all endpoints at once; the first answer counts.
func (g *gatherer) anyState(ctx context.Context, endpoints []string, want uint64) (ep string, s *State, id uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, g.patience)
	defer cancel()
	type answer struct {
		ep  string
		s   *State
		id  uint64
		err error
	}
	answers := make(chan answer, len(endpoints))
	for _, ep := range endpoints {
		go func() {
			if err := g.reach(ctx, ep); err != nil {
				answers <- answer{err: fmt.Errorf("%s: %w", ep, err)}
				return
			}
			began := g.clock.Now()
			r, err := g.client.Status(ctx, ep)
			if err != nil {
				answers <- answer{err: fmt.Errorf("%s: %w", ep, err)}
				return
			}
			if id := r.Header.GetMemberId(); want != 0 && id != want {
				answers <- answer{err: fmt.Errorf("%s: another member answers there (%s)", ep, hex(id))}
				return
			}
			answers <- answer{ep, stateOf((*pb.StatusResponse)(r), g.clock.Now().Sub(began)), r.Header.GetMemberId(), nil}
		}()
	}
	var errs []error
	for range endpoints {
		a := <-answers
		if a.err == nil {
			return a.ep, a.s, a.id, nil
		}
		errs = append(errs, a.err)
	}
	return "", nil, 0, errors.Join(errs...)
}

// reach says at once why nothing listens at an endpoint, which the client library would find out only in the end.
func (g *gatherer) reach(ctx context.Context, endpoint string) error {
	u, err := url.Parse(baseURL(endpoint, g.secure()))
	if err != nil {
		return err
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443"}[u.Scheme]
		if port == "" {
			port = "80"
		}
	}
	conn, err := dialer(g.patience)(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return err
	}
	return conn.Close()
}

// anyReached says whether something listens at one of the given endpoints; if not, why.
func (g *gatherer) anyReached(ctx context.Context) error {
	errs := make(chan error, len(g.given))
	for _, ep := range g.given {
		go func() {
			err := g.reach(ctx, ep)
			if err != nil {
				err = fmt.Errorf("%s: %w", ep, err)
			}
			errs <- err
		}()
	}
	var all []error
	for range g.given {
		err := <-errs
		if err == nil {
			return nil
		}
		all = append(all, err)
	}
	return errors.New(plain(errors.Join(all...)))
}

func stateOf(r *pb.StatusResponse, took time.Duration) *State {
	s := &State{
		Version: r.GetVersion(), Term: r.GetRaftTerm(), Revision: r.GetHeader().GetRevision(), Index: r.GetRaftIndex(), Applied: r.GetRaftAppliedIndex(),
		Size: r.GetDbSize(), InUse: r.GetDbSizeInUse(), Quota: max(0, r.GetDbSizeQuota()), Errors: nonNil(r.GetErrors()), RoundTrip: took.Seconds(),
	}
	if r.GetLeader() != 0 {
		s.Leader = hex(r.GetLeader())
	}
	return s
}

// askWeb asks the pages of one member.
func (g *gatherer) askWeb(ctx context.Context, endpoint string) *Web {
	ctx, cancel := context.WithTimeout(ctx, g.patience)
	defer cancel()
	base := baseURL(endpoint, g.secure())
	w := &Web{}
	var version struct {
		Cluster string `json:"etcdcluster"`
		Own     string `json:"quorate"`
	}
	page, resp, err := g.get(ctx, base+"/version", false)
	if err == nil {
		err = json.Unmarshal(page, &version)
	}
	if err != nil {
		w.Error = plain(err)
		return w
	}
	w.Own, w.Cluster, w.Certificate = version.Own, version.Cluster, g.certificate(resp)
	if page, _, err = g.get(ctx, base+"/metrics", false); err == nil {
		w.metrics = parseMetrics(string(page))
	}
	trusted := w.Certificate == nil || w.Certificate.Wrong == ""
	began := g.clock.Now()
	page, resp, err = g.get(ctx, base+insight.PathReport, trusted)
	ended := g.clock.Now()
	var r insight.Report
	if err == nil && json.Unmarshal(page, &r) == nil {
		w.report = &r
		w.Clock = clockOf(time.Unix(0, r.Time), 0, began, ended)
		return w
	}
	if w.Own != "" && err != nil {
		w.refused = plain(err)
	}
	if resp != nil {
		if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil { // whole seconds, rounded down
			w.Clock = clockOf(at.Add(time.Second/2), time.Second/2, began, ended)
		}
	}
	return w
}

// clockOf compares a member's clock with ours, of which its answer was made between began and ended.
func clockOf(theirs time.Time, grain time.Duration, began, ended time.Time) *Clock {
	half := ended.Sub(began) / 2
	return &Clock{Ahead: theirs.Sub(began.Add(half)).Seconds(), Bound: (half + grain).Seconds()}
}

// get reads a page; err says what the member answered when it is not 200. resp is not nil when there was an answer.
func (g *gatherer) get(ctx context.Context, url string, identified bool) (page []byte, resp *http.Response, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, err
	}
	if identified && g.token != "" {
		req.Header.Set("Authorization", g.token)
	}
	if resp, err = g.web.Do(req); err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	page, err = io.ReadAll(io.LimitReader(resp.Body, pageBytes))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, firstLine(string(page)))
	}
	return page, resp, err
}

// secure says whether endpoints without a scheme use TLS.
func (g *gatherer) secure() bool {
	for _, ep := range g.given {
		if strings.HasPrefix(ep, "https://") {
			return true
		}
	}
	return false
}

// baseURL is where an endpoint answers HTTP.
func baseURL(endpoint string, secure bool) string {
	scheme, rest, ok := strings.Cut(endpoint, "://")
	switch {
	case !ok && secure:
		return "https://" + endpoint
	case !ok:
		return "http://" + endpoint
	case scheme == "unix":
		return "http://" + url.PathEscape(rest) + ".unix-socket"
	case scheme == "unixs":
		return "https://" + url.PathEscape(rest) + ".unix-socket"
	}
	return endpoint
}

// certificate says what the answer's certificate is worth; nil without TLS.
func (g *gatherer) certificate(resp *http.Response) *Certificate {
	if resp.TLS == nil || len(resp.TLS.PeerCertificates) == 0 {
		return nil
	}
	leaf, rest := resp.TLS.PeerCertificates[0], resp.TLS.PeerCertificates[1:]
	out := &Certificate{NotAfter: leaf.NotAfter.Unix()}
	for _, c := range rest {
		out.NotAfter = min(out.NotAfter, c.NotAfter.Unix())
	}
	between := x509.NewCertPool()
	for _, c := range rest {
		between.AddCert(c)
	}
	roots := g.web.Transport.(*http.Transport).TLSClientConfig.RootCAs
	opts := x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: resp.Request.URL.Hostname(), CurrentTime: g.clock.Now()}
	if _, err := leaf.Verify(opts); err != nil {
		out.Wrong = err.Error()
	}
	return out
}

// sum finds out what the members say together.
func (c *Cluster) sum(alarms *pb.AlarmResponse) {
	leaders := map[string]uint64{}
	for _, m := range c.Members {
		s := m.State
		if s == nil {
			continue
		}
		c.Revision, c.Term = max(c.Revision, s.Revision), max(c.Term, s.Term)
		if s.Leader != "" {
			leaders[s.Leader] = max(leaders[s.Leader], s.Term)
		}
		if w := m.Web; s.Quota == 0 && w != nil {
			s.Quota = int64(w.metrics.value("etcd_server_quota_backend_bytes"))
		}
	}
	for id, term := range leaders {
		if term == c.Term {
			c.Leader = c.name(id)
		}
	}
	if alarms != nil {
		for _, a := range alarms.GetAlarms() {
			c.Alarms = append(c.Alarms, Alarm{c.name(hex(a.GetMemberID())), a.GetAlarm().String()})
		}
		return
	}
	for _, m := range c.Members { // without a quorum nobody lists alarms, but each knows those that it has seen
		if m.State == nil {
			continue
		}
		for _, text := range m.State.Errors {
			if _, kind, ok := strings.Cut(text, "alarm:"); ok {
				c.Alarms = append(c.Alarms, Alarm{m.Name, strings.Trim(kind, " )")})
			}
		}
	}
}

// name is what people call a member.
func (c *Cluster) name(id string) string {
	for _, m := range c.Members {
		if m.ID == id {
			return m.title()
		}
	}
	return id
}

// title is what people call a member.
func (m *Member) title() string {
	if m.Name != "" {
		return m.Name
	}
	return m.ID
}
