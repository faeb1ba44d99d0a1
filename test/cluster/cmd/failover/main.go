// Command failover measures how long a cluster under load takes no writes after its leader is killed: from the signal to the
// first write that was asked for later and is acknowledged. It prints the times and the median of each kind of server, with
// the default heartbeat and election flags.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/test/cluster"
	"quorate.dev/quorate/test/compat/proc"
)

// Of the load, and of how long anything may take.
const (
	writers = 16
	limit   = time.Minute
)

func main() {
	code := 0
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "failover:", err)
		code = 1
	}
	proc.Cleanup()
	os.Exit(code)
}

func command(args []string) error {
	flags := flag.NewFlagSet("failover", flag.ContinueOnError)
	rounds := flags.Int("rounds", 11, "how often the leader is killed")
	kinds := flags.String("kinds", "quorate,etcd", "what to measure")
	members := flags.Int("members", 3, "members of the cluster")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "failover-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for kind := range strings.SplitSeq(*kinds, ",") {
		k := proc.Quorate
		if kind == "etcd" {
			k = proc.Etcd
		}
		times, err := measure(k, filepath.Join(dir, kind), *members, *rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		slices.Sort(times)
		fmt.Printf("%s: median %v of %v\n", k, times[len(times)/2], times)
	}
	return nil
}

// measure kills the leader again and again, with everybody back in between.
func measure(k proc.Kind, dir string, members, rounds int) (times []time.Duration, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rounds+1)*limit)
	defer cancel()
	c, err := cluster.New(k, dir, members)
	if err != nil {
		return nil, err
	}
	defer c.Kill()
	if err := c.Start(ctx); err != nil {
		return nil, err
	}
	l, err := newLoad(ctx, c)
	if err != nil {
		return nil, err
	}
	defer l.stop()
	for range rounds {
		took, err := once(ctx, c, l)
		if err != nil {
			return times, err
		}
		times = append(times, took.Round(time.Millisecond))
	}
	return times, nil
}

// once kills the leader, and starts it again when writes go on.
func once(ctx context.Context, c *cluster.Cluster, l *load) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	leader, err := c.Leader(ctx)
	if err != nil {
		return 0, err
	}
	// The members have been together for a while, and clients write.
	if _, err := l.after(ctx, time.Now().Add(2*time.Second)); err != nil {
		return 0, err
	}
	killed := time.Now()
	leader.Kill()
	acked, err := l.after(ctx, killed)
	if err != nil {
		return 0, err
	}
	if err := leader.Start(); err != nil {
		return 0, err
	}
	return acked.Sub(killed), leader.Ready(ctx)
}

// load is writers that write all the time.
type load struct {
	mu      sync.Mutex
	asked   time.Time // of the write that was acknowledged last, the latest such
	acked   time.Time
	news    chan struct{}
	cancel  context.CancelFunc
	done    sync.WaitGroup
	clients []*clientv3.Client
}

func newLoad(ctx context.Context, c *cluster.Cluster) (*load, error) {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{news: make(chan struct{}, 1), cancel: cancel}
	for i := range writers {
		// Each knows one member, so that no client's choice of an endpoint is measured: those of the living ones go on.
		cli, err := c.Client(c.Members[i%len(c.Members)].Client)
		if err != nil {
			l.stop()
			return nil, err
		}
		l.clients = append(l.clients, cli)
		l.done.Go(func() { l.write(ctx, cli, i) })
	}
	return l, nil
}

func (l *load) stop() {
	l.cancel()
	l.done.Wait()
	for _, cli := range l.clients {
		_ = cli.Close()
	}
}

func (l *load) write(ctx context.Context, cli *clientv3.Client, i int) {
	for n := 0; ctx.Err() == nil; n++ {
		// Short, so that a request the dead leader took with it does not hold this writer for long.
		try, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		asked := time.Now()
		_, err := cli.Put(try, fmt.Sprintf("failover/%d/%d", i, n%100), "value")
		cancel()
		if err != nil {
			continue
		}
		l.mu.Lock()
		if asked.After(l.asked) {
			l.asked, l.acked = asked, time.Now()
		}
		l.mu.Unlock()
		select {
		case l.news <- struct{}{}:
		default:
		}
	}
}

// after waits for a write that was asked for after an instant to be acknowledged, and says when it was.
func (l *load) after(ctx context.Context, instant time.Time) (time.Time, error) {
	for {
		l.mu.Lock()
		asked, acked := l.asked, l.acked
		l.mu.Unlock()
		if asked.After(instant) {
			return acked, nil
		}
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("no write was acknowledged: %w", ctx.Err())
		case <-l.news:
		}
	}
}
