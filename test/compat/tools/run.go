package tools

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"quorate.dev/quorate/test/compat/proc"
)

// patience is how long a command line, or the wait for a text, may take.
const patience = 2 * time.Minute

// Bench is where a script runs: one pair of tools, one server or cluster, one directory.
type Bench struct {
	Ctl, Utl []string       // the programs, with the arguments that come before all others
	Servers  []*proc.Server // none for scripts of files only
	Dir      string         // working directory of the commands; made by Run
	TLS      string         // where the server listens with TLS; may be empty
	Fixtures string         // directory whose files are copied into Dir first; may be empty
}

// Entry is what a statement did.
type Entry struct {
	Step   Step
	Took   time.Duration
	Code   int // exit status; -1 for a process that had to be killed
	Stdout string
	Stderr string
	Files  []string // of Dir that came ("+ mode name") or went ("- mode name") since the entry before
}

// Run performs the script and returns an entry for every statement that can be compared. An error says that the script itself
// cannot be performed.
func Run(s Script, b Bench) ([]Entry, error) {
	if err := os.MkdirAll(b.Dir, 0o755); err != nil {
		return nil, err
	}
	if b.Fixtures != "" {
		if err := os.CopyFS(b.Dir, os.DirFS(b.Fixtures)); err != nil {
			return nil, err
		}
	}
	r := &runner{bench: b, vars: map[string]string{"DEAD": "127.0.0.1:1", "DIR": b.Dir, "TLS": b.TLS}, procs: map[string]*process{}}
	defer r.killAll()
	var eps []string
	for i, srv := range b.Servers {
		eps = append(eps, srv.Addr)
		r.vars[fmt.Sprintf("EP%d", i+1)] = srv.Addr
	}
	if len(eps) > 0 {
		r.vars["EP"], r.vars["EPS"] = eps[0], strings.Join(eps, ",")
	}
	for _, st := range s.Steps {
		before, start := len(r.entries), time.Now()
		err := r.step(st)
		for i := before; i < len(r.entries); i++ {
			r.entries[i].Took = time.Since(start)
		}
		if err != nil {
			return r.entries, fmt.Errorf("%s:%d: %s: %w", s.File, st.Line, st.Text, err)
		}
	}
	if len(r.procs) > 0 {
		return r.entries, fmt.Errorf("%s: %v still run at the end", s.Name, slices.Collect(maps.Keys(r.procs)))
	}
	n := newNormal(b)
	for i := range r.entries {
		n.entry(&r.entries[i])
	}
	return r.entries, nil
}

type runner struct {
	bench   Bench
	vars    map[string]string
	procs   map[string]*process
	entries []Entry
	files   []string // of the directory
	last    string   // standard output of the last command, as it was
}

func (r *runner) step(st Step) error {
	switch st.Verb {
	case "run":
		return r.run(st)
	case "start":
		p, err := r.start(st, st.Words, true)
		if err == nil {
			r.procs[st.Name] = p
		}
		return err
	case "let":
		m := regexp.MustCompile(strings.Join(st.Words[1:], " ")).FindStringSubmatch(r.last)
		if len(m) != 2 {
			return fmt.Errorf("not in %q", r.last)
		}
		r.vars[st.Name] = m[1]
		return nil
	case "file":
		return os.WriteFile(filepath.Join(r.bench.Dir, st.Name), st.Stdin, 0o644)
	case "remove":
		return os.RemoveAll(filepath.Join(r.bench.Dir, st.Name))
	case "copy":
		return r.copy(st)
	case "kill": // a server, by its number
		n, err := strconv.Atoi(st.Name)
		if err != nil || n < 1 || n > len(r.bench.Servers) {
			return fmt.Errorf("no server %s", st.Name)
		}
		r.bench.Servers[n-1].Kill()
		return nil
	case "cat":
		text, err := os.ReadFile(filepath.Join(r.bench.Dir, st.Name))
		if err != nil {
			text = []byte("no such file\n")
		}
		r.entries = append(r.entries, Entry{Step: st, Stdout: string(text)})
		return nil
	}
	p := r.procs[st.Name]
	if p == nil {
		return fmt.Errorf("no process %s", st.Name)
	}
	switch st.Verb {
	case "send":
		_, err := p.stdin.Write([]byte(r.expand(string(st.Stdin))))
		return err
	case "wait":
		seen := p.wait(r.expand(strings.Join(st.Words, " ")))
		r.last = p.stdout.String()
		r.entries = append(r.entries, Entry{Step: st, Stdout: fmt.Sprintf("seen: %v\n", seen)})
		return nil
	default: // stop
		delete(r.procs, st.Name)
		st.Text = p.step.Text
		return r.stop(st, p)
	}
}

// run performs one command line, again and again where the step says until what.
func (r *runner) run(st Step) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		p, err := r.start(st, st.Words, false)
		if err != nil {
			return err
		}
		if !p.end(ctx) {
			p.kill()
		}
		if st.Until == "" || strings.Contains(p.stdout.String(), r.expand(st.Until)) || ctx.Err() != nil {
			return r.note(st, p)
		}
	}
}

func (r *runner) stop(st Step, p *process) error {
	how := "INT"
	if len(st.Words) > 0 {
		how = st.Words[0]
	}
	switch how {
	case "EOF":
		p.stdin.Close()
	case "INT":
		p.cmd.Process.Signal(syscall.SIGINT)
	case "TERM":
		p.cmd.Process.Signal(syscall.SIGTERM)
	case "WAIT":
	default:
		return fmt.Errorf("nothing stops by %q", how)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if !p.end(ctx) {
		p.kill()
	}
	st.Known, st.Sorted, st.Volatile = st.Known+p.step.Known, st.Sorted || p.step.Sorted, st.Volatile || p.step.Volatile
	return r.note(st, p)
}

// note makes the entry of a process that has ended.
func (r *runner) note(st Step, p *process) error {
	files, err := list(r.bench.Dir)
	changes := change(r.files, files)
	r.files = files
	r.last = p.stdout.String()
	out := r.last
	if slices.Contains(p.words, "protobuf") || slices.Contains(p.words, "--write-out=protobuf") {
		out = wire([]byte(out))
	}
	r.entries = append(r.entries, Entry{Step: st, Code: p.cmd.ProcessState.ExitCode(), Stdout: out, Stderr: p.stderr.String(), Files: changes})
	return err
}

var variable = regexp.MustCompile(`\$[A-Z][A-Z0-9_]*`)

// expand replaces the variables that exist. Others belong to shells that commands start.
func (r *runner) expand(text string) string {
	return variable.ReplaceAllStringFunc(text, func(name string) string {
		if v, ok := r.vars[name[1:]]; ok {
			return v
		}
		return name
	})
}

// start runs a command line: "ctl" is etcdctl with the endpoints of the server, the others stand as they are.
func (r *runner) start(st Step, words []string, keep bool) (*process, error) {
	var args []string
	switch words[0] {
	case "ctl":
		args = append(slices.Clone(r.bench.Ctl), "--endpoints="+r.vars["EP"])
	case "etcdctl":
		args = slices.Clone(r.bench.Ctl)
	case "etcdutl":
		args = slices.Clone(r.bench.Utl)
	default:
		return nil, fmt.Errorf("no program %q", words[0])
	}
	for _, w := range words[1:] {
		args = append(args, r.expand(w))
	}
	p := &process{step: st, words: words, cmd: exec.Command(args[0], args[1:]...)}
	p.cmd.Dir = r.bench.Dir
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.bench.Dir, "TMPDIR=" + os.TempDir()}
	for _, e := range st.Env {
		p.cmd.Env = append(p.cmd.Env, r.expand(e))
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.WaitDelay = 5 * time.Second // a child that outlives its parent may hold the pipes
	input := r.expand(string(st.Stdin))
	switch {
	case st.TTY:
		tty, err := newTTY(input)
		if err != nil {
			return nil, err
		}
		p.cmd.Stdin, p.tty = tty.slave, tty
	case keep:
		pipe, err := p.cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		p.stdin = pipe
	case st.Stdin != nil:
		p.cmd.Stdin = strings.NewReader(input)
	}
	var err error
	if p.done, err = proc.Spawn(p.cmd); err == nil && keep && st.Stdin != nil {
		_, err = io.WriteString(p.stdin, input)
	}
	return p, err
}

// copy makes a file from another one, whole or damaged: cut=N keeps N bytes (a negative N all but so many), flip=N changes one.
func (r *runner) copy(st Step) error {
	if len(st.Words) == 0 {
		return fmt.Errorf("copy NEW OLD")
	}
	text, err := os.ReadFile(filepath.Join(r.bench.Dir, st.Words[0]))
	if err != nil {
		return err
	}
	for _, w := range st.Words[1:] {
		var n int
		if _, err := fmt.Sscanf(w, "cut=%d", &n); err == nil {
			text = text[:(n+len(text))%len(text)]
		} else if _, err := fmt.Sscanf(w, "flip=%d", &n); err == nil {
			text[n] ^= 0x55
		} else {
			return fmt.Errorf("what is %q", w)
		}
	}
	return os.WriteFile(filepath.Join(r.bench.Dir, st.Name), text, 0o600)
}

func (r *runner) killAll() {
	for _, p := range r.procs {
		p.kill()
	}
}

// process is a command that runs or has run.
type process struct {
	step           Step
	words          []string
	cmd            *exec.Cmd
	stdin          io.WriteCloser
	tty            *tty
	stdout, stderr buffer
	done           <-chan struct{}
}

// end waits for the end of the process and reports whether it came in time.
func (p *process) end(ctx context.Context) bool {
	select {
	case <-p.done:
	case <-ctx.Done():
		return false
	}
	if p.tty != nil {
		p.tty.close()
		p.tty = nil
	}
	return true
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// wait reports whether the text comes, on either output, before the process ends and before patience does.
func (p *process) wait(text string) bool {
	limit := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		ended := false
		select {
		case <-p.done:
			ended = true
		case <-limit:
			return false
		case <-tick.C:
		}
		if strings.Contains(p.stdout.String(), text) || strings.Contains(p.stderr.String(), text) {
			return true
		}
		if ended {
			return false
		}
	}
}

// buffer may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// change lists what is in one list only.
func change(before, after []string) (changes []string) {
	for _, f := range before {
		if !slices.Contains(after, f) {
			changes = append(changes, "- "+f)
		}
	}
	for _, f := range after {
		if !slices.Contains(before, f) {
			changes = append(changes, "+ "+f)
		}
	}
	return changes
}

// list names what a directory holds.
func list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		names = append(names, fmt.Sprintf("%v %s", info.Mode(), e.Name()))
	}
	return names, nil
}
