// Package server makes a running member out of the other packages: it builds them, connects them, starts them in order and
// stops them in reverse.
//
// It decides nothing about data. What happens here is the life of a process: the data directory and its lock, the log file
// of the operator, addresses, bootstrap of a new cluster of one, announcing this member to its cluster, signals, and the
// exit when the disk cannot be trusted any more.
//
// How data passes: Start walks a list of steps. Each builds one part from those before it and, when it succeeds, leaves a
// way to undo itself on a stack; a failed start and Stop both unwind that stack. While the member runs, package node calls
// the machine adapter here, which forwards the effects of each applied batch to the watch hub, the leader's duties and the
// metrics.
//
// Invariants: nothing in a data directory is touched without its lock; client addresses are bound before anything starts
// and answer only when the member is ready; what was acknowledged is on disk whichever way the process ends; after a disk
// error nothing is acknowledged and Done is closed.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/audit"
	"quorate.dev/quorate/config"
	"quorate.dev/quorate/discovery"
	"quorate.dev/quorate/gateway"
	"quorate.dev/quorate/httpapi"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/leader"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/node"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wal"
	"quorate.dev/quorate/watch"
)

// Server is one running member.
type Server struct {
	cfg    *config.Config
	logger *zap.Logger
	dir    *dataDir
	addrs  listeners
	secure security
	core   core
	pages
	audit *audit.Log         // nil for none
	dns   discovery.Resolver // asked by a member without data

	undo []step // of what is running, in the order of starting

	ending   chan struct{} // closed by the first failure
	failOnce sync.Once
	err      error // valid once ending is closed
	stopOnce sync.Once
	stopErr  error
}

// pages are what answers HTTP that is not gRPC.
type pages struct {
	front   *httpapi.Front
	past    uiPast           // for the web page
	gateway *gateway.Gateway // nil for none
	v2      v2Parts
}

// core is the member behind the addresses.
type core struct {
	identity identity
	engine   *storage.Engine
	log      *wal.Log
	machine  *state.Machine
	host     *node.Host
	peers    *peers
	hub      *watch.Hub
	clients  *identities
	duties   *leader.Duty
	past     history // emptied once the host has it
	compacts *compactions
	insights insights
	metrics  *httpapi.Metrics
	counts   *counts
	calls    atomic.Pointer[rpc.Server] // nil until clients are served
}

// identity names this member and its cluster for all time.
type identity struct {
	member  ids.MemberID
	cluster ids.ClusterID
}

// step undoes one part of the start.
type step struct {
	name string
	stop func(context.Context) error
}

// Start starts a member with a validated configuration and returns when it is ready for clients. When it fails, or ctx
// ends first, everything is undone and the error says which part failed and why. c is not kept changed: addresses with
// port 0 get their real ports in a copy.
func Start(ctx context.Context, c *config.Config, logger *zap.Logger) (*Server, error) {
	return start(ctx, c, logger, net.DefaultResolver)
}

func start(ctx context.Context, c *config.Config, logger *zap.Logger, dns discovery.Resolver) (*Server, error) {
	own := *c
	s := &Server{cfg: &own, logger: logger, dns: dns, ending: make(chan struct{})}
	for _, start := range []func(context.Context) error{
		s.openDirectory, s.openAudit, s.loadCertificates, s.bindAddresses, s.heal, s.finishInstall, s.openStore, s.openLog, s.startMember, s.refuseRemoved, s.servePeers, s.checkAtStart, s.announce, s.serveClients, s.promoteLearners, s.finishHealing, s.startChecks, s.recordPast, s.stepDownAtStop,
	} {
		if err := start(ctx); err != nil {
			stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
			defer cancel()
			return nil, errors.Join(err, s.unwind(stopCtx))
		}
	}
	return s, nil
}

func (s *Server) onStop(name string, stop func(context.Context) error) {
	s.undo = append(s.undo, step{name, stop})
}

// unwind stops everything that runs, the last started first, and reports every failure.
func (s *Server) unwind(ctx context.Context) error {
	var failures []error
	for len(s.undo) > 0 {
		last := s.undo[len(s.undo)-1]
		s.undo = s.undo[:len(s.undo)-1]
		if err := last.stop(ctx); err != nil {
			failures = append(failures, fmt.Errorf("stopping the %s: %w", last.name, err))
		}
	}
	return errors.Join(failures...)
}

// Stop stops cleanly: no new requests, answers for those under way, everything durable. When ctx ends first, what is still
// waiting is refused. It may be called more than once; every call returns the result of the first.
func (s *Server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() {
		s.logger.Info("closing etcd server", zap.String("name", s.cfg.Member.Name), zap.String("data-dir", s.dir.path))
		s.stopErr = s.unwind(ctx)
		s.logger.Info("closed etcd server", zap.String("name", s.cfg.Member.Name), zap.String("data-dir", s.dir.path))
	})
	return s.stopErr
}

// Done is closed when the member has to stop by itself: its disk failed, or an address stopped accepting.
func (s *Server) Done() <-chan struct{} { return s.ending }

// Err is why Done was closed, nil before.
func (s *Server) Err() error {
	select {
	case <-s.ending:
		return s.err
	default:
		return nil
	}
}

// fail ends the member's service; the first reason counts.
func (s *Server) fail(err error) {
	s.failOnce.Do(func() {
		s.err = err
		close(s.ending)
	})
}

// ClientURLs are the addresses that clients connect to, with their real ports.
func (s *Server) ClientURLs() []string { return urlsOf(s.addrs.client) }

func (s *Server) openDirectory(context.Context) (err error) {
	if s.dir, err = openDataDir(s.cfg.Member, s.logger); err != nil {
		return err
	}
	s.onStop("data directory", func(context.Context) error { return s.dir.Close() })
	return nil
}

func (s *Server) bindAddresses(context.Context) (err error) {
	s.logger.Info("configuring peer listeners", zap.Strings("listen-peer-urls", config.URLStrings(s.cfg.Listen.Peer)))
	s.logger.Info("configuring client listeners", zap.Strings("listen-client-urls", config.URLStrings(s.cfg.Listen.Client)))
	if s.addrs, err = listenAll(s.cfg.Listen); err != nil {
		return err
	}
	s.onStop("addresses", func(context.Context) error { s.addrs.Close(); return nil })
	s.cfg.Rebind(boundURLs(s.addrs.peer), boundURLs(s.addrs.client))
	return nil
}

// startLine says who starts with what, the first thing to read when something is wrong.
func (s *Server) startLine() {
	bytes, enforced := s.cfg.Quota()
	s.logger.Info("starting an etcd server",
		zap.String("etcd-version", config.EtcdVersion), zap.String("quorate-version", config.Version), zap.String("git-sha", buildRevision()),
		zap.String("go-version", runtime.Version()), zap.String("go-os", runtime.GOOS), zap.String("go-arch", runtime.GOARCH),
		zap.Int("max-cpu-set", runtime.GOMAXPROCS(0)), zap.String("name", s.cfg.Member.Name), zap.String("data-dir", s.dir.path), zap.String("wal-dir", s.dir.log),
		zap.Duration("heartbeat-interval", s.cfg.Heartbeat()), zap.String("election-timeout", (time.Duration(s.cfg.ElectionTicks())*s.cfg.Heartbeat()).String()),
		zap.Strings("listen-peer-urls", urlsOf(s.addrs.peer)), zap.Strings("listen-client-urls", urlsOf(s.addrs.client)),
		zap.Strings("listen-metrics-urls", urlsOf(s.addrs.metrics)), zap.Strings("advertise-client-urls", config.URLStrings(s.cfg.Cluster.AdvertiseClient)),
		zap.String("initial-cluster", s.cfg.Cluster.Initial), zap.String("initial-cluster-state", s.cfg.Cluster.State),
		zap.Int64("quota-backend-bytes", bytes), zap.Uint64("max-request-bytes", s.cfg.Store.MaxRequestBytes), zap.Bool("pre-vote", s.cfg.Raft.PreVote),
		zap.String("auto-compaction-mode", s.cfg.Store.CompactionMode), zap.String("auto-compaction-retention", s.cfg.Store.CompactionRetention))
	s.warnAboutLimits(bytes, enforced)
}

// requestBytesUsual is where a larger --max-request-bytes is worth a warning, bytes.
const requestBytesUsual = 10 << 20

func (s *Server) warnAboutLimits(quota int64, enforced bool) {
	if quota > limits.QuotaBytesSuggested {
		s.logger.Warn("quota exceeds the maximum that etcd's tools expect", zap.Int64("quota-size-bytes", quota), zap.Int64("quota-maximum-size-bytes", limits.QuotaBytesSuggested))
	}
	if s.cfg.Store.MaxRequestBytes > requestBytesUsual {
		s.logger.Warn("exceeded recommended request limit: large requests hold up all others", zap.Uint64("max-request-bytes", s.cfg.Store.MaxRequestBytes),
			zap.Uint64("recommended-request-bytes", requestBytesUsual))
	}
	if !enforced {
		s.logger.Warn("disabled backend quota", zap.Int64("quota-size-bytes", s.cfg.Store.QuotaBytes))
	}
	if s.cfg.Store.UnsafeNoFsync {
		s.logger.Warn("--unsafe-no-fsync: a power loss will lose acknowledged writes")
	}
}
