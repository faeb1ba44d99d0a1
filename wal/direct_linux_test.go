package wal_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	. "quorate.dev/quorate/wal"
)

// TestDirectIsDurable asks the kernel how the segment is open: nothing but O_DSYNC makes a group durable there.
func TestDirectIsDurable(t *testing.T) {
	dir := t.TempDir()
	probe, err := os.OpenFile(filepath.Join(dir, "probe"), os.O_CREATE|os.O_RDWR|syscall.O_DIRECT, 0o600)
	if err != nil {
		t.Skipf("the file system of %s takes no direct writes: %v", dir, err)
	}
	must(t, probe.Close())
	l, err := Create(filepath.Join(dir, "wal"), Options{}, owner)
	must(t, err)
	var direct, durable int
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, fd := range fds {
		target, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		if !strings.HasPrefix(target, dir) || !strings.HasSuffix(target, ".wal") {
			continue
		}
		info, err := os.ReadFile("/proc/self/fdinfo/" + fd.Name())
		must(t, err)
		var flags int
		for line := range strings.Lines(string(info)) {
			if octal, ok := strings.CutPrefix(line, "flags:"); ok {
				_, err := fmt.Sscanf(octal, "%o", &flags)
				must(t, err)
			}
		}
		if flags&syscall.O_DIRECT != 0 {
			direct++
			if flags&syscall.O_DSYNC != 0 {
				durable++
			}
		}
	}
	if direct != 2 || durable != 1 {
		t.Errorf("the segment is open directly %d times, %d of them with O_DSYNC; want 2 and 1", direct, durable)
	}
	must(t, l.Close())
}
