package server_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"quorate.dev/quorate/internal/freeport"
)

var (
	killRounds = flag.Int("kill-rounds", 3, "rounds of kill -9 under load")
	killSeed   = flag.Uint64("kill-seed", 0, "seed of the moments of death, 0 for a new one")
)

// killWriters is how many clients write while the server dies. Each owns one key and counts in it.
const killWriters = 16

// killWriter is what one client knows: every count up to acked was acknowledged, none above tried was ever sent.
type killWriter struct {
	key          string
	acked, tried int64
	ackedRev     int64
}

// TestKill kills a real server process at random moments under load and reopens it: every acknowledged count is there,
// nothing that was never sent is, the history of each key has no gap, and revisions never go back.
func TestKill(t *testing.T) {
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("replay with: go test ./server -run TestKill -kill-rounds %d -kill-seed %d", *killRounds, seed)
	moments := rand.New(rand.NewPCG(seed, 1))

	bin := buildQuorate(t)
	dir := filepath.Join(t.TempDir(), "data")
	addr := freeport.Address(t)
	writers := make([]*killWriter, killWriters)
	for i := range writers {
		writers[i] = &killWriter{key: fmt.Sprintf("count/%02d", i)}
	}
	var acked int64
	for round := range *killRounds {
		p := startProcess(t, bin, dir, addr)
		checkWriters(t, addr, writers)
		life := time.Duration(100+moments.IntN(900)) * time.Millisecond
		acked += writeUntilKilled(t, addr, writers, p, life)
		t.Logf("round %d: killed after %v, %d writes acknowledged so far", round, life, acked)
	}
	p := startProcess(t, bin, dir, addr)
	checkWriters(t, addr, writers)
	p.stop(t)
}

// writeUntilKilled lets every writer count up until the server is killed, and returns how many counts were acknowledged.
func writeUntilKilled(t *testing.T, addr string, writers []*killWriter, p *process, life time.Duration) int64 {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	var total atomic.Int64
	for _, w := range writers {
		c := connect(t, addr)
		wg.Go(func() {
			defer c.Close()
			for ctx.Err() == nil {
				w.tried++
				resp, err := c.Put(ctx, w.key, strconv.FormatInt(w.tried, 10))
				if err != nil {
					break
				}
				w.acked, w.ackedRev = w.tried, resp.Header.Revision
				total.Add(1)
			}
		})
	}
	for limit := time.Now().Add(2 * time.Minute); total.Load() == 0; { // the load loads
		if time.Now().After(limit) {
			t.Fatalf("no write was acknowledged in time\n%s", p.logTail())
		}
		<-time.After(time.Millisecond)
	}
	<-time.After(life)
	p.kill(t)
	cancel()
	wg.Wait()
	return total.Load()
}

// checkWriters reads every writer's key and its whole history, and lets the writer go on from what is there.
func checkWriters(t *testing.T, addr string, writers []*killWriter) {
	t.Helper()
	c := connect(t, addr)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	for _, w := range writers {
		resp, err := c.Get(ctx, w.key)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Header.Revision < w.ackedRev {
			t.Fatalf("%s: the store is at revision %d, but revision %d was acknowledged", w.key, resp.Header.Revision, w.ackedRev)
		}
		var count, version int64
		if len(resp.Kvs) == 1 {
			version = resp.Kvs[0].Version
			if count, err = strconv.ParseInt(string(resp.Kvs[0].Value), 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		if count < w.acked || count > w.tried {
			t.Fatalf("%s is %d; acknowledged was %d, sent at most %d", w.key, count, w.acked, w.tried)
		}
		if version != count {
			t.Fatalf("%s is %d after %d writes: one was lost or made twice", w.key, count, version)
		}
		checkHistory(ctx, t, c, w.key, count)
		w.acked, w.tried = count, count
	}
}

// checkHistory watches a key from the beginning and wants every count once, in order.
func checkHistory(ctx context.Context, t *testing.T, c *clientv3.Client, key string, count int64) {
	t.Helper()
	if count == 0 {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next, lastRev := int64(1), int64(0)
	for resp := range c.Watch(ctx, key, clientv3.WithRev(1)) {
		if err := resp.Err(); err != nil {
			t.Fatal(err)
		}
		for _, ev := range resp.Events {
			if got := string(ev.Kv.Value); got != strconv.FormatInt(next, 10) || ev.Kv.ModRevision <= lastRev {
				t.Fatalf("%s: event %q at revision %d, want %d after revision %d", key, got, ev.Kv.ModRevision, next, lastRev)
			}
			next, lastRev = next+1, ev.Kv.ModRevision
		}
		if next > count {
			return
		}
	}
	t.Fatalf("%s: the history ends before %d of %d", key, next, count)
}

// process is a server that a test started.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan error
}

// startProcess starts a server on dir and waits until it is healthy.
func startProcess(t *testing.T, bin, dir, addr string, flags ...string) *process {
	t.Helper()
	p := &process{log: filepath.Join(t.TempDir(), "log"), done: make(chan error, 1)}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + addr
	args := append([]string{"serve", "--data-dir", dir, "--listen-client-urls", url, "--advertise-client-urls", url,
		"--listen-peer-urls", "http://" + freeport.Address(t)}, flags...)
	p.cmd = exec.Command(bin, args...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.done <- p.cmd.Wait()
		out.Close()
	}()
	t.Cleanup(func() { p.cmd.Process.Kill() })
	p.waitHealthy(t, url)
	return p
}

func (p *process) waitHealthy(t *testing.T, url string) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case err := <-p.done:
			t.Fatalf("the server ended while starting: %v\n%s", err, p.logTail())
		case <-deadline:
			t.Fatalf("the server was not healthy in time\n%s", p.logTail())
		case <-poll.C:
			resp, err := http.Get(url + "/health")
			if err != nil {
				continue
			}
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
	}
}

func (p *process) logTail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}

// kill ends the process without giving it a chance to do anything.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.done
}

// stop asks the process to end and wants it to do so cleanly.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-p.done:
		if err != nil {
			t.Fatalf("the server ended with %v\n%s", err, p.logTail())
		}
	case <-time.After(2 * time.Minute):
		t.Fatalf("the server did not stop in time\n%s", p.logTail())
	}
}

func connect(t *testing.T, addr string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, DialTimeout: 2 * time.Minute, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
