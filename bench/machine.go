package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// machine describes what is measured on: nothing that names it, all that numbers depend on.
func machine(dir string) (string, error) {
	sync, err := syncTime(dir)
	if err != nil {
		return "", err
	}
	var u syscall.Utsname
	if err := syscall.Uname(&u); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d cores of %s, %s of memory; disk: %s, fdatasync of 4 KB takes %.2f ms (median); Linux %s, %s, %s. Clients and server share the machine.",
		runtime.NumCPU(), field("/proc/cpuinfo", "model name"), memoryTotal(), diskOf(dir), milliseconds(sync), text(u.Release[:]), runtime.GOARCH, runtime.Version()), nil
}

func text(c []int8) string {
	var b []byte
	for _, x := range c {
		if x == 0 {
			break
		}
		b = append(b, byte(x))
	}
	return string(b)
}

// field is the value of the first line "name : value" of a file.
func field(file, name string) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.SplitSeq(string(content), "\n") {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

func memoryTotal() string {
	var kb float64
	if _, err := fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%f kB", &kb); err != nil {
		return "unknown size"
	}
	return fmt.Sprintf("%.1f GB", kb*1024/1e9)
}

// memoryFree is how much memory programs can still have, bytes.
func memoryFree() (int64, error) {
	var kb int64
	if _, err := fmt.Sscanf(field("/proc/meminfo", "MemAvailable"), "%d kB", &kb); err != nil {
		return 0, fmt.Errorf("how much memory is free: %w", err)
	}
	return kb << 10, nil
}

// diskOf is the file system under dir and what its device says it is.
func diskOf(dir string) string {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "unknown"
	}
	mount, fs, source := findMount(string(content), dir)
	if mount == "" {
		return "unknown"
	}
	device := filepath.Base(source)
	kind := "no block device of its own"
	if rotational, err := os.ReadFile(filepath.Join("/sys/class/block", device, "queue/rotational")); err == nil {
		kind = "block device " + device
		if strings.TrimSpace(string(rotational)) == "1" {
			kind += ", says it is rotational"
		} else {
			kind += ", says it is not rotational"
		}
	}
	return fs + " on " + kind
}

// findMount is the mount point that holds dir, its file system and source, from the text of mountinfo.
func findMount(mountinfo, dir string) (mount, fs, source string) {
	for line := range strings.SplitSeq(mountinfo, "\n") {
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(g) < 2 {
			continue
		}
		under := f[4] == "/" || dir == f[4] || strings.HasPrefix(dir, f[4]+"/")
		if under && len(f[4]) >= len(mount) {
			mount, fs, source = f[4], g[0], g[1]
		}
	}
	return mount, fs, source
}

// syncTime is how long the disk takes to make a small write durable: the median of 200.
func syncTime(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, "sync")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var samples []sample
	block := make([]byte, 4096)
	for range 200 {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
		samples = append(samples, sample{took: time.Since(start)})
	}
	return time.Duration(quantile(latencies(samples, nil), 0.5) * float64(time.Millisecond)), nil
}
