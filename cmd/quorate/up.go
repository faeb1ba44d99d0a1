package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"quorate.dev/quorate/internal/clock"
)

// up is a cluster of local processes.
type up struct {
	members int
	dir     string
	flags   []string
	out     sync.Mutex // lines of members are written whole
}

// upMost is how many members a local cluster may have: the ports of more would collide.
const upMost = 6

// upCommand is "quorate up". code becomes the exit code.
func upCommand(code *int) *cobra.Command {
	u := &up{}
	c := &cobra.Command{
		Use:   "up [flags] [-- server flags]",
		Short: "Start a local cluster of several members, to try things",
		Long: `Start a local cluster: one process a member, on ports 2379, 12379, 22379 ... for clients and 2380, 12380, 22380 ... for
members, data below --dir. What members log is shown with their names. Ctrl-C stops all; the data stays, and the next
start goes on with it.`,
		Example: "  quorate up\n  quorate up --members 5 -- --log-level warn --snapshot-count 1000",
		RunE: func(_ *cobra.Command, args []string) error {
			u.flags = args
			if u.members < 1 || u.members > upMost {
				return fmt.Errorf("--members %d: a local cluster has 1 to %d", u.members, upMost)
			}
			*code = u.run()
			return nil
		},
	}
	c.Flags().IntVar(&u.members, "members", 3, "how many members")
	c.Flags().StringVar(&u.dir, "dir", "quorate.up", "directory of their data")
	return c
}

func upName(i int) string   { return fmt.Sprintf("m%d", i+1) }
func upClient(i int) string { return fmt.Sprintf("http://127.0.0.1:%d", 2379+10000*i) }
func upPeer(i int) string   { return fmt.Sprintf("http://127.0.0.1:%d", 2380+10000*i) }

// run starts the members and stops them again after a signal, or when one ends by itself.
func (u *up) run() int {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintf(os.Stderr, "quorate up: %v\n", err)
		return 1
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	ended := make(chan error, u.members)
	started := 0
	for i := range u.members {
		if err := u.start(ctx, self, i, ended); err != nil {
			fmt.Fprintf(os.Stderr, "quorate up: start %s: %v\n", upName(i), err)
			cancel()
			break
		}
		started++
	}
	go u.announce(ctx)
	code := 0
	for range started {
		if err := <-ended; err != nil && ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "quorate up: %v; stopping the others\n", err)
			code = 1
		}
		cancel()
	}
	if started < u.members {
		code = 1
	}
	return code
}

// start starts a member. Its end is sent to ended.
func (u *up) start(ctx context.Context, self string, i int, ended chan<- error) error {
	var all, endpoints []string
	for j := range u.members {
		all = append(all, upName(j)+"="+upPeer(j))
		endpoints = append(endpoints, upClient(j))
	}
	args := append([]string{
		"serve", "--name=" + upName(i), "--data-dir=" + filepath.Join(u.dir, upName(i)),
		"--initial-cluster=" + strings.Join(all, ","), "--initial-cluster-token=quorate-up",
		"--listen-peer-urls=" + upPeer(i), "--initial-advertise-peer-urls=" + upPeer(i),
		"--listen-client-urls=" + endpoints[i], "--advertise-client-urls=" + endpoints[i],
	}, u.flags...)
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches them through us, once
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		return err
	}
	go u.show(upName(i), out)
	go func() {
		err := cmd.Wait()
		_ = in.Close()
		if ctx.Err() == nil {
			err = fmt.Errorf("%s ended: %w", upName(i), errors.Join(err))
			if cmd.ProcessState.Success() {
				err = fmt.Errorf("%s ended", upName(i))
			}
		}
		ended <- err
	}()
	return nil
}

// show copies a member's lines with its name before them.
func (u *up) show(name string, r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		u.out.Lock()
		fmt.Printf("%s | %s\n", name, lines.Text())
		u.out.Unlock()
	}
	_, _ = io.Copy(io.Discard, r)
}

// announce says how to use the cluster once every member is healthy.
func (u *up) announce(ctx context.Context) {
	var endpoints []string
	for i := range u.members {
		endpoints = append(endpoints, upClient(i))
		for !healthy(ctx, upClient(i)) {
			t := clock.Real().NewTimer(100 * time.Millisecond)
			select {
			case <-t.C:
			case <-ctx.Done():
				return
			}
		}
	}
	u.out.Lock()
	defer u.out.Unlock()
	fmt.Printf("\n%d members are ready.\n\n  try   etcdctl --endpoints=%s endpoint status -w table\n\nCtrl-C stops them; the data stays in %s.\n\n",
		u.members, strings.Join(endpoints, ","), u.dir)
}

func healthy(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/health", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
