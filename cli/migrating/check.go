package migrating

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/migrate"
)

// maxAnswer bounds what is read of an answer, bytes.
const maxAnswer = 1 << 20

func checkVerb() cli.Verb {
	c := &check{}
	return cli.Verb{
		Use: "check [--endpoints ...] [--data-dir DIR]...", Short: "Says whether the members of the old cluster have converged, so that they may be migrated",
		Long: `Compares the raft indices of all members of the old cluster: of running ones at --endpoints, from which the others are found, of stopped
ones in their data directories. They have converged when the indices are within 1. Exit code 1 when they have not.`,
		Example: `  quorate migrate check --endpoints http://10.0.0.1:2379
  quorate migrate check --data-dir m1 --data-dir m2 --data-dir m3`,
		Flags: func(fs *pflag.FlagSet) {
			fs.StringArrayVar(&c.dirs, "data-dir", nil, "data directory of a stopped member; may be given several times")
			fs.StringArrayVar(&c.logs, "wal-dir", nil, "where the log of each of them lies, in the same order (default member/wal in it)")
		},
		Run: c.run,
	}
}

type check struct {
	dirs, logs []string
}

func (c *check) run(s *cli.Session, args []string) error {
	if len(args) > 0 {
		return cli.Failf(cli.ExitUsage, "it takes no arguments, and got %q", args)
	}
	if len(c.logs) > 0 && len(c.logs) != len(c.dirs) {
		return cli.Failf(cli.ExitUsage, "--wal-dir is given %d times and --data-dir %d times", len(c.logs), len(c.dirs))
	}
	asJSON, err := format(s)
	if err != nil {
		return err
	}
	var states []migrate.State
	for i, dir := range c.dirs {
		log := ""
		if len(c.logs) > 0 {
			log = c.logs[i]
		}
		states = append(states, stopped(s.Context, dir, log))
	}
	if len(c.dirs) == 0 || s.Flags.Changed("endpoints") {
		running, err := running(s)
		if err != nil {
			return err
		}
		states = append(states, running...)
	}
	v := migrate.Judge(states)
	if asJSON {
		err = writeJSON(s.Process.Stdout, verdictJSON(v))
	} else {
		show(s.Process.Stdout, v)
	}
	if err == nil && !v.Converged {
		err = cli.Fail(cli.ExitError, nil)
	}
	return err
}

// stopped is how far a stopped member is.
func stopped(ctx context.Context, dir, log string) migrate.State {
	st := migrate.State{Where: dir}
	src, err := migrate.Open(ctx, dir, log)
	if err != nil {
		st.Problem = strings.TrimPrefix(err.Error(), "migrate: ")
		return st
	}
	p := src.Position()
	st.ID, st.Cluster, st.Index, st.Stopped = p.Member, p.Cluster, p.Last, p
	if err := src.Close(); err != nil {
		st.Problem = err.Error()
	}
	return st
}

// asker asks running members.
type asker struct {
	s    *cli.Session
	spec *clientv3.ConfigSpec
	web  *http.Client
	tls  *tls.Config
}

// running asks the members at the endpoints, and all that these name.
func running(s *cli.Session) ([]migrate.State, error) {
	spec, err := s.Spec()
	if err != nil {
		return nil, err
	}
	cfg, err := clientv3.NewClientConfig(spec, zap.NewNop())
	if err != nil {
		return nil, cli.Fail(cli.ExitBadArgs, err)
	}
	a := &asker{s: s, spec: spec, tls: cfg.TLS}
	a.web = &http.Client{Transport: &http.Transport{TLSClientConfig: cfg.TLS}}
	defer a.web.CloseIdleConnections()
	members := a.discover(spec.Endpoints)
	states := make([]migrate.State, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() { states[i] = a.ask(m) })
	}
	wg.Wait()
	return states, nil
}

// place is where one member answers.
type place struct {
	id   uint64 // 0 when it is not known
	name string
	urls []string
}

func (a *asker) url(endpoint string) string {
	if strings.Contains(endpoint, "://") {
		return strings.TrimSuffix(endpoint, "/")
	}
	if a.tls != nil && a.spec.Secure != nil && (a.spec.Secure.Cacert != "" || a.spec.Secure.Cert != "" || !a.spec.Secure.InsecureTransport) {
		return "https://" + endpoint
	}
	return "http://" + endpoint
}

// discover finds all members. Endpoints that name no others stand for themselves.
func (a *asker) discover(endpoints []string) []place {
	var out []place
	known := func(url string) bool {
		return slices.ContainsFunc(out, func(p place) bool { return slices.Contains(p.urls, url) })
	}
	for _, ep := range endpoints {
		url := a.url(ep)
		for _, p := range a.members(url) {
			if !slices.ContainsFunc(out, func(q place) bool { return q.id == p.id }) {
				out = append(out, p)
			}
		}
		if !known(url) {
			out = append(out, place{urls: []string{url}})
		}
	}
	return a.merge(out)
}

// merge leaves out an endpoint that is another address of a member which is there with its id already.
func (a *asker) merge(places []place) []place {
	out := slices.DeleteFunc(slices.Clone(places), func(p place) bool { return p.id == 0 })
	for _, p := range places {
		if p.id != 0 {
			continue
		}
		if id := a.identity(p.urls[0]); id == 0 || !slices.ContainsFunc(out, func(q place) bool { return q.id == id }) {
			out = append(out, p)
		}
	}
	return out
}

// identity is the id of the member that answers at a URL, 0 when it does not say.
func (a *asker) identity(url string) uint64 {
	_, _, body, err := a.get(url + "/v2/stats/self")
	var self struct{ ID string }
	if err == nil && json.Unmarshal(body, &self) == nil {
		id, _ := strconv.ParseUint(self.ID, 16, 64)
		return id
	}
	if st, err := a.status(url); err == nil {
		return st.Header.GetMemberId()
	}
	return 0
}

// members asks one member who the others are, by the v2 API or the v3 API.
func (a *asker) members(url string) (out []place) {
	_, _, body, err := a.get(url + "/v2/members")
	var list struct {
		Members []struct {
			ID, Name   string
			ClientURLs []string
		}
	}
	if err == nil && json.Unmarshal(body, &list) == nil {
		for _, m := range list.Members {
			id, _ := strconv.ParseUint(m.ID, 16, 64)
			out = append(out, place{id, m.Name, m.ClientURLs})
		}
		return out
	}
	c, err := a.client(url)
	if err != nil {
		return nil
	}
	ctx, cancel := a.s.Timeout()
	defer cancel()
	all, err := c.MemberList(ctx)
	if err != nil {
		return nil
	}
	for _, m := range all.Members {
		out = append(out, place{m.ID, m.Name, m.ClientURLs})
	}
	return out
}

// ask asks one member how far it is.
func (a *asker) ask(p place) migrate.State {
	st := migrate.State{Name: p.name, ID: p.id, Where: strings.Join(p.urls, ",")}
	if len(p.urls) == 0 {
		st.Where = fmt.Sprintf("%x", p.id)
		st.Problem = "it has not told the cluster where it answers: it was never started, or it is about to start for the first time"
		return st
	}
	var failed error
	for _, url := range p.urls {
		if err := a.index(url, &st); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		st.Where = url
		return st
	}
	st.Problem = fmt.Sprintf("it does not say how far it is: %v", failed)
	return st
}

// index asks for the raft index: a header of the v2 API or, where that is off, the v3 API's Status.
func (a *asker) index(url string, st *migrate.State) error {
	status, h, _, err := a.get(url + "/v2/keys/")
	if err != nil {
		return err
	}
	if n, err := strconv.ParseUint(h.Get("X-Raft-Index"), 10, 64); err == nil {
		st.Index = n
		st.Cluster, _ = strconv.ParseUint(h.Get("X-Etcd-Cluster-Id"), 16, 64)
		return nil
	}
	if status == http.StatusUnauthorized {
		return fmt.Errorf("GET %s/v2/keys/: the v2 API wants a user: say who with --user", url)
	}
	v3, err := a.status(url)
	if err != nil {
		return fmt.Errorf("GET %s/v2/keys/ gave no X-Raft-Index (status %d), and Status of the v3 API: %w", url, status, err)
	}
	st.Index, st.Cluster = v3.RaftIndex, v3.Header.GetClusterId()
	return nil
}

func (a *asker) client(url string) (*clientv3.Client, error) {
	spec := *a.spec
	spec.Endpoints = []string{url}
	return a.s.Dial(&spec)
}

func (a *asker) status(url string) (*clientv3.StatusResponse, error) {
	c, err := a.client(url)
	if err != nil {
		return nil, err
	}
	ctx, cancel := a.s.Timeout()
	defer cancel()
	return c.Status(ctx, url)
}

func (a *asker) get(target string) (status int, h http.Header, body []byte, err error) {
	ctx, cancel := a.s.Timeout()
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return 0, nil, nil, err
	}
	if auth := a.spec.Auth; auth != nil && auth.Username != "" {
		req.SetBasicAuth(auth.Username, auth.Password)
	}
	resp, err := a.web.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) && errors.Is(u.Err, context.DeadlineExceeded) {
			err = fmt.Errorf("GET %s: no answer within %s", target, a.s.Globals.Dial.CommandTimeout)
		}
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, resp.Header, body, err
}
