package server_test

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"quorate.dev/quorate/internal/freeport"
)

// TestServiceManager: it is told when the member is ready, again and again that it lives, and that it stops.
func TestServiceManager(t *testing.T) {
	bin, dir, addr := buildQuorate(t), t.TempDir(), freeport.Address(t)
	socket := filepath.Join(dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "1000000") // seldom enough that the socket holds what comes while this process is given no time
	told := make(chan string, 1_000_000) // read at once, as a service manager does: the socket takes few messages
	go func() {
		for buf := make([]byte, 100); ; {
			n, err := l.Read(buf)
			if err != nil {
				return
			}
			told <- string(buf[:n])
		}
	}()
	p := startProcess(t, bin, filepath.Join(dir, "data"), addr)
	next := func() string {
		select {
		case text := <-told:
			return text
		case <-time.After(patience):
			t.Fatal("nobody is told anything any more")
			return ""
		}
	}
	for i, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"} {
		if got := next(); got != want {
			t.Fatalf("message %d is %q, want %q", i, got, want)
		}
	}
	p.stop(t)
	for {
		switch got := next(); got {
		case "WATCHDOG=1":
		case "STOPPING=1":
			return
		default:
			t.Fatalf("at the end it is told %q", got)
		}
	}
}

// TestOtherWatchdog: the watchdog of another process is none of ours.
func TestOtherWatchdog(t *testing.T) {
	bin, dir, addr := buildQuorate(t), t.TempDir(), freeport.Address(t)
	socket := filepath.Join(dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "1000")
	t.Setenv("WATCHDOG_PID", "1")
	p := startProcess(t, bin, filepath.Join(dir, "data"), addr)
	p.stop(t)
	buf := make([]byte, 100)
	for _, want := range []string{"READY=1", "STOPPING=1"} {
		_ = l.SetReadDeadline(time.Now().Add(patience))
		if n, err := l.Read(buf); err != nil || string(buf[:n]) != want {
			t.Fatalf("%q %v, want %q", buf[:n], err, want)
		}
	}
}
