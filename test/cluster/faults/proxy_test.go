package faults

import (
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// pair connects to an echo of its own through proxies in which this process is member a.
func pair(t *testing.T) (*proxies, net.Conn) {
	t.Helper()
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { echo.Close() })
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	n := newProxies(func() map[string]int { return map[string]int{"a": os.Getpid()} })
	t.Cleanup(n.close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	if err := n.proxy(address, echo.Addr().String(), "b"); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return n, c
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, c net.Conn, text string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("%q %v", got, err)
	}
}

// silent checks that nothing comes within a short time: what is stalled cannot be waited for.
func silent(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); err == nil || n > 0 {
		t.Fatal("something came through a link that lets nothing through")
	}
}

// TestOneWayStall checks that a link lets nothing through in one direction, knows whose connection it is, and lets what was
// held back through when it is mended.
func TestOneWayStall(t *testing.T) {
	names := []string{"a", "b", Clients}
	n, c := pair(t)
	say(t, c, "one")
	hear(t, c, "one")
	for _, l := range []link{{"a", "b"}, {"b", "a"}} {
		n.set(names, func(from, to string, c *condition) { c.stalled = l == link{from, to} })
		say(t, c, "two")
		silent(t, c)
		n.heal(names, false)
		hear(t, c, "two")
	}
	// A link of somebody else does not matter.
	n.set(names, func(from, to string, c *condition) { c.stalled = from == Clients || to == Clients })
	say(t, c, "three")
	hear(t, c, "three")
	n.set(names, func(from, to string, c *condition) { c.refused = from == "a" })
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatal("a connection over a refused link goes on")
	}
}
