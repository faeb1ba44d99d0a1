// Package embed runs a Quorate server inside a Go program or test, like a library.
//
// It is not a second way to configure a server: settings have the names and forms of the command line (docs/config.md). It
// is the only package of this module whose API is kept stable.
//
// How data passes: Start turns Config into a checked configuration, starts the server and returns when it is ready for
// clients; programs then connect to ClientURLs with any etcd v3 client.
//
// Invariants: without addresses a server listens on ports of the loopback interface that were free, so that any number of
// them can run side by side; Close makes everything acknowledged durable and may be called more than once.
package embed

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/config"
	"quorate.dev/quorate/server"
)

// anyPort listens on a free port of the loopback interface.
const anyPort = "http://127.0.0.1:0"

// closeTimeout bounds a Close; what clients still wait for by then is refused.
const closeTimeout = 15 * time.Second

// Config says what server to start. Only Dir is required.
type Config struct {
	Dir        string            // directory of the data; made when it does not exist
	Name       string            // of the member; "" is "default"
	ClientURLs []string          // where clients connect; empty is a free port of 127.0.0.1
	PeerURLs   []string          // where other members connect; empty is a free port of 127.0.0.1
	Settings   map[string]string // any other setting, flag name to value as on a command line
	Logger     *zap.Logger       // nil logs nothing
}

// Server is a running server.
type Server struct{ server *server.Server }

// Start starts a server and returns when it is ready for clients. When ctx ends before that, it stops again and returns
// ctx's error. Errors say which setting is wrong, or that another server uses the directory.
func Start(ctx context.Context, c Config) (*Server, error) {
	settings, err := c.resolve()
	if err != nil {
		return nil, fmt.Errorf("embed: %w", err)
	}
	logger := c.Logger
	if logger == nil {
		logger = zap.NewNop()
	}
	s, err := server.Start(ctx, settings, logger)
	if err != nil {
		return nil, fmt.Errorf("embed: %w", err)
	}
	return &Server{server: s}, nil
}

func (c *Config) resolve() (*config.Config, error) {
	if c.Dir == "" {
		return nil, errors.New("Config.Dir is empty: name a directory for the data")
	}
	settings := config.New()
	values := map[string]string{
		"data-dir":                    c.Dir,
		"listen-client-urls":          joined(c.ClientURLs),
		"advertise-client-urls":       joined(c.ClientURLs),
		"listen-peer-urls":            joined(c.PeerURLs),
		"initial-advertise-peer-urls": joined(c.PeerURLs),
	}
	if c.Name != "" {
		values["name"] = c.Name
	}
	for name, value := range c.Settings {
		values[name] = value
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if err := settings.Set(name, values[name]); err != nil {
			return nil, err
		}
	}
	return settings, settings.Finish()
}

func joined(urls []string) string {
	if len(urls) == 0 {
		return anyPort
	}
	return strings.Join(urls, ",")
}

// ClientURLs are the addresses that clients connect to, with the real ports.
func (s *Server) ClientURLs() []string { return s.server.ClientURLs() }

// Done is closed when the server has to stop by itself, which only a failing disk makes it do; Err then says why.
func (s *Server) Done() <-chan struct{} { return s.server.Done() }

// Err is why the server stopped by itself, nil before that.
func (s *Server) Err() error { return s.server.Err() }

// Close stops the server: no new requests, answers for those under way, everything durable.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return s.server.Stop(ctx)
}
