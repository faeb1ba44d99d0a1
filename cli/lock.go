package cli

import (
	"errors"
	"fmt"
	"os/exec"

	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"quorate.dev/quorate/cli/render"
)

func lockVerb() Verb {
	var ttl int
	return Verb{
		Use: "lock <lockname> [exec-command arg1 arg2 ...]", Short: "Acquires a named lock", Group: GroupConcurrency, Interrupts: true,
		Flags: func(fs *pflag.FlagSet) { fs.IntVar(&ttl, "ttl", 10, "timeout for session") },
		Run: func(s *Session, args []string) error {
			if len(args) == 0 {
				return Failf(ExitBadArgs, "lock takes a lock name argument and an optional command to execute")
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			err = lock(s, c, ttl, args[0], args[1:])
			var child *exec.ExitError
			if errors.As(err, &child) {
				if s.Own() {
					err = fmt.Errorf("the command %q failed: %w", args[1], err)
				}
				return Fail(child.ExitCode(), err)
			}
			return err
		},
	}
}

// lock holds a lock while a command runs, or until an interrupt.
func lock(s *Session, c *clientv3.Client, ttl int, name string, command []string) error {
	session, err := concurrency.NewSession(c, concurrency.WithTTL(ttl))
	if err != nil {
		return err
	}
	m := concurrency.NewMutex(session, name)
	if err := m.Lock(s.Process.Context); err != nil {
		return err
	}
	if len(command) > 0 {
		child := exec.Command(command[0], command[1:]...)
		child.Env = append([]string{"ETCD_LOCK_KEY=" + m.Key(), fmt.Sprintf("ETCD_LOCK_REV=%d", m.Header().Revision)}, s.Process.Env...)
		child.Stdout, child.Stderr = s.Process.Stdout, s.Process.Stderr
		err := child.Run()
		unlocked := m.Unlock(s.Context)
		if err != nil {
			return err
		}
		return unlocked
	}
	k, err := c.Get(s.Process.Context, m.Key())
	if err != nil {
		return err
	}
	if len(k.Kvs) == 0 {
		return errors.New("lock lost on init")
	}
	if err := s.Print(render.Get(k)); err != nil {
		return err
	}
	select {
	case <-s.Process.Context.Done():
		return m.Unlock(s.Context)
	case <-session.Done():
		return errors.New("session expired")
	}
}

func electVerb() Verb {
	var listen bool
	return Verb{
		Use: "elect <election-name> [proposal]", Short: "Observes and participates in leader election", Group: GroupConcurrency, Interrupts: true,
		Flags: func(fs *pflag.FlagSet) { fs.BoolVarP(&listen, "listen", "l", false, "observation mode") },
		Run: func(s *Session, args []string) error {
			if len(args) != 1 && len(args) != 2 {
				return Failf(ExitBadArgs, "elect takes one election name argument and an optional proposal argument")
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			switch {
			case len(args) == 1 && !listen:
				return Failf(ExitBadArgs, "no proposal argument but -l not set")
			case len(args) == 1:
				return observe(s, c, args[0])
			case listen:
				return Failf(ExitBadArgs, "proposal given but -l is set")
			}
			return campaign(s, c, args[0], args[1])
		},
	}
}

// observe prints every new leader until an interrupt.
func observe(s *Session, c *clientv3.Client, election string) error {
	session, err := concurrency.NewSession(c)
	if err != nil {
		return err
	}
	for resp := range concurrency.NewElection(session, election).Observe(s.Process.Context) {
		if err := s.Print(render.Get(resp)); err != nil {
			return err
		}
	}
	if s.Process.Context.Err() == nil {
		return errors.New("elect: observer lost")
	}
	return nil
}

// campaign wins an election and leads until an interrupt.
func campaign(s *Session, c *clientv3.Client, election, proposal string) error {
	session, err := concurrency.NewSession(c)
	if err != nil {
		return err
	}
	e := concurrency.NewElection(session, election)
	if err := e.Campaign(s.Process.Context, proposal); err != nil {
		return err
	}
	resp, err := c.Get(s.Process.Context, e.Key())
	if err != nil {
		return err
	}
	if err := s.Print(render.Get(resp)); err != nil {
		return err
	}
	select {
	case <-s.Process.Context.Done():
		return e.Resign(s.Context)
	case <-session.Done():
		return errors.New("elect: session expired")
	}
}
