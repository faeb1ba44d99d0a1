package kubernetes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"quorate.dev/quorate/test/compat/proc"
)

// Process is a program with a log that outlasts it.
type Process struct {
	Name string
	log  string
	cmd  *exec.Cmd
	done <-chan struct{}
}

// StartProcess starts a program whose output is appended to dir/name.log.
func StartProcess(dir, name, bin string, args ...string) (*Process, error) {
	p := &Process{Name: name, log: filepath.Join(dir, name+".log"), cmd: exec.Command(bin, args...)}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, log, log
	p.done, err = proc.Spawn(p.cmd)
	return p, err
}

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.done }

// Stop ends the process as a service manager does; one that has not ended after two minutes is killed, which is an error.
func (p *Process) Stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
		p.Kill()
		return fmt.Errorf("%s still ran %v after SIGTERM", p.Name, stopTimeout)
	}
}

// Kill ends the process at once.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// LogTail returns the last n bytes of its log.
func (p *Process) LogTail(n int) string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-n):])
}
