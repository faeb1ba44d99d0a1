package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/cli/render"
)

func memberVerb() Verb {
	add, update := new(memberFlags), new(memberFlags)
	var consistency string
	return Verb{
		Use: "member <subcommand>", Short: "Membership related commands. Use `etcdctl member --help` to see subcommands", Long: "Membership related commands",
		Group: GroupMaintenance, Verbs: []Verb{
			{Use: "add <memberName> [options]", Short: "Adds a member into the cluster", Run: add.add,
				Flags: func(fs *pflag.FlagSet) {
					fs.StringVar(&add.peerURLs, "peer-urls", "", "comma separated peer URLs for the new member.")
					fs.BoolVar(&add.learner, "learner", false, "indicates if the new member is raft learner")
				}},
			{Use: "remove <memberID>", Short: "Removes a member from the cluster", Run: memberRemove},
			{Use: "update <memberID> [options]", Short: "Updates a member in the cluster", Run: update.update,
				Flags: func(fs *pflag.FlagSet) {
					fs.StringVar(&update.peerURLs, "peer-urls", "", "comma separated peer URLs for the updated member.")
				}},
			{Use: "list", Short: "Lists all members in the cluster",
				Long: `When --write-out is set to simple, this command prints out comma-separated member lists for each endpoint.
The items in the lists are ID, Status, Name, Peer Addrs, Client Addrs, Is Learner.
`,
				Flags: func(fs *pflag.FlagSet) {
					fs.StringVar(&consistency, "consistency", "l", "Linearizable(l) or Serializable(s)")
				},
				Run: func(s *Session, _ []string) error { return memberList(s, consistency) }},
			{Use: "promote <memberID>", Short: "Promotes a non-voting member in the cluster",
				Long: "Promotes a non-voting learner member to a voting one in the cluster.\n", Run: memberPromote},
		},
	}
}

type memberFlags struct {
	peerURLs string
	learner  bool
}

func (f *memberFlags) add(s *Session, args []string) error {
	if len(args) < 1 {
		return Failf(ExitBadArgs, "member name not provided")
	}
	if len(args) > 1 {
		text := "too many arguments"
		for _, a := range args {
			if strings.HasPrefix(strings.ToLower(a), "http") {
				text += ", did you mean --peer-urls=" + a
			}
		}
		return Failf(ExitBadArgs, "%s", text)
	}
	if f.peerURLs == "" {
		return Failf(ExitBadArgs, "member peer urls not provided")
	}
	c, err := s.Client()
	if err != nil {
		return err
	}
	ctx, cancel := s.Timeout()
	defer cancel()
	add := c.MemberAdd
	if f.learner {
		add = c.MemberAddAsLearner
	}
	resp, err := add(ctx, strings.Split(f.peerURLs, ","))
	if err != nil {
		return err
	}
	if err := s.Print(render.MemberAdd(resp)); err != nil {
		return err
	}
	if s.Simple() {
		f.settings(s, args[0], resp)
	}
	return nil
}

// settings prints what the new member has to be started with.
func (f *memberFlags) settings(s *Session, name string, resp *clientv3.MemberAddResponse) {
	var cluster []string
	for _, m := range resp.Members {
		n := m.Name
		if m.ID == resp.Member.ID {
			n = name
		}
		for _, u := range m.PeerURLs {
			cluster = append(cluster, fmt.Sprintf("%s=%s", n, u))
		}
	}
	s.Printf("\nETCD_NAME=%q\n", name)
	s.Printf("ETCD_INITIAL_CLUSTER=%q\n", strings.Join(cluster, ","))
	s.Printf("ETCD_INITIAL_ADVERTISE_PEER_URLS=%q\n", f.peerURLs)
	s.Printf("ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n")
}

// memberID reads the only argument.
func memberID(args []string) (uint64, error) {
	if len(args) != 1 {
		return 0, Failf(ExitBadArgs, "member ID is not provided")
	}
	id, err := strconv.ParseUint(args[0], 16, 64)
	if err != nil {
		return 0, Failf(ExitBadArgs, "bad member ID arg (%w), expecting ID in Hex", err)
	}
	return id, nil
}

func memberRemove(s *Session, args []string) error {
	id, err := memberID(args)
	if err != nil {
		return err
	}
	c, err := s.Client()
	if err != nil {
		return err
	}
	ctx, cancel := s.Timeout()
	defer cancel()
	resp, err := c.MemberRemove(ctx, id)
	if err != nil {
		return err
	}
	return s.Print(render.MemberRemove(id, resp))
}

func (f *memberFlags) update(s *Session, args []string) error {
	id, err := memberID(args)
	if err != nil {
		return err
	}
	if f.peerURLs == "" {
		return Failf(ExitBadArgs, "member peer urls not provided")
	}
	c, err := s.Client()
	if err != nil {
		return err
	}
	ctx, cancel := s.Timeout()
	defer cancel()
	resp, err := c.MemberUpdate(ctx, id, strings.Split(f.peerURLs, ","))
	if err != nil {
		return err
	}
	return s.Print(render.MemberUpdate(id, resp))
}

func memberList(s *Session, consistency string) error {
	serializable, err := isSerializable(consistency, "l") // etcdctl shows get's default here
	if err != nil {
		return err
	}
	var opts []clientv3.OpOption
	if serializable {
		opts = append(opts, clientv3.WithSerializable())
	}
	c, err := s.Client()
	if err != nil {
		return err
	}
	ctx, cancel := s.Timeout()
	defer cancel()
	resp, err := c.MemberList(ctx, opts...)
	if err != nil {
		return err
	}
	return s.Print(render.MemberList(resp))
}

func memberPromote(s *Session, args []string) error {
	id, err := memberID(args)
	if err != nil {
		return err
	}
	c, err := s.Client()
	if err != nil {
		return err
	}
	ctx, cancel := s.Timeout()
	defer cancel()
	resp, err := c.MemberPromote(ctx, id)
	if err != nil {
		return err
	}
	return s.Print(render.MemberPromote(id, resp))
}
