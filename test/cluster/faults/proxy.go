package faults

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"quorate.dev/quorate/test/cluster"
)

// Clients is who a connection belongs to when it is no member's.
const Clients = "clients"

// network is what members and clients reach each other by.
type network interface {
	// place gives a member its addresses, and returns the one that clients reach it by.
	place(m *cluster.Member, i int) (client string, err error)
	// set changes the links between all names.
	set(names []string, change func(from, to string, c *condition))
	// heal lets everything through again. With reset, connections that were stalled end instead of going on with what they held.
	heal(names []string, reset bool)
	close()
}

// proxies is a network of TCP proxies. It knows the state of every directed link, and the proxies that obey it.
type proxies struct {
	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, whenever a link changes
	links   map[link]condition
	pids    func() map[string]int
	conns   map[*pipe]struct{}
	closers []io.Closer
}

type link struct{ from, to string }

// condition is what happens to bytes on a link. The zero value lets them through.
type condition struct {
	stalled bool
	refused bool // connections end, and new ones are refused
	delay   time.Duration
	jitter  time.Duration // more delay, by chance, packet by packet: only where there are packets
	loss    float64       // how many packets get lost: only where there are packets
}

// pipe is a connection through a proxy.
type pipe struct {
	from, to string
	a, b     net.Conn
}

// newProxies makes a network of proxies in which everything reaches everything. pids tells the processes of the members, by name.
func newProxies(pids func() map[string]int) *proxies {
	return &proxies{changed: make(chan struct{}), links: map[link]condition{}, pids: pids, conns: map[*pipe]struct{}{}}
}

// close ends the proxies and their connections.
func (n *proxies) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.closers {
		_ = c.Close()
	}
	for p := range n.conns {
		_ = p.a.Close()
		_ = p.b.Close()
	}
	n.links = map[link]condition{}
	close(n.changed)
	n.changed = make(chan struct{})
}

// set changes the links chosen by which, among all given names.
func (n *proxies) set(names []string, change func(from, to string, c *condition)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	each(n.links, names, change)
	for p := range n.conns {
		if n.links[link{p.from, p.to}].refused || n.links[link{p.to, p.from}].refused {
			_ = p.a.Close()
			_ = p.b.Close()
		}
	}
	close(n.changed)
	n.changed = make(chan struct{})
}

// each changes every link between two of names.
func each(links map[link]condition, names []string, change func(from, to string, c *condition)) {
	for _, from := range names {
		for _, to := range names {
			if from == to {
				continue
			}
			c := links[link{from, to}]
			change(from, to, &c)
			links[link{from, to}] = c
		}
	}
}

// place puts a member behind proxies. Members and proxies have addresses of their own on the loopback network, below the
// ports that the system hands out, so that a restarted member finds its port free.
func (n *proxies) place(m *cluster.Member, i int) (client string, err error) {
	base := fmt.Sprintf("127.%d.%d.", 64+os.Getpid()/250%128, os.Getpid()%250)
	own, proxied := fmt.Sprintf("%s%d", base, i+1), fmt.Sprintf("%s%d", base, i+101)
	m.Client, m.Peer = "http://"+own+":2379", "http://"+proxied+":2380"
	m.Flags = append(m.Flags, "--listen-peer-urls=http://"+own+":2380")
	return proxied + ":2379", errors.Join(n.proxy(proxied+":2380", own+":2380", m.Name), n.proxy(proxied+":2379", own+":2379", m.Name))
}

func (n *proxies) heal(names []string, reset bool) {
	if reset {
		n.set(names, func(_, _ string, c *condition) { c.refused = c.refused || c.stalled })
	}
	n.set(names, func(_, _ string, c *condition) { *c = condition{} })
}

func (n *proxies) get(from, to string) (condition, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.links[link{from, to}], n.changed
}

// proxy listens on address and passes connections on to target, which belongs to member to.
func (n *proxies) proxy(address, target, to string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.closers = append(n.closers, l)
	n.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go n.serve(c, target, to)
		}
	}()
	return nil
}

func (n *proxies) serve(c net.Conn, target, to string) {
	from := n.owner(c.RemoteAddr().(*net.TCPAddr), c.LocalAddr().(*net.TCPAddr))
	defer c.Close()
	if !n.wait(from, to, time.Now()) {
		return
	}
	d, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // what a closed port answers
		}
		return
	}
	defer d.Close()
	p := &pipe{from: from, to: to, a: c, b: d}
	n.mu.Lock()
	n.conns[p] = struct{}{}
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		delete(n.conns, p)
		n.mu.Unlock()
	}()
	var both sync.WaitGroup
	both.Go(func() { n.copy(d, c, from, to) })
	both.Go(func() { n.copy(c, d, to, from) })
	both.Wait()
}

// wait returns when bytes sent at an instant have arrived, and reports whether they have.
func (n *proxies) wait(from, to string, sent time.Time) bool {
	for {
		c, changed := n.get(from, to)
		if c.refused {
			return false
		}
		late := time.Until(sent.Add(c.delay))
		if !c.stalled && late <= 0 {
			return true
		}
		var timer <-chan time.Time
		if !c.stalled {
			timer = time.After(late)
		}
		select {
		case <-changed:
		case <-timer:
		}
	}
}

// chunk is what was read at once, and when.
type chunk struct {
	data []byte
	at   time.Time
}

// copy passes one direction of a connection on, as the link from -> to allows.
func (n *proxies) copy(dst, src net.Conn, from, to string) {
	// A window of bytes may be on its way: what does not fit waits at the sender, as in a real connection.
	way := make(chan chunk, 64)
	go func() {
		defer close(way)
		buf := make([]byte, 32<<10)
		for {
			k, err := src.Read(buf)
			if k > 0 {
				way <- chunk{append([]byte(nil), buf[:k]...), time.Now()}
			}
			if err != nil {
				return
			}
		}
	}()
	broken := false
	for c := range way {
		if broken = broken || !n.wait(from, to, c.at); broken {
			_ = src.Close()
			continue
		}
		if _, err := dst.Write(c.data); err != nil {
			broken = true
		}
	}
	if n.wait(from, to, time.Now()) { // the end of a connection is a packet too
		if t, ok := dst.(*net.TCPConn); ok {
			_ = t.CloseWrite()
		}
		return
	}
	_ = dst.Close()
}

// owner finds the member whose process holds the other end of a connection.
func (n *proxies) owner(remote, local *net.TCPAddr) string {
	inode, err := inodeOf(remote, local)
	if err != nil {
		return Clients
	}
	for name, pid := range n.pids() {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			if target, err := os.Readlink(fd); err == nil && target == "socket:["+inode+"]" {
				return name
			}
		}
	}
	return Clients
}
