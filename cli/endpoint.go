package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/spf13/pflag"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"quorate.dev/quorate/cli/render"
)

// endpointFlags are those of the verbs that ask every endpoint by itself.
type endpointFlags struct {
	cluster bool
	rev     int64
}

func (f *endpointFlags) register(fs *pflag.FlagSet) {
	fs.BoolVar(&f.cluster, "cluster", false, "use all endpoints from the cluster member list")
}

func endpointVerb() Verb {
	f := new(endpointFlags)
	return Verb{
		Use: "endpoint <subcommand>", Short: "Endpoint related commands. Use `etcdctl endpoint --help` to see subcommands", Long: "Endpoint related commands",
		Group: GroupMaintenance, Shared: f.register, Verbs: []Verb{
			{Use: "health", Short: "Checks the healthiness of endpoints specified in `--endpoints` flag", Run: f.health},
			{Use: "status", Short: "Prints out the status of endpoints specified in `--endpoints` flag", Run: f.status,
				Long: `When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.
The items in the lists are endpoint, ID, version, db size, is leader, is learner, raft term, raft index, raft applied index, errors.
`},
			{Use: "hashkv", Short: "Prints the KV history hash for each endpoint in --endpoints", Run: f.hashKV,
				Shared: func(fs *pflag.FlagSet) {
					fs.Int64Var(&f.rev, "rev", 0, "maximum revision to hash (default: latest revision)")
				}},
		},
	}
}

// all returns the endpoints to ask: those of the flag, or with --cluster those of all members.
func (f *endpointFlags) all(s *Session) ([]string, error) {
	if !f.cluster {
		return s.Globals.Endpoints, nil
	}
	spec, err := s.Spec()
	if err != nil {
		return nil, err
	}
	spec.MaxCallSendMsgSize, spec.MaxCallRecvMsgSize = 0, 0
	c, err := s.Dial(spec)
	if err != nil {
		return nil, Fail(ExitError, errors.Unwrap(err))
	}
	ctx, cancel := s.Timeout()
	defer cancel()
	members, err := c.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("failed to fetch endpoints from etcd cluster member list: %w", err)
	}
	var eps []string
	for _, m := range members.Members {
		eps = append(eps, m.ClientURLs...)
	}
	return eps, nil
}

// health asks all endpoints at the same time, and shows them in the order of their answers.
func (f *endpointFlags) health(s *Session, _ []string) error {
	spec, err := s.Spec()
	if err != nil {
		return err
	}
	eps, err := f.all(s)
	if err != nil {
		return err
	}
	var cfgs []*clientv3.Config
	for _, ep := range eps {
		one := spec.Clone()
		one.Endpoints = []string{ep}
		cfg, err := s.config(one)
		if err != nil {
			return err
		}
		cfg.Logger = newLogger(s.clientLog(), zap.InfoLevel).Named("client")
		cfgs = append(cfgs, cfg)
	}
	answers := make(chan render.Health, len(cfgs))
	var asking sync.WaitGroup
	for _, cfg := range cfgs {
		asking.Go(func() { answers <- s.healthOf(cfg) })
	}
	asking.Wait()
	close(answers)
	var list []render.Health
	healthy := true
	for h := range answers {
		list = append(list, h)
		healthy = healthy && h.Error == ""
	}
	if err := s.Print(render.EndpointHealth(list)); err != nil {
		return err
	}
	if !healthy {
		if s.Own() {
			s.whatAnswered(silent(list))
		}
		return Failf(ExitError, "unhealthy cluster")
	}
	return nil
}

// silent are the endpoints that did not answer.
func silent(list []render.Health) (eps []string) {
	for _, h := range list {
		if strings.Contains(h.Error, context.DeadlineExceeded.Error()) {
			eps = append(eps, h.Endpoint)
		}
	}
	return eps
}

// healthOf asks one endpoint for any key, which it can only answer with a quorum, and for alarms.
func (s *Session) healthOf(cfg *clientv3.Config) render.Health {
	h := render.Health{Endpoint: cfg.Endpoints[0]}
	c, err := clientv3.New(*cfg)
	if err != nil {
		h.Error = err.Error()
		return h
	}
	defer c.Close()
	start := s.Clock().Now()
	ctx, cancel := s.Timeout()
	defer cancel()
	_, err = c.Get(ctx, "health")
	h.Took = s.Clock().Now().Sub(start).String()
	if err != nil && !errors.Is(err, rpctypes.ErrPermissionDenied) { // the refusal went through consensus, too
		h.Error = err.Error()
		return h
	}
	h.Error = alarms(ctx, c)
	h.Health = h.Error == ""
	return h
}

// alarms says what alarms are raised, "" when none is.
func alarms(ctx context.Context, c *clientv3.Client) string {
	resp, err := c.AlarmList(ctx)
	if err != nil {
		return "Unable to fetch the alarm list"
	}
	if len(resp.Alarms) == 0 {
		return ""
	}
	text := "Active Alarm(s): "
	for _, a := range resp.Alarms {
		switch a.Alarm {
		case pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT:
			text += a.Alarm.String() + " "
		default:
			text += "UNKNOWN "
		}
	}
	return text
}

// each asks endpoints one after the other; those that fail are named on stderr. The last failure is returned.
func (f *endpointFlags) each(s *Session, what string, ask func(ctx context.Context, c *clientv3.Client, ep string) error) (failed, fatal error) {
	if _, err := s.Spec(); err != nil {
		return nil, err
	}
	eps, err := f.all(s)
	if err != nil {
		return nil, err
	}
	for _, ep := range eps {
		c, err := s.ClientTo(ep)
		if err != nil {
			return nil, err
		}
		ctx, cancel := s.Timeout()
		err = ask(ctx, c, ep)
		cancel()
		if err != nil {
			failed = err
			s.endpointFailed(ep, err, fmt.Sprintf("Failed to get the %s of endpoint %s (%v)", what, ep, err))
		}
	}
	return failed, nil
}

// endpointFailed remarks that an endpoint failed, which does not end a verb that asks several.
func (s *Session) endpointFailed(ep string, err error, remark string) {
	if s.Context.Err() != nil {
		return // it was us
	}
	s.Warnf("%s\n", remark)
	if s.Own() && isUnreachable(err) {
		s.whatAnswered([]string{ep})
	}
}

func (f *endpointFlags) status(s *Session, _ []string) error {
	var list []render.Status
	failed, err := f.each(s, "status", func(ctx context.Context, c *clientv3.Client, ep string) error {
		resp, err := c.Status(ctx, ep)
		if err == nil {
			list = append(list, render.Status{Endpoint: ep, Status: resp})
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := s.Print(render.EndpointStatus(list)); err != nil {
		return err
	}
	if failed != nil {
		return Fail(ExitError, nil)
	}
	return nil
}

func (f *endpointFlags) hashKV(s *Session, _ []string) error {
	var list []render.Hash
	failed, err := f.each(s, "hash", func(ctx context.Context, c *clientv3.Client, ep string) error {
		resp, err := c.HashKV(ctx, ep, f.rev)
		if err == nil {
			list = append(list, render.Hash{Endpoint: ep, HashKV: resp})
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := s.Print(render.EndpointHashKV(list)); err != nil {
		return err
	}
	return failed
}
