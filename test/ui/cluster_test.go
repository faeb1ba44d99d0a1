package ui

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds waiting for something that must happen.
const patience = 2 * time.Minute

// cluster is three processes on the loopback interface.
type cluster struct {
	t       *testing.T
	dir     string
	members []*member
}

type member struct {
	name, client, peer string
	cmd                *exec.Cmd
	done               chan struct{}
}

// program is the built server.
var program string

func build(dir string) error {
	program = filepath.Join(dir, "quorate")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", program, "./cmd/quorate")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// found starts a cluster and waits until it answers.
func found(t *testing.T, flags ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir()}
	ports := freePorts(t, 6)
	var initial []string
	for i := range 3 {
		m := &member{name: fmt.Sprintf("m%d", i+1), client: fmt.Sprintf("http://127.0.0.1:%d", ports[2*i]), peer: fmt.Sprintf("http://127.0.0.1:%d", ports[2*i+1])}
		c.members = append(c.members, m)
		initial = append(initial, m.name+"="+m.peer)
	}
	t.Cleanup(func() {
		for _, m := range c.members {
			m.kill()
		}
	})
	for _, m := range c.members {
		log, err := os.Create(filepath.Join(c.dir, m.name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		m.cmd = exec.Command(program, append([]string{"serve", "--name=" + m.name, "--data-dir=" + filepath.Join(c.dir, m.name),
			"--initial-cluster=" + strings.Join(initial, ","), "--listen-peer-urls=" + m.peer, "--initial-advertise-peer-urls=" + m.peer,
			"--listen-client-urls=" + m.client, "--advertise-client-urls=" + m.client}, flags...)...)
		m.cmd.Stdout, m.cmd.Stderr = log, log
		m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := m.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = log.Close() // the process has its own
		m.done = make(chan struct{})
		go func() { _ = m.cmd.Wait(); close(m.done) }()
	}
	for _, m := range c.members {
		c.await(m.name+" answers", func() error { return c.try(m, "", "kv/range", `{"key":"YQ=="}`, nil) })
	}
	c.lead()
	return c
}

// lead makes the first member the leader, who knows how far the others are.
func (c *cluster) lead() {
	c.t.Helper()
	first := c.members[0]
	c.await("m1 leads", func() error {
		var s struct {
			Header struct {
				Member string `json:"member_id"`
			}
			Leader string
		}
		if err := c.try(first, "", "maintenance/status", "{}", &s); err != nil || s.Leader == s.Header.Member {
			return err
		}
		for _, m := range c.members[1:] { // one of them leads; the other refuses
			_ = c.try(m, "", "maintenance/transfer-leadership", fmt.Sprintf(`{"targetID":%q}`, s.Header.Member), nil)
		}
		return fmt.Errorf("%s leads", s.Leader)
	})
}

// claims keep the names of chosen ports from other test processes until this one ends.
var claims struct {
	sync.Mutex
	held []net.Listener
}

// freePorts chooses ports below the range that the system hands out by itself, so that no connection, of the browser for one,
// takes a port while its member is down.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range 2000 {
		port := 12000 + rand.IntN(20000)
		claim, err := net.Listen("unix", fmt.Sprintf("@quorate-test-port-%d", port))
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			_ = claim.Close()
			continue
		}
		_ = l.Close()
		claims.Lock()
		claims.held = append(claims.held, claim)
		claims.Unlock()
		if ports = append(ports, port); len(ports) == n {
			return ports
		}
	}
	t.Fatal("no free ports from 12000 to 31999")
	return nil
}

func (m *member) kill() {
	if m.cmd != nil && m.cmd.Process != nil {
		_ = m.cmd.Process.Kill()
		<-m.done
	}
}

// await tries until there is no error.
func (c *cluster) await(what string, try func() error) {
	c.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); ; {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			c.t.Fatalf("%s: %v", what, err)
		}
	}
}

// try asks the gateway of a member.
func (c *cluster) try(m *member, token, path, body string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, m.client+"/v3/"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return errors.New(string(bytes.TrimSpace(text)))
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

// ask is try on the first member, which must succeed.
func (c *cluster) ask(path, body string, into any) {
	c.t.Helper()
	if err := c.try(c.members[0], "", path, body, into); err != nil {
		c.t.Fatalf("%s %s: %v", path, body, err)
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func (c *cluster) put(key, value string) {
	c.t.Helper()
	c.ask("kv/put", fmt.Sprintf(`{"key":%q,"value":%q}`, b64(key), b64(value)), nil)
}

// putMany puts n keys in few transactions.
func (c *cluster) putMany(n int, key func(int) string, value string) {
	c.t.Helper()
	for from := 0; from < n; from += 100 {
		var ops []string
		for i := from; i < min(n, from+100); i++ {
			ops = append(ops, fmt.Sprintf(`{"request_put":{"key":%q,"value":%q}}`, b64(key(i)), b64(value)))
		}
		c.ask("kv/txn", `{"success":[`+strings.Join(ops, ",")+`]}`, nil)
	}
}

// load writes and reads until the test ends.
func (c *cluster) load() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	c.t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		tick := time.NewTicker(12 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			key := b64(fmt.Sprintf("/load/%d", i%50))
			if i%4 == 0 {
				_ = c.try(c.members[0], "", "kv/put", fmt.Sprintf(`{"key":%q,"value":%q}`, key, b64(strings.Repeat("x", 300))), nil)
			} else {
				_ = c.try(c.members[0], "", "kv/range", fmt.Sprintf(`{"key":%q}`, key), nil)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
}
