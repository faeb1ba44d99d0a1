package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"quorate.dev/quorate/config"
	"quorate.dev/quorate/node"
	"quorate.dev/quorate/peer"
)

// The exit codes of a server process.
const (
	exitOK      = 0
	exitFailure = 1 // it could not start, or it had to stop
	exitUsage   = 2 // the command line could not be understood
)

// programEtcd is the name under which the program prints what etcd prints.
const programEtcd = "etcd"

// removedLine is logged by a member that was removed, before it ends.
const removedLine = "this member was removed from the cluster and stops; its data directory is of no use any more"

// stopTimeout bounds a clean stop; what is not answered by then is refused.
const stopTimeout = 15 * time.Second

// Process is what a server process gets from the operating system.
type Process struct {
	Program string   // base name of argv[0]
	Args    []string // after the program and the verb
	Env     []string
	Stdout  *os.File
	Stderr  *os.File
	Signals <-chan os.Signal // each asks to stop; the second one at once
}

// Run is the whole life of a server process. It returns the exit code.
func Run(p Process) int {
	loaded, err := config.Load(config.Source{Program: p.Program, Args: p.Args, Env: p.Env, ReadFile: os.ReadFile, DefaultHost: defaultHost})
	var usage *config.UsageError
	switch {
	case errors.As(err, &usage):
		_, _ = io.WriteString(p.Stderr, usage.Text)
		return exitUsage
	case loaded.Action == config.ShowHelp:
		_, _ = io.WriteString(p.Stderr, config.Usage(p.Program))
		_, _ = io.WriteString(p.Stdout, "\n"+config.Help())
		return exitOK
	case loaded.Action == config.ShowVersion:
		_, _ = io.WriteString(p.Stdout, VersionText(p.Program))
		return exitOK
	}
	logger := startLogger()
	if err == nil {
		var closer io.Closer
		if logger, closer, err = Logger(loaded.Config); err != nil {
			logger = startLogger()
		} else {
			defer func() { _ = closer.Close() }()
		}
	}
	defer func() { _ = logger.Sync() }()
	logNotes(logger, loaded.Notes)
	logger.Info("Running: ", zap.Strings("args", config.MaskArgs(append([]string{p.Program}, p.Args...))))
	if err != nil {
		p.complain(logger, loaded.Config, "failed to verify flags", err)
		return exitFailure
	}
	return p.serve(loaded.Config, logger)
}

// serve runs the member, and again as often as a snapshot from another member takes the place of its state.
func (p *Process) serve(c *config.Config, logger *zap.Logger) int {
	for {
		code, again := p.serveOnce(c, logger)
		if !again {
			return code
		}
		c.Cluster.ForceNew = false // once: there may be other members by now
	}
}

// serveOnce runs the member until it ends, and says whether it is to be started again.
func (p *Process) serveOnce(c *config.Config, logger *zap.Logger) (code int, again bool) {
	hurryCollector()
	s, sig, err := p.start(c, logger)
	switch {
	case sig != nil:
		logger.Info("received signal; the start was given up", zap.Stringer("signal", sig))
		return exitOK, false
	case errors.Is(err, node.ErrInstall), errors.Is(err, errFenced):
		return 0, true
	case err != nil && errors.Is(err, peer.ErrRemoved):
		logger.Warn(removedLine, zap.Error(err), zap.String("data-dir", c.Member.DataDir))
		return exitOK, false
	case err != nil:
		p.complain(logger, c, "failed to start", err)
		return exitFailure, false
	}
	paceCollector()
	releaseProgram()
	logger.Info("notifying init daemon")
	if told, err := notifyInit("READY=1"); err != nil {
		logger.Error("failed to notify systemd for readiness", zap.Error(err))
	} else if told {
		logger.Info("successfully notified init daemon")
	}
	s.guardLife()
	if p.Program != programEtcd && (len(p.Args) == 0 || isTerminal(p.Stdout)) {
		_, _ = io.WriteString(p.Stdout, s.banner())
	}
	select {
	case <-s.Done():
		switch err := s.Err(); {
		case errors.Is(err, node.ErrInstall), errors.Is(err, errFenced):
			return p.stop(s, logger), true
		case errors.Is(err, peer.ErrRemoved):
			logger.Warn(removedLine, zap.Error(err), zap.String("data-dir", s.dir.path))
			return p.stop(s, logger), false
		default:
			p.complain(logger, c, "the server had to stop", err)
			p.stop(s, logger)
			return exitFailure, false
		}
	case sig := <-p.Signals:
		logger.Info("received signal; shutting down", zap.Stringer("signal", sig))
	}
	if _, err := notifyInit("STOPPING=1"); err != nil {
		logger.Warn("failed to notify systemd of the stop", zap.Error(err))
	}
	return p.stop(s, logger), false
}

// start starts the member, which takes as long as its cluster has no quorum, unless a signal comes first.
func (p *Process) start(c *config.Config, logger *zap.Logger) (*Server, os.Signal, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	type started struct {
		s   *Server
		err error
	}
	done := make(chan started, 1)
	go func() {
		s, err := Start(ctx, c, logger)
		done <- started{s, err}
	}()
	select {
	case r := <-done:
		return r.s, nil, r.err
	case sig := <-p.Signals:
		cancel()
		if r := <-done; r.err == nil {
			p.stop(r.s, logger)
		}
		return nil, sig, nil
	}
}

// stop stops cleanly unless another signal comes first, or the stop hangs, as it may in a write to a dying disk. What was
// acknowledged is safe either way.
func (p *Process) stop(s *Server, logger *zap.Logger) int {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(ctx) }()
	select {
	case err := <-stopped:
		if err != nil {
			logger.Error("the server did not stop cleanly", zap.Error(err))
			return exitFailure
		}
		return exitOK
	case sig := <-p.Signals:
		logger.Warn("received a second signal; exiting at once", zap.Stringer("signal", sig))
	case <-time.After(2 * stopTimeout):
		logger.Error("the stop hangs; exiting without it", zap.Duration("after", 2*stopTimeout))
	}
	return exitFailure
}

// complain logs why the process ends. Someone who sits at a terminal, or whose log goes elsewhere, also gets one plain line.
func (p *Process) complain(logger *zap.Logger, c *config.Config, message string, err error) {
	var conflict *config.ConflictError
	fields := []zap.Field{zap.Error(err)}
	if errors.As(err, &conflict) {
		message, fields = conflict.Error(), []zap.Field{zap.String("environment-variable", conflict.Variable)}
		err = fmt.Errorf("%s is given both as a flag and as the environment variable %s: unset one of them", flagOf(conflict.Variable), conflict.Variable)
	}
	logger.WithOptions(zap.WithFatalHook(goOn{}), zap.AddStacktrace(zapcore.FatalLevel+1)).Fatal(message, fields...)
	toStderr := c == nil || slices.ContainsFunc(c.Log.Outputs, func(out string) bool { return out == config.LogDefault || out == config.LogStderr })
	if !toStderr || isTerminal(p.Stderr) {
		_, _ = fmt.Fprintf(p.Stderr, "%s: %s: %v\n", p.Program, message, err)
	}
}

// goOn lets a line of level fatal be logged while Run decides about the exit.
type goOn struct{}

// OnWrite implements zapcore.CheckWriteHook.
func (goOn) OnWrite(*zapcore.CheckedEntry, []zapcore.Field) {}

func flagOf(variable string) string {
	return "--" + strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(variable, "ETCD_"), "_", "-"))
}

func logNotes(logger *zap.Logger, notes []config.Note) {
	for _, n := range notes {
		fields := make([]zap.Field, len(n.Fields))
		for i, f := range n.Fields {
			fields[i] = zap.String(f[0], f[1])
		}
		level := zapcore.InfoLevel
		if n.Warn {
			level = zapcore.WarnLevel
		}
		logger.Log(level, n.Message, fields...)
	}
}

// VersionText is what --version prints: etcd's four lines, after our own name unless the program is called etcd.
func VersionText(program string) string {
	text := fmt.Sprintf("etcd Version: %s\nGit SHA: %s\nGo Version: %s\nGo OS/Arch: %s/%s\n",
		config.EtcdVersion, buildRevision(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if program == programEtcd {
		return text
	}
	return fmt.Sprintf("quorate Version: %s, compatible with\n%s", config.Version, text)
}

// buildRevision is the commit this program was built from, as far as the build knows it.
func buildRevision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(len(s.Value), 9)]
		}
	}
	return "unknown"
}

// defaultHost is this machine's address on the way to other networks. The address asked for is reserved for documents;
// no packet is sent.
func defaultHost() (string, error) {
	conn, err := net.Dial("udp", "192.0.2.1:9")
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	return host, err
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}

// banner tells a person at a terminal what to do next.
func (s *Server) banner() string {
	urls := s.ClientURLs()
	endpoint := strings.TrimPrefix(urls[0], "http://")
	return fmt.Sprintf(`
Quorate %s is ready.

  clients  %s
  data     %s
  try      etcdctl --endpoints=%s put greeting hello

Ctrl-C stops it; the data stays.

`, config.Version, strings.Join(urls, ", "), s.dir.path, endpoint)
}
