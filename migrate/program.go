package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/wire"
)

// TransformError says how a transformer failed.
type TransformError struct {
	Program string
	Err     error
}

// Error names the program.
func (e *TransformError) Error() string {
	return fmt.Sprintf("migrate: transformer %s: %v", e.Program, e.Err)
}

// Unwrap returns the cause.
func (e *TransformError) Unwrap() error { return e.Err }

// program is a transformer that runs as a process of its own.
type program struct {
	path     string
	patience time.Duration
	stderr   io.Writer
	clock    clock.Clock
	told     func(nodes int64)

	moved atomic.Int64 // counts what went in and came out
}

// chunk is how many bytes are written to the program at a time.
const chunk = 32 << 10

// run gives the nodes to the program and its answers to visit. When it returns the program has ended; what is left of its process
// group was killed if it failed.
func (p *program) run(ctx context.Context, nodes []item, visit func(*wire.KeyValue) error) error {
	cmd := exec.Command(p.path)
	cmd.Stderr = p.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // for a stderr that somebody else holds open
	in, err := cmd.StdinPipe()
	if err != nil {
		return p.failed(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return p.failed(err)
	}
	if err := cmd.Start(); err != nil {
		return p.failed(fmt.Errorf("it cannot be started: %w", err))
	}
	work := make(chan result, 1)
	go func() { work <- p.converse(cmd, in, out, nodes, visit) }()
	kill := func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_, _ = in.Close(), out.Close() // somebody outside of the group may hold the other ends
	}
	r, why := p.watch(ctx, work, kill)
	if err := r.verdict(why); err != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it has started itself
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return p.failed(err)
	}
	return nil
}

func (p *program) failed(err error) error { return &TransformError{Program: p.path, Err: err} }

// result is how a conversation ended.
type result struct {
	input, output, exit error
}

// converse writes and reads at the same time, and waits for the end of the program.
func (p *program) converse(cmd *exec.Cmd, in io.WriteCloser, out io.Reader, nodes []item, visit func(*wire.KeyValue) error) (r result) {
	fed := make(chan error, 1)
	go func() { fed <- p.feed(in, nodes) }()
	r.output = readRecords(&moving{out, &p.moved}, visit)
	if r.output != nil { // there is no sense in going on
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	r.input = <-fed
	r.exit = cmd.Wait()
	return r
}

// feed writes the nodes as JSON, one behind the other.
func (p *program) feed(in io.WriteCloser, nodes []item) error {
	var b bytes.Buffer
	flush := func() error {
		for b.Len() > 0 {
			n, err := in.Write(b.Next(chunk))
			if p.moved.Add(int64(n)); err != nil {
				return err
			}
		}
		return nil
	}
	for i, n := range nodes {
		text, err := n.MarshalJSON()
		if err != nil {
			return errors.Join(err, in.Close())
		}
		b.Write(text)
		if b.Len() >= chunk {
			if err := flush(); err != nil {
				return errors.Join(err, in.Close())
			}
			p.told(int64(i))
		}
	}
	return errors.Join(flush(), in.Close())
}

// watch waits for the end of the conversation, and ends it when ctx does or nothing moves for too long. why is nil when it was not.
func (p *program) watch(ctx context.Context, work <-chan result, kill func()) (r result, why error) {
	tick := p.clock.NewTicker(max(p.patience/4, time.Millisecond))
	defer tick.Stop()
	seen, since := p.moved.Load(), p.clock.Now()
	for {
		select {
		case r := <-work:
			return r, nil
		case <-ctx.Done():
			kill()
			return <-work, context.Cause(ctx)
		case now := <-tick.C:
			if moved := p.moved.Load(); moved != seen {
				seen, since = moved, now
			} else if now.Sub(since) >= p.patience {
				kill()
				return <-work, fmt.Errorf("it neither read nor wrote anything for %s and was killed; if it needs longer, say so with --transformer-timeout", p.patience)
			}
		}
	}
}

// verdict is the first cause of a failure: ours, what the program wrote, how it ended, what it did not read.
func (r result) verdict(why error) error {
	var exit *exec.ExitError
	var wrong *OutputError
	switch {
	case why != nil:
		return why
	case errors.As(r.output, &wrong) && errors.As(r.exit, &exit) && exit.Exited():
		return fmt.Errorf("%w (it ended with %s)", r.output, exit)
	case errors.As(r.output, &wrong):
		return r.output
	case errors.As(r.exit, &exit):
		return fmt.Errorf("it ended with %s", exit)
	case r.output != nil && !errors.Is(r.output, os.ErrClosed):
		return fmt.Errorf("its output: %w", r.output)
	case errors.Is(r.input, syscall.EPIPE):
		return errors.New("it ended without having read all nodes; it has to read its stdin to the end")
	case r.input != nil:
		return fmt.Errorf("its input: %w", r.input)
	case r.exit != nil && !errors.Is(r.exit, exec.ErrWaitDelay):
		return r.exit
	}
	return nil
}

// moving counts what is read.
type moving struct {
	r     io.Reader
	moved *atomic.Int64
}

func (m *moving) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	m.moved.Add(int64(n))
	return n, err
}
