// Command k8skill plays a Kubernetes cluster ("quorate bench k8s") on three members, kills each of them in turn, the leader too, and
// starts it again. It prints for how long a service level was broken after each kill, beside how long there was no leader, and
// fails when a break lasted longer than that and a client's reconnection, when an acknowledged write is gone, or when an event of one did
// not come.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/test/cluster"
	"quorate.dev/quorate/test/compat/proc"
)

// options are the command line.
type options struct {
	kind    string
	nodes   int
	every   time.Duration
	down    time.Duration
	slack   time.Duration
	timeout time.Duration
}

const members = 3

func main() {
	var o options
	flag.StringVar(&o.kind, "kind", "quorate", "quorate or etcd")
	flag.IntVar(&o.nodes, "nodes", 1000, "nodes of the Kubernetes cluster")
	flag.DurationVar(&o.every, "every", 15*time.Second, "between kills")
	flag.DurationVar(&o.down, "down", 4*time.Second, "how long a killed member stays down")
	flag.DurationVar(&o.slack, "slack", 500*time.Millisecond, "what a client may need to reconnect, beyond the time without a leader")
	flag.DurationVar(&o.timeout, "timeout", 10*time.Minute, "of everything")
	flag.Parse()
	err := run(&o)
	proc.Cleanup()
	if err != nil {
		fmt.Fprintln(os.Stderr, "k8skill:", err)
		os.Exit(1)
	}
}

func run(o *options) error {
	ctx, cancel := context.WithTimeout(context.Background(), o.timeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "k8skill-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	kind := proc.Quorate
	if o.kind == "etcd" {
		kind = proc.Etcd
	}
	c, err := cluster.New(kind, filepath.Join(dir, "data"), members, "--quota-backend-bytes=8589934592")
	if err != nil {
		return err
	}
	defer c.Kill()
	if err := c.Start(ctx); err != nil {
		return err
	}
	l, err := begin(ctx, o, c)
	if err != nil {
		return err
	}
	kills, err := killEach(ctx, o, c)
	if err != nil {
		return errors.Join(err, l.cmd.Process.Kill())
	}
	rep, err := l.end()
	if err != nil {
		return err
	}
	return judge(o, rep, kills)
}

// load is the load generator under way.
type load struct {
	cmd *exec.Cmd
	out bytes.Buffer
	err chan error
}

// begin starts the load generator and returns once it measures.
func begin(ctx context.Context, o *options, c *cluster.Cluster) (*load, error) {
	bin, err := proc.Binary(proc.Quorate)
	if err != nil {
		return nil, err
	}
	seconds := (members*o.every + 5*time.Second).Seconds()
	l := &load{err: make(chan error, 1)}
	l.cmd = exec.CommandContext(ctx, bin, "bench", "k8s", "--endpoints", strings.Join(c.Endpoints(), ","), "--nodes", strconv.Itoa(o.nodes),
		"--seconds", strconv.FormatFloat(seconds, 'f', 0, 64), "--list-all-interval=0", "--slots", "-w", "json")
	l.cmd.Stdout = &l.out
	stderr, err := l.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	measuring := make(chan struct{})
	go func() {
		last := ""
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if last = lines.Text(); last == "measuring: run" {
				close(measuring)
			}
			fmt.Println("  " + last)
		}
		err := l.cmd.Wait()
		var code *exec.ExitError
		if errors.As(err, &code) && l.out.Len() > 0 {
			err = nil // a service level was broken, which is looked at here
		} else if err != nil {
			err = fmt.Errorf("quorate bench k8s: %w: %s", err, last)
		}
		l.err <- err
	}()
	select {
	case <-measuring:
		return l, nil
	case err := <-l.err:
		return nil, fmt.Errorf("it ended while filling: %w", err)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *load) end() (*report, error) {
	if err := <-l.err; err != nil {
		return nil, err
	}
	var r report
	return &r, json.Unmarshal(l.out.Bytes(), &r)
}

// kill is one member's death.
type kill struct {
	name       string
	leader     bool
	at         time.Time
	leaderless time.Duration
}

// killEach kills the members one after the other, a follower first, then the leader, then the one that is left.
func killEach(ctx context.Context, o *options, c *cluster.Cluster) ([]kill, error) {
	var kills []kill
	left := append([]*cluster.Member(nil), c.Members...)
	for i := range members {
		if err := pause(ctx, o.every-o.down); err != nil {
			return kills, err
		}
		leader, err := c.Leader(ctx)
		if err != nil {
			return kills, err
		}
		at := 0
		for j, m := range left {
			if (m == leader) == (i == 1) {
				at = j
				break
			}
		}
		victim := left[at]
		left = append(left[:at], left[at+1:]...)
		k, err := killOne(ctx, c, victim, victim == leader)
		if err != nil {
			return kills, err
		}
		kills = append(kills, k)
		if err := pause(ctx, o.down); err != nil {
			return kills, err
		}
		if err := victim.Start(); err != nil {
			return kills, err
		}
		if err := victim.Ready(ctx); err != nil {
			return kills, err
		}
	}
	return kills, nil
}

// pause is part of the scenario: the members have to run for a while between kills.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// killOne kills a member and finds out how long the others have no leader.
func killOne(ctx context.Context, c *cluster.Cluster, victim *cluster.Member, leads bool) (kill, error) {
	s, err := victim.Status(ctx)
	if err != nil {
		return kill{}, err
	}
	dead := s.Header.MemberId
	var asking []*clientv3.Client
	var urls []string
	for _, m := range c.Members {
		if m == victim {
			continue
		}
		cli, err := c.Client(m.Client)
		if err != nil {
			return kill{}, err
		}
		defer cli.Close()
		if _, err := cli.Status(ctx, m.Client); err != nil {
			return kill{}, err
		}
		asking, urls = append(asking, cli), append(urls, m.Client)
	}
	k := kill{name: victim.Name, leader: leads, at: time.Now()}
	victim.Kill()
	if !leads {
		return k, nil
	}
	for i := 0; ; i++ {
		s, err := asking[i%len(asking)].Status(ctx, urls[i%len(urls)])
		if err == nil && s.Leader != 0 && s.Leader != dead {
			k.leaderless = time.Since(k.at)
			return k, nil
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return k, err
		}
	}
}
