package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.etcd.io/etcd/client/pkg/v3/srv"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/grpclog"

	"quorate.dev/quorate/cli/render"
	"quorate.dev/quorate/internal/clock"
)

// Session is one verb being run: its streams, the global flags and the clients it opened.
type Session struct {
	Process *Process
	Globals *Globals
	// Flags are all flags of the command, for verbs that ask whether one was given.
	Flags *pflag.FlagSet
	// Context ends when the verb shall stop. A verb that handles interrupts itself (Verb.Interrupts) watches Process.Context.
	Context context.Context

	tool    *Tool
	cmd     *cobra.Command
	spec    *clientv3.ConfigSpec
	printer *render.Printer
	clients []*clientv3.Client
	stop    context.CancelCauseFunc // ends Context
}

// Own says whether the verb runs under our own name, where it may be more helpful than etcdctl.
func (s *Session) Own() bool { return s.tool.own }

// Clock is the session's time.
func (s *Session) Clock() clock.Clock { return s.tool.clock }

// Spec is what flags and environment say about connections. The first call reads the environment, looks endpoints up in DNS,
// asks for a missing password and sets the output format; verbs check their arguments before.
func (s *Session) Spec() (*clientv3.ConfigSpec, error) {
	if s.spec != nil {
		return s.spec.Clone(), nil
	}
	fs := s.cmd.InheritedFlags()
	if s.cmd.Name() == "watch" {
		for _, name := range []string{"watch-key", "watch-range-end"} {
			fs.AddFlag(&pflag.Flag{Name: name, Value: discarded{}})
		}
	}
	load := environment
	if s.tool.own {
		load = ownEnvironment
	}
	if err := load(s.Process, fs); err != nil {
		return nil, err
	}
	s.debug(fs)
	endpoints, err := s.endpoints()
	if err != nil {
		return nil, Fail(ExitError, err)
	}
	spec := s.dialSpec(endpoints)
	if spec.Secure, err = s.secure(); err != nil {
		return nil, err
	}
	if spec.Auth, err = s.auth(); err != nil {
		return nil, err
	}
	p, ok := render.New(s.Globals.Output, s.Globals.Hex, s.Process.Stdout, s.Process.Stderr)
	if !ok {
		return nil, Failf(ExitBadFeature, "unsupported output format")
	}
	if s.tool.own && !s.Flags.Changed("write-out") {
		p.Pretty, p.Color = OnTerminal(s.Process.Stdout), s.Process.Colored(s.Process.Stdout)
	}
	s.printer, s.spec = p, spec
	return spec.Clone(), nil
}

func (s *Session) dialSpec(endpoints []string) *clientv3.ConfigSpec {
	d := s.Globals.Dial
	return &clientv3.ConfigSpec{
		Endpoints: endpoints, DialTimeout: d.Timeout, KeepAliveTime: d.KeepAliveTime, KeepAliveTimeout: d.KeepAliveTimeout,
		MaxCallSendMsgSize: d.MaxSend, MaxCallRecvMsgSize: d.MaxRecv,
	}
}

// debug shows the flags and lets gRPC speak, with --debug. Without it gRPC only says what is an error, as it does by default,
// also when ETCD_CLIENT_DEBUG made the client library change that.
func (s *Session) debug(fs *pflag.FlagSet) {
	w := s.Process.Stderr
	if !s.Globals.Debug {
		if s.Process.Getenv(clientDebug) != "" {
			grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, w))
		}
		return
	}
	grpclog.SetLoggerV2(grpclog.NewLoggerV2WithVerbosity(w, w, w, 4))
	fs.VisitAll(func(f *pflag.Flag) {
		fmt.Fprintf(w, "%s=%v\n", envName(etcdctlPrefix, f.Name), f.Value)
	})
}

// endpoints are those that DNS names, or the flag's.
func (s *Session) endpoints() ([]string, error) {
	if d := s.Globals.Discovery; d.Domain != "" {
		found, err := srv.GetClient("etcd-client", d.Domain, d.Service)
		if err != nil {
			return nil, err
		}
		var usable []string
		for _, ep := range found.Endpoints {
			if !d.Insecure && strings.HasPrefix(ep, "http://") {
				fmt.Fprintf(s.Process.Stderr, "ignoring discovered insecure endpoint %q\n", ep)
				continue
			}
			usable = append(usable, ep)
		}
		if len(usable) > 0 {
			return usable, nil
		}
	}
	for i, ep := range s.Globals.Endpoints {
		s.Globals.Endpoints[i] = strings.TrimSpace(ep)
	}
	return s.Globals.Endpoints, nil
}

// secure refuses empty file names, which are mostly an unset variable of a script.
func (s *Session) secure() (*clientv3.SecureConfig, error) {
	t := s.Globals.TLS
	for _, f := range []struct{ name, value string }{{"cert", t.Cert}, {"key", t.Key}, {"cacert", t.CACert}} {
		if f.value == "" && s.Flags.Changed(f.name) {
			return nil, Failf(ExitBadArgs, "empty string is passed to --%s option", f.name)
		}
	}
	name := s.Globals.Discovery.Domain
	if s.Globals.Discovery.Insecure {
		name = ""
	}
	return &clientv3.SecureConfig{
		Cert: t.Cert, Key: t.Key, Cacert: t.CACert, ServerName: name, InsecureTransport: t.Insecure, InsecureSkipVerify: t.SkipVerify,
	}, nil
}

func (s *Session) auth() (*clientv3.AuthConfig, error) {
	a := s.Globals.Auth
	if a.User == "" && a.Token == "" {
		return nil, nil
	}
	if a.Token != "" {
		return &clientv3.AuthConfig{Token: a.Token}, nil
	}
	return s.credentials(a.User, a.Password, "Password: ")
}

// credentials splits name:password, and asks for the password when there is none.
func (s *Session) credentials(user, password, prompt string) (*clientv3.AuthConfig, error) {
	if password != "" {
		return &clientv3.AuthConfig{Username: user, Password: password}, nil
	}
	if name, pw, ok := strings.Cut(user, ":"); ok {
		return &clientv3.AuthConfig{Username: name, Password: pw}, nil
	}
	pw, err := s.askPassword(prompt)
	if err != nil {
		return nil, Fail(ExitError, err)
	}
	return &clientv3.AuthConfig{Username: user, Password: pw}, nil
}

// Client opens a client to the endpoints that flags and environment name. The session closes it.
func (s *Session) Client() (*clientv3.Client, error) {
	spec, err := s.Spec()
	if err != nil {
		return nil, err
	}
	c, err := s.Dial(spec)
	if err == nil && s.tool.own && len(s.clients) == 1 {
		go s.giveUp(c, spec.Endpoints)
	}
	return c, err
}

// ClientTo opens a client to one endpoint.
func (s *Session) ClientTo(endpoint string) (*clientv3.Client, error) {
	spec, err := s.Spec()
	if err != nil {
		return nil, err
	}
	spec.Endpoints = []string{endpoint}
	return s.Dial(spec)
}

// Dial opens a client; a mistake in spec is a bad argument, a failure to authenticate a bad connection.
func (s *Session) Dial(spec *clientv3.ConfigSpec) (*clientv3.Client, error) {
	cfg, err := s.config(spec)
	if err != nil {
		return nil, err
	}
	cfg.Logger = newLogger(s.clientLog(), clientLevel(s.Process)).Named("etcd-client")
	c, err := clientv3.New(*cfg)
	if err != nil {
		return nil, Fail(ExitBadConnection, err)
	}
	s.clients = append(s.clients, c)
	return c, nil
}

func (s *Session) config(spec *clientv3.ConfigSpec) (*clientv3.Config, error) {
	cfg, err := clientv3.NewClientConfig(spec, newLogger(s.Process.Stderr, zap.InfoLevel))
	if err != nil {
		return nil, Fail(ExitBadArgs, err)
	}
	cfg.Context = s.Context
	return cfg, nil
}

// clientLog is where the client library's remarks go. Under our own name they would only repeat, in JSON, the error that is
// shown anyway, so they are for those who ask (--debug, ETCD_CLIENT_DEBUG).
func (s *Session) clientLog() io.Writer {
	if s.tool.own && !s.Globals.Debug && s.Process.Getenv(clientDebug) == "" {
		return io.Discard
	}
	return whileRunning{s}
}

// whileRunning passes on what the client library says as long as the session wants something from it. That its connections
// end when nobody needs them any more is nothing to remark.
type whileRunning struct{ s *Session }

func (w whileRunning) Write(b []byte) (int, error) {
	if w.s.Context.Err() != nil {
		return len(b), nil
	}
	return w.s.Process.Stderr.Write(b)
}

// Timeout is the context of one request: it ends after --command-timeout.
func (s *Session) Timeout() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.Context, s.Globals.Dial.CommandTimeout)
}

// Print shows a result in the format that was asked for.
func (s *Session) Print(r render.Result) error {
	err := s.printer.Print(r)
	var unsupported *render.UnsupportedError
	if errors.As(err, &unsupported) {
		return Fail(ExitBadFeature, err)
	}
	return err
}

// Printf writes to stdout.
func (s *Session) Printf(format string, args ...any) { fmt.Fprintf(s.Process.Stdout, format, args...) }

// Warnf writes to stderr.
func (s *Session) Warnf(format string, args ...any) { fmt.Fprintf(s.Process.Stderr, format, args...) }

// Simple says whether results are printed in the simple format.
func (s *Session) Simple() bool { return s.printer.Format == render.Simple }

// stdin is read until the session is asked to stop.
func (s *Session) stdin() io.Reader { return patientReader{s.Process.Context, s.Process.Stdin} }

// close gives the clients back. With --debug gRPC would remark every step of it, which is nothing to debug.
func (s *Session) close() {
	s.stop(nil) // see whileRunning
	if s.Globals.Debug {
		return
	}
	for _, c := range s.clients {
		c.Close()
	}
}

// argument returns the argument at i, or everything on stdin; an empty input is none.
func (s *Session) argument(args []string, i int) (string, bool) {
	if i < len(args) {
		return args[i], true
	}
	text, err := io.ReadAll(s.stdin())
	return string(text), err == nil && len(text) > 0
}

// environ is the environment of a command that the verb runs.
func (s *Session) environ(extra ...string) []string {
	return append(append([]string(nil), s.Process.Env...), extra...)
}

// readLine reads one line of stdin byte by byte, so that what follows is left for whoever reads next.
func readLine(r io.Reader) (string, error) {
	var line bytes.Buffer
	b := make([]byte, 1)
	for {
		n, err := r.Read(b)
		if n == 0 || b[0] == '\n' {
			if err != nil && !errors.Is(err, io.EOF) {
				return "", err
			}
			return strings.TrimSuffix(line.String(), "\r"), nil
		}
		line.WriteByte(b[0])
	}
}

// stdinFile is the terminal that the person types on, nil when there is none.
func (s *Session) stdinFile() *os.File {
	if f, ok := s.Process.Stdin.(*os.File); ok && OnTerminal(f) {
		return f
	}
	return nil
}
