package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cpu is the CPU time that the server's processes have used, user and system.
func (s *server) cpu() (time.Duration, error) {
	var sum time.Duration
	for _, p := range s.members {
		d, err := p.cpu()
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

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

// memory is what a server holds, bytes. Anonymous leaves out mapped files; peak is the largest resident since the start or
// the last resetPeak.
type memory struct{ resident, anonymous, peak int64 }

func (s *server) memory() (memory, error) {
	var sum memory
	for _, p := range s.members {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		if err != nil {
			return sum, err
		}
		m := parseMemory(string(text))
		sum.resident += m.resident
		sum.anonymous += m.anonymous
		sum.peak += m.peak
	}
	return sum, nil
}

func parseMemory(status string) memory {
	var m memory
	for _, line := range strings.Split(status, "\n") {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kb, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "VmRSS:":
			m.resident = kb << 10
		case "RssAnon:":
			m.anonymous = kb << 10
		case "VmHWM:":
			m.peak = kb << 10
		}
	}
	return m
}

// resetPeak makes the largest resident size count from now on.
func (s *server) resetPeak() error {
	const resetHWM = "5"
	for _, p := range s.members {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte(resetHWM), 0o200); err != nil {
			return err
		}
	}
	return nil
}

// disk is what the data directories occupy, bytes.
func (s *server) disk() (int64, error) {
	var sum int64
	for _, p := range s.members {
		err := filepath.WalkDir(filepath.Join(p.dir, "data"), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // the engine removed it meanwhile
			}
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil {
				sum += info.Sys().(*syscall.Stat_t).Blocks * 512
			}
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// settle waits until the disk size has not changed for calm, at most for two minutes, and says how long it waited.
func (s *server) settle(calm time.Duration) error {
	const poll = 250 * time.Millisecond
	last, err := s.disk()
	if err != nil {
		return err
	}
	since := time.Now()
	for deadline := since.Add(2 * time.Minute); time.Since(since) < calm; {
		time.Sleep(poll)
		now, err := s.disk()
		if err != nil {
			return err
		}
		if now != last {
			last, since = now, time.Now()
		}
		if time.Now().After(deadline) {
			return errors.New("the disk size does not settle within two minutes")
		}
	}
	return nil
}
