package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/cli/render"
)

func compactionVerb() Verb {
	var physical bool
	return Verb{
		Use: "compaction [options] <revision>", Short: "Compacts the event history in etcd", Group: GroupKV,
		Flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&physical, "physical", false, "'true' to wait for compaction to physically remove all old revisions")
		},
		Run: func(s *Session, args []string) error {
			if len(args) != 1 {
				return Failf(ExitBadArgs, "compaction command needs 1 argument")
			}
			rev, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return err
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			ctx, cancel := s.Timeout()
			defer cancel()
			var opts []clientv3.CompactOption
			if physical {
				opts = append(opts, clientv3.WithCompactPhysical())
			}
			if _, err := c.Compact(ctx, rev, opts...); err != nil {
				return err
			}
			s.Printf("compacted revision %d\n", rev)
			return nil
		},
	}
}

func alarmVerb() Verb {
	return Verb{
		Use: "alarm <subcommand>", Short: "Alarm related commands. Use `etcdctl alarm --help` to see subcommands", Long: "Alarm related commands",
		Group: GroupMaintenance, Verbs: []Verb{
			{Use: "disarm", Short: "Disarms all alarms", Run: func(s *Session, args []string) error {
				if len(args) != 0 {
					return Failf(ExitBadArgs, "alarm disarm command accepts no arguments")
				}
				return alarm(s, func(c *clientv3.Client) (*clientv3.AlarmResponse, error) {
					ctx, cancel := s.Timeout()
					defer cancel()
					return c.AlarmDisarm(ctx, &clientv3.AlarmMember{})
				})
			}},
			{Use: "list", Short: "Lists all alarms", Run: func(s *Session, args []string) error {
				if len(args) != 0 {
					return Failf(ExitBadArgs, "alarm list command accepts no arguments")
				}
				return alarm(s, func(c *clientv3.Client) (*clientv3.AlarmResponse, error) {
					ctx, cancel := s.Timeout()
					defer cancel()
					return c.AlarmList(ctx)
				})
			}},
		},
	}
}

func alarm(s *Session, ask func(*clientv3.Client) (*clientv3.AlarmResponse, error)) error {
	c, err := s.Client()
	if err != nil {
		return err
	}
	resp, err := ask(c)
	if err != nil {
		return err
	}
	return s.Print(render.Alarm(resp))
}

func defragVerb() Verb {
	f := new(endpointFlags)
	return Verb{
		Use: "defrag", Short: "Defragments the storage of the etcd members with given endpoints", Group: GroupMaintenance, Shared: f.register,
		Run: f.defrag,
	}
}

// defrag goes from one endpoint to the next, so that never more than one member is busy with it.
func (f *endpointFlags) defrag(s *Session, _ []string) error {
	if _, err := s.Spec(); err != nil {
		return err
	}
	eps, err := f.all(s)
	if err != nil {
		return err
	}
	failures := 0
	for _, ep := range eps {
		c, err := s.ClientTo(ep)
		if err != nil {
			return err
		}
		ctx, cancel := s.Timeout()
		start := s.Clock().Now()
		_, err = c.Defragment(ctx, ep)
		took := s.Clock().Now().Sub(start)
		cancel()
		if err != nil {
			s.endpointFailed(ep, err, fmt.Sprintf("Failed to defragment etcd member[%s]. took %s. (%v)", ep, took, err))
			failures++
			continue
		}
		s.Printf("Finished defragmenting etcd member[%s]. took %s\n", ep, took)
	}
	if failures > 0 {
		return Fail(ExitError, nil)
	}
	return nil
}

func moveLeaderVerb() Verb {
	return Verb{
		Use: "move-leader <transferee-member-id>", Short: "Transfers leadership to another etcd cluster member.", Group: GroupMaintenance,
		Run: func(s *Session, args []string) error {
			if len(args) != 1 {
				return Failf(ExitBadArgs, "move-leader command needs 1 argument")
			}
			target, err := strconv.ParseUint(args[0], 16, 64)
			if err != nil {
				return Fail(ExitBadArgs, err)
			}
			return moveLeader(s, target)
		},
	}
}

// moveLeader finds the leader among the endpoints, because only the leader gives leadership away.
func moveLeader(s *Session, target uint64) error {
	c, err := s.Client()
	if err != nil {
		return err
	}
	eps := c.Endpoints()
	ctx, cancel := s.Timeout()
	defer cancel()
	for _, ep := range eps {
		c, err := s.ClientTo(ep)
		if err != nil {
			return err
		}
		status, err := c.Status(ctx, ep)
		if err != nil {
			return err
		}
		if status.Header.GetMemberId() != status.Leader {
			continue
		}
		resp, err := c.MoveLeader(ctx, target)
		if err != nil {
			return err
		}
		return s.Print(render.MoveLeader(status.Leader, target, resp))
	}
	return Failf(ExitBadArgs, "no leader endpoint given at %v", eps)
}

func downgradeVerb() Verb {
	return Verb{
		Use: "downgrade <TARGET_VERSION>", Short: "Downgrade related commands. Use `etcdctl downgrade --help` to see subcommands", Long: "Downgrade related commands",
		Group: GroupMaintenance, Verbs: []Verb{
			{Use: "validate <TARGET_VERSION>", Short: "Validate downgrade capability before starting downgrade", Run: func(s *Session, args []string) error {
				return downgradeTo(s, args, "validate", clientv3.DowngradeValidate)
			}},
			{Use: "enable <TARGET_VERSION>", Short: "Start a downgrade action to cluster", Run: func(s *Session, args []string) error {
				return downgradeTo(s, args, "enable", clientv3.DowngradeEnable)
			}},
			{Use: "cancel", Short: "Cancel the ongoing downgrade action to cluster", Run: func(s *Session, _ []string) error {
				return downgrade(s, "cancel", clientv3.DowngradeCancel, "")
			}},
		},
	}
}

func downgradeTo(s *Session, args []string, step string, action clientv3.DowngradeAction) error {
	switch {
	case len(args) < 1:
		return Failf(ExitBadArgs, "TARGET_VERSION not provided")
	case len(args) > 1:
		return Failf(ExitBadArgs, "too many arguments")
	case args[0] == "":
		return Failf(ExitBadArgs, "target version not provided")
	}
	return downgrade(s, step, action, args[0])
}

func downgrade(s *Session, step string, action clientv3.DowngradeAction, version string) error {
	c, err := s.Client()
	if err != nil {
		return err
	}
	ctx, cancel := s.Timeout()
	defer cancel()
	resp, err := c.Downgrade(ctx, action, version)
	if err != nil {
		return err
	}
	return s.Print(render.Downgrade(step, resp))
}
