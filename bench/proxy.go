package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// proxyCores is how many cores of its own a proxy is given when its CPU per event is turned into a rate.
const proxyCores = 2

// proxyFanOut is the fan-out through a proxy to watchers whose streams have ten of them each, and a writer that leaves no pause.
func (w *workbench) proxyFanOut() (*result, error) {
	return w.proxied(min(w.sizes.clients, 200), w.sizes.puts*w.sizes.repeats, 10)
}

// proxyFanOutStreams is the same with a stream for each watcher.
func (w *workbench) proxyFanOutStreams() (*result, error) {
	return w.proxied(min(w.sizes.clients, 200), w.sizes.puts*w.sizes.repeats, 1)
}

// proxyFanOutLive is the same with so few puts under way that events can hardly travel together.
func (w *workbench) proxyFanOutLive() (*result, error) { return w.proxied(4, w.sizes.puts, 10) }

// storeForProxy makes the store behind either proxy one member of Quorate, so that only the proxies differ.
func (w *workbench) storeForProxy() error {
	if err := w.s.kill(); err != nil {
		return err
	}
	store := &contender{name: "quorate", bin: w.o.quorate}
	dir, err := os.MkdirTemp(filepath.Dir(w.s.members[0].dir), "store-")
	if err != nil {
		return err
	}
	w.proxy = w.s.c
	w.s, err = store.start(dir, 1, w.s.access)
	return err
}

// startProxy runs the contender's proxy in front of the store and returns when it passes calls on.
func (w *workbench) startProxy() (*server, error) {
	p := &process{name: "proxy", dir: filepath.Join(filepath.Dir(w.s.members[0].dir), fmt.Sprintf("proxy-%d", time.Now().UnixNano()))}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if p.addr, err = freeAddress(); err != nil {
		return nil, err
	}
	// etcd's name for it, which both know.
	p.cmd = exec.Command(w.proxy.bin, "grpc-proxy", "start", "--listen-addr", p.addr, "--advertise-client-url", p.addr,
		"--endpoints", w.s.members[0].addr, "--data-dir", filepath.Join(p.dir, "data"))
	if w.proxy.name == "quorate" {
		p.cmd.Args[0] = "etcd"
	}
	log, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.ended = make(chan struct{})
	go func() {
		p.cmd.Wait() // it is killed when it has been measured
		log.Close()
		close(p.ended)
	}()
	s := &server{c: w.proxy, members: []*process{p}, access: w.s.access}
	if err := p.ready(w.proxy.name+" proxy", w.s.access); err != nil {
		s.kill()
		return nil, err
	}
	return s, nil
}

// proxied has so many puts, by so many clients at once, delivered to all watchers through the proxy.
func (w *workbench) proxied(clients, puts, perStream int) (*result, error) {
	if !w.lean.has("watch") {
		return nil, notMeasured("this quorate binary has no verb bench watch")
	}
	proxy, err := w.startProxy()
	if err != nil {
		return nil, err
	}
	defer proxy.kill()
	before, err := processorTimes(proxy, w.s)
	if err != nil {
		return nil, err
	}
	conns := strconv.Itoa(max(1, w.sizes.watchers/10))
	load := &leanLoad{workload: "watch", conns: 10, clients: clients, extra: []string{"--watch-endpoints", proxy.members[0].addr,
		"--watchers", strconv.Itoa(w.sizes.watchers), "--watch-connections", conns, "--streams", strconv.Itoa(max(1, w.sizes.watchers/perStream)),
		"--total", strconv.Itoa(puts)}}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(w.lean.bin, load.args(w.s)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("quorate bench watch: %w: %s%s", err, bytes.TrimSpace(stderr.Bytes()), proxy.autopsy())
	}
	after, err := processorTimes(proxy, w.s)
	if err != nil {
		return nil, err
	}
	x, err := parseLean(stdout.Bytes(), false)
	if err != nil {
		return nil, err
	}
	events := x.Extra["events"]
	if want := float64(w.sizes.watchers * puts); events != want {
		return nil, fmt.Errorf("quorate bench watch delivered %.0f events, want %.0f", events, want)
	}
	mem, err := proxy.memory()
	if err != nil {
		return nil, err
	}
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / events }
	r := newResult().set("operations", events).set("events/s", x.Extra["events_per_second"])
	r.set("p50", x.Extra["event_p50_ms"]).set("p99", x.Extra["event_p99_ms"])
	r.set("CPU per event", each(after[0]-before[0])).set("store CPU per event", each(after[1]-before[1]))
	r.set("client CPU per event", each(cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()))
	r.set("events/s on 2 cores", proxyCores*events/max(after[0]-before[0], 10*time.Millisecond).Seconds())
	return r.set("resident", float64(mem.resident)).set("peak resident", float64(mem.peak)), nil
}

// processorTimes is the CPU time of servers so far.
func processorTimes(servers ...*server) (out []time.Duration, err error) {
	for _, s := range servers {
		d, err := s.cpu()
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}
