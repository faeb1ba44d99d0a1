package cli

import (
	"strconv"

	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/cli/render"
)

func leaseVerb() Verb {
	var keys, once bool
	return Verb{
		Use: "lease <subcommand>", Short: "Lease related commands. Use `etcdctl lease --help` to see subcommands", Long: "Lease related commands",
		Group: GroupKV, Verbs: []Verb{
			{Use: "grant <ttl>", Short: "Creates leases", Run: leaseGrant},
			{Use: "revoke <leaseID>", Short: "Revokes leases", Run: leaseRevoke},
			{Use: "timetolive <leaseID> [options]", Short: "Get lease information",
				Flags: func(fs *pflag.FlagSet) { fs.BoolVar(&keys, "keys", false, "Get keys attached to this lease") },
				Run:   func(s *Session, args []string) error { return leaseTimeToLive(s, args, keys) }},
			{Use: "list", Short: "List all active leases", Run: leaseList},
			{Use: "keep-alive [options] <leaseID>", Short: "Keeps leases alive (renew)",
				Flags: func(fs *pflag.FlagSet) {
					fs.BoolVar(&once, "once", false, "Resets the keep-alive time to its original value and cobrautl.Exits immediately")
				},
				Run: func(s *Session, args []string) error { return leaseKeepAlive(s, args, once) }},
		},
	}
}

func leaseID(arg string) (clientv3.LeaseID, error) {
	id, err := strconv.ParseInt(arg, 16, 64)
	if err != nil {
		return 0, Failf(ExitBadArgs, "bad lease ID arg (%w), expecting ID in Hex", err)
	}
	return clientv3.LeaseID(id), nil
}

func leaseGrant(s *Session, args []string) error {
	if len(args) != 1 {
		return Failf(ExitBadArgs, "lease grant command needs TTL argument")
	}
	ttl, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return Failf(ExitBadArgs, "bad TTL (%w)", err)
	}
	c, err := s.Client()
	if err != nil {
		return err
	}
	ctx, cancel := s.Timeout()
	defer cancel()
	resp, err := c.Grant(ctx, ttl)
	if err != nil {
		return Failf(ExitError, "failed to grant lease (%w)", err)
	}
	return s.Print(render.Grant(resp))
}

func leaseRevoke(s *Session, args []string) error {
	if len(args) != 1 {
		return Failf(ExitBadArgs, "lease revoke command needs 1 argument")
	}
	id, err := leaseID(args[0])
	if err != nil {
		return err
	}
	c, err := s.Client()
	if err != nil {
		return err
	}
	ctx, cancel := s.Timeout()
	defer cancel()
	resp, err := c.Revoke(ctx, id)
	if err != nil {
		return Failf(ExitError, "failed to revoke lease (%w)", err)
	}
	return s.Print(render.Revoke(id, resp))
}

// leaseTimeToLive has no time limit, as etcdctl's has none. The client is made before the id is read.
func leaseTimeToLive(s *Session, args []string, keys bool) error {
	if len(args) != 1 {
		return Failf(ExitBadArgs, "lease timetolive command needs lease ID as argument")
	}
	c, err := s.Client()
	if err != nil {
		return err
	}
	id, err := leaseID(args[0])
	if err != nil {
		return err
	}
	var opts []clientv3.LeaseOption
	if keys {
		opts = append(opts, clientv3.WithAttachedKeys())
	}
	resp, err := c.TimeToLive(s.Context, id, opts...)
	if err != nil {
		return Fail(ExitBadConnection, err)
	}
	return s.Print(render.TimeToLive(resp, keys))
}

func leaseList(s *Session, _ []string) error {
	c, err := s.Client()
	if err != nil {
		return err
	}
	resp, err := c.Leases(s.Context)
	if err != nil {
		return Fail(ExitBadConnection, err)
	}
	return s.Print(render.Leases(resp))
}

func leaseKeepAlive(s *Session, args []string, once bool) error {
	if len(args) != 1 {
		return Failf(ExitBadArgs, "lease keep-alive command needs lease ID as argument")
	}
	id, err := leaseID(args[0])
	if err != nil {
		return err
	}
	c, err := s.Client()
	if err != nil {
		return err
	}
	if once {
		resp, err := c.KeepAliveOnce(s.Context, id)
		if err != nil {
			return Fail(ExitBadConnection, err)
		}
		return s.Print(render.KeepAlive(resp))
	}
	answers, err := c.KeepAlive(s.Context, id)
	if err != nil {
		return Fail(ExitBadConnection, err)
	}
	for resp := range answers {
		if err := s.Print(render.KeepAlive(resp)); err != nil {
			return err
		}
	}
	if s.Simple() && s.Context.Err() == nil {
		s.Printf("lease %016x expired or revoked.\n", id)
	}
	return nil
}
