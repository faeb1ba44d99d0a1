package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"quorate.dev/quorate/test/cluster"
)

// wire is a network of packets: every member lives in a network namespace of its own, whose only way out is a TUN device
// that this process holds. It passes packets on as the links allow, and so can lose, delay and reorder them one by one,
// in each direction by itself, whatever the kernel's packet schedulers can do.
type wire struct {
	base  string // the first three numbers of the addresses
	mu    sync.Mutex
	links map[link]condition
	nodes map[byte]*node // by the last number of the address
	rng   *rand.Rand
	late  atomic.Int64 // packets on their way
}

// node is one end of the wire.
type node struct {
	name  string
	space string // network namespace; empty for that of this process
	tun   *os.File
}

const (
	mostLate    = 20000 // packets on their way; more are lost
	clientsNode = 254
)

// newWire makes the wire with one node for the clients, which live in the namespace of this process. It needs the right to
// make devices and namespaces.
func newWire(seed uint64) (*wire, error) {
	w := &wire{base: fmt.Sprintf("10.%d.%d.", 64+os.Getpid()/250%128, os.Getpid()%250), links: map[link]condition{}, nodes: map[byte]*node{},
		rng: rand.New(rand.NewPCG(seed, 6))}
	if err := w.attach(Clients, "", clientsNode); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %v: %w: %s", args, err, out)
	}
	return nil
}

// attach makes a node. Number is the last of its address.
func (w *wire) attach(name, space string, number byte) error {
	device := fmt.Sprintf("qf%d.%d", os.Getpid()%100000, number)
	tun, err := openTun(device)
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.nodes[number] = &node{name: name, space: space, tun: tun}
	w.mu.Unlock()
	var in []string
	if space != "" {
		if err := errors.Join(ip("netns", "add", space), ip("link", "set", device, "netns", space)); err != nil {
			return err
		}
		in = []string{"-n", space}
		if err := ip(append(in, "link", "set", "lo", "up")...); err != nil {
			return err
		}
	}
	if err := errors.Join(ip(append(in, "addr", "add", fmt.Sprintf("%s%d/24", w.base, number), "dev", device)...),
		ip(append(in, "link", "set", device, "up")...)); err != nil {
		return err
	}
	go w.pump(tun, name)
	return nil
}

// openTun makes a TUN device of this name.
func openTun(name string) (*os.File, error) {
	fd, err := syscall.Open("/dev/net/tun", syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	var request [40]byte
	copy(request[:syscall.IFNAMSIZ-1], name)
	*(*uint16)(unsafe.Pointer(&request[syscall.IFNAMSIZ])) = syscall.IFF_TUN | syscall.IFF_NO_PI
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("making the device %s: %w", name, errno)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// pump takes the packets that a node sends.
func (w *wire) pump(tun *os.File, from string) {
	packet := make([]byte, 1<<16)
	for {
		n, err := tun.Read(packet)
		if err != nil {
			return
		}
		if n < 20 || packet[0]>>4 != 4 {
			continue
		}
		w.mu.Lock()
		to := w.nodes[packet[19]]
		var c condition
		lost := to == nil
		if to != nil {
			c = w.links[link{from, to.name}]
			lost = c.stalled || c.refused || w.rng.Float64() < c.loss || w.late.Load() > mostLate
			if c.jitter > 0 {
				c.delay += time.Duration(w.rng.Int64N(int64(c.jitter)))
			}
		}
		w.mu.Unlock()
		switch {
		case lost:
		case c.delay == 0:
			_, _ = to.tun.Write(packet[:n])
		default:
			late := append([]byte(nil), packet[:n]...)
			w.late.Add(1)
			time.AfterFunc(c.delay, func() {
				w.late.Add(-1)
				_, _ = to.tun.Write(late)
			})
		}
	}
}

func (w *wire) set(names []string, change func(from, to string, c *condition)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	each(w.links, names, change)
}

func (w *wire) heal(names []string, _ bool) {
	w.set(names, func(_, _ string, c *condition) { *c = condition{} })
}

func (w *wire) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.nodes {
		_ = n.tun.Close()
		if n.space != "" {
			_ = ip("netns", "del", n.space)
		}
	}
	w.nodes = map[byte]*node{}
}

// place puts a member into a namespace of its own.
func (w *wire) place(m *cluster.Member, i int) (client string, err error) {
	space := fmt.Sprintf("quorate-faults-%d-%s", os.Getpid(), m.Name)
	own := fmt.Sprintf("%s%d", w.base, i+1)
	m.Client, m.Peer = "http://"+own+":2379", "http://"+own+":2380"
	m.Wrap = []string{"ip", "netns", "exec", space}
	return own + ":2379", w.attach(m.Name, space, byte(i+1))
}
