package server

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"quorate.dev/quorate/config"
)

func TestDataDir(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	d, err := openDataDir(config.Member{DataDir: path}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("%v, mode %v", err, info.Mode())
	}

	_, err = openDataDir(config.Member{DataDir: path}, zap.NewNop())
	for _, want := range []string{path, "in use by another process", fmt.Sprintf("process %d", os.Getpid()), "--data-dir"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("second opening: error %v does not say %q", err, want)
		}
	}

	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := openDataDir(config.Member{DataDir: path, WALDir: filepath.Join(path, "elsewhere")}, zap.NewNop())
	if err != nil {
		t.Fatalf("after the first was closed: %v", err)
	}
	if again.log != filepath.Join(path, "elsewhere") {
		t.Errorf("log directory %s", again.log)
	}
	if _, err := openDataDir(config.Member{DataDir: t.TempDir(), WALDir: again.log}, zap.NewNop()); err == nil ||
		!strings.Contains(err.Error(), "--wal-dir: directory "+again.log+" is in use") {
		t.Errorf("a log directory with two users: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestForeignDirectory checks that etcd's own data is left alone.
func TestForeignDirectory(t *testing.T) {
	for _, name := range []string{"member", "proxy"} {
		path := t.TempDir()
		if err := os.Mkdir(filepath.Join(path, name), 0o700); err != nil {
			t.Fatal(err)
		}
		_, err := openDataDir(config.Member{DataDir: path}, zap.NewNop())
		says := "quorate migrate --data-dir " + path + " --to " + path + ".quorate" // without a db there are no data of the v3 API
		if name == "proxy" {
			says = "is that of a proxy of etcd"
		}
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if entries, err := os.ReadDir(path); err != nil || len(entries) != 1 {
			t.Errorf("%s: the directory was changed: %v %v", name, entries, err)
		}
	}
}

// TestForeignV3Directory checks that the command is named that takes etcd's data over.
func TestForeignV3Directory(t *testing.T) {
	path := t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(path, "member", "snap"), 0o700), os.WriteFile(filepath.Join(path, "member", "snap", "db"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err := openDataDir(config.Member{DataDir: path, WALDir: "/logs"}, zap.NewNop())
	want := fmt.Sprintf("quorate import --from %s --data-dir %s.quorate --from-wal-dir /logs", path, path)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v does not name %s", err, want)
	}
}

func TestDataDirIsAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openDataDir(config.Member{DataDir: path}, zap.NewNop()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
}

func parse(t *testing.T, text string) url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return *u
}

func TestListen(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "q.sock")
	all, err := listenAll(config.Listen{
		Peer: []url.URL{parse(t, "http://127.0.0.1:0")}, Client: []url.URL{parse(t, "unix://"+socket)},
		ReuseAddress: true, ReusePort: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	if port := boundURLs(all.peer)[0].Port(); port == "0" {
		t.Error("the real port is not in the URL")
	}
	taken := config.Listen{Client: boundURLs(all.peer)}
	if _, err := listenAll(taken); err == nil || !strings.Contains(err.Error(), "--listen-client-urls: address 127.0.0.1:") ||
		!strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("taken port: %v", err)
	}
	if _, err := listenAll(config.Listen{Client: all0(t, "unix://"+socket)}); err == nil || !strings.Contains(err.Error(), socket+" is in use") {
		t.Errorf("taken socket: %v", err)
	}
}

func all0(t *testing.T, text string) []url.URL { return []url.URL{parse(t, text)} }

// TestAbandonedSocket checks that the socket file of a killed process does not stop the next one.
func TestAbandonedSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "q.sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	all, err := listenAll(config.Listen{Client: all0(t, "unix://"+socket)})
	if err != nil {
		t.Fatal(err)
	}
	all.Close()
}

func TestNotifyInit(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if told, err := notifyInit("READY=1"); told || err != nil {
		t.Errorf("nobody asked: %t %v", told, err)
	}
	path := filepath.Join(t.TempDir(), "notify")
	ln, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	t.Setenv("NOTIFY_SOCKET", path)
	if told, err := notifyInit("READY=1"); !told || err != nil {
		t.Fatalf("%t %v", told, err)
	}
	text := make([]byte, 64)
	n, err := ln.Read(text)
	if err != nil || string(text[:n]) != "READY=1" {
		t.Errorf("%q %v", text[:n], err)
	}
	// A manager that does not read is told as much as its socket takes, and then given up.
	told, err := true, error(nil)
	for i := 0; err == nil; i++ {
		if told, err = notifyInit("WATCHDOG=1"); i > 100_000 {
			t.Fatal("a socket takes everything")
		}
	}
	if told || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a manager that does not read: %t %v", told, err)
	}
	t.Setenv("NOTIFY_SOCKET", path+".none")
	if _, err := notifyInit("READY=1"); err == nil {
		t.Error("a missing socket is not reported")
	}
}
