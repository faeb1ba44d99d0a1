package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// contender is one of the servers that are compared.
type contender struct {
	name, bin string
}

// process is a running server.
type process struct {
	c      *contender
	cmd    *exec.Cmd
	dir    string
	addr   string
	logTo  *os.File
	waited chan error
}

// start runs the server on dir and returns once it answers a linearizable read.
func (c *contender) start(dir string) (*process, error) {
	p := &process{c: c, dir: dir, waited: make(chan error, 1)}
	var err error
	if p.addr, err = freeAddress(); err != nil {
		return nil, err
	}
	peer, err := freeAddress()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if p.logTo, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	url, peerURL := "http://"+p.addr, "http://"+peer
	p.cmd = exec.Command(c.bin, "--name", "bench", "--data-dir", filepath.Join(dir, "data"),
		"--listen-client-urls", url, "--advertise-client-urls", url,
		"--listen-peer-urls", peerURL, "--initial-advertise-peer-urls", peerURL, "--initial-cluster", "bench="+peerURL,
		"--quota-backend-bytes", "8589934592", "--log-level", "warn")
	p.cmd.Stdout, p.cmd.Stderr = p.logTo, p.logTo
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.waited <- p.cmd.Wait() }()
	return p, p.ready()
}

// ready waits for the first linearizable read.
func (p *process) ready() error {
	deadline := time.Now().Add(2 * time.Minute)
	for {
		select {
		case err := <-p.waited:
			text, _ := os.ReadFile(filepath.Join(p.dir, "log"))
			return fmt.Errorf("%s ended while starting: %v\n%s", p.c.name, err, text)
		default:
		}
		if err := p.probe(); err == nil {
			return nil
		} else if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer: %w", p.c.name, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (p *process) probe() error {
	raw, err := net.DialTimeout("tcp", p.addr, time.Second)
	if err != nil {
		return err
	}
	raw.Close()
	conn, err := dial(p.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err = pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("probe")})
	return err
}

func dial(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<31-1)))
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// stop ends the server as an operator would.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.waited: // the exit status on SIGTERM differs between the two and is not what is measured
		p.logTo.Close()
		return nil
	case <-time.After(time.Minute):
		return errors.New("the server did not stop within a minute")
	}
}

func (p *process) kill() { p.cmd.Process.Kill() }

// cpu is the CPU time the server has used, user and system.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The command name may hold spaces; the fields of interest follow its closing parenthesis.
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go supports
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// rss is the resident memory of the server and the largest it was, bytes.
func (p *process) rss() (now, peak int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for _, line := range strings.Split(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kb, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "VmRSS:":
			now = kb << 10
		case "VmHWM:":
			peak = kb << 10
		}
	}
	return now, peak, nil
}

// disk is what the data directory occupies, bytes.
func (p *process) disk() (int64, error) {
	var sum int64
	err := filepath.WalkDir(filepath.Join(p.dir, "data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the engine removed it meanwhile
		}
		if err == nil {
			sum += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	})
	return sum, err
}
