package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/certs"
	"quorate.dev/quorate/config"
	"quorate.dev/quorate/grpcapi"
	"quorate.dev/quorate/httpapi"
	"quorate.dev/quorate/rpc"
)

// drainTime is how long a stop waits for calls under way. Streams of clients that stay are cut then.
const drainTime = time.Second

// headerTimeout bounds the time to send the headers of a request, so that silent connections end.
const headerTimeout = 10 * time.Second

// methods are the gRPC methods that grpcapi serves, for the metrics that exist from the start.
func methods() []httpapi.Method {
	var out []httpapi.Method
	add := func(kind, service string, names ...string) {
		for _, name := range names {
			out = append(out, httpapi.Method{Name: "/" + service + "/" + name, Type: kind})
		}
	}
	add(httpapi.Unary, "etcdserverpb.KV", "Range", "Put", "DeleteRange", "Txn", "Compact")
	add(httpapi.ServerStream, "etcdserverpb.KV", "RangeStream")
	add(httpapi.BidiStream, "etcdserverpb.Watch", "Watch")
	add(httpapi.Unary, "etcdserverpb.Lease", "LeaseGrant", "LeaseRevoke", "LeaseTimeToLive", "LeaseLeases")
	add(httpapi.BidiStream, "etcdserverpb.Lease", "LeaseKeepAlive")
	add(httpapi.Unary, "etcdserverpb.Cluster", "MemberAdd", "MemberRemove", "MemberUpdate", "MemberList", "MemberPromote")
	add(httpapi.Unary, "etcdserverpb.Maintenance", "Alarm", "Status", "Defragment", "Hash", "HashKV", "MoveLeader", "Downgrade")
	add(httpapi.ServerStream, "etcdserverpb.Maintenance", "Snapshot")
	add(httpapi.Unary, "etcdserverpb.Auth", "AuthEnable", "AuthDisable", "AuthStatus", "Authenticate", "UserAdd", "UserGet", "UserList",
		"UserDelete", "UserChangePassword", "UserGrantRole", "UserRevokeRole", "RoleAdd", "RoleGet", "RoleList", "RoleDelete",
		"RoleGrantPermission", "RoleRevokePermission")
	add(httpapi.Unary, "v3lockpb.Lock", "Lock", "Unlock")
	add(httpapi.Unary, "v3electionpb.Election", "Campaign", "Proclaim", "Leader", "Resign")
	add(httpapi.ServerStream, "v3electionpb.Election", "Observe")
	add(httpapi.Unary, "grpc.health.v1.Health", "Check", "List")
	add(httpapi.ServerStream, "grpc.health.v1.Health", "Watch")
	add(httpapi.BidiStream, "grpc.reflection.v1.ServerReflection", "ServerReflectionInfo")
	add(httpapi.BidiStream, "grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo")
	return out
}

// servePeers opens the addresses that answer before the member is ready: those of peers and of monitoring.
func (s *Server) servePeers(context.Context) error {
	if err := s.makeGateway(); err != nil {
		return err
	}
	s.front = s.newFront()
	s.logger.Info("now serving peer/client/metrics", zap.Stringer("local-member-id", s.core.identity.member),
		zap.Strings("initial-advertise-peer-urls", config.URLStrings(s.cfg.Cluster.AdvertisePeer)), zap.Strings("advertise-client-urls", config.URLStrings(s.cfg.Cluster.AdvertiseClient)))
	s.serveAll(s.addrs.peer, peerEndpoint, s.peerHandler())
	s.serveAll(s.addrs.metrics, metricsEndpoint, s.front.Monitor())
	return nil
}

// The lines of every client address without TLS and with it, for which tools wait.
const (
	insecurely = "serving client traffic insecurely; this is strongly discouraged!"
	securely   = "serving client traffic securely"
)

// servingLine is what is logged of an address.
func servingLine(kind string, secure bool) string {
	switch {
	case kind == peerEndpoint:
		return "serving peer traffic"
	case kind == metricsEndpoint:
		return "serving metrics"
	case secure:
		return securely
	}
	return insecurely
}

// serveClients opens the addresses of clients. Connections that came earlier have waited in the sockets.
func (s *Server) serveClients(context.Context) error {
	s.logger.Info("ready to serve client requests", zap.String("name", s.cfg.Member.Name), zap.Stringer("local-member-id", s.core.identity.member))
	s.serveAll(s.addrs.clientHTTP, clientEndpoint, s.front.Client())
	return s.serveRPC()
}

func (s *Server) serveAll(addrs []*endpoint, kind string, h http.Handler) {
	for _, e := range addrs {
		s.serveHTTP(e, kind, h)
		s.logger.Info(servingLine(kind, config.Secure(e.url)), zap.String("traffic", "http"), zap.String("address", e.Addr().String()), zap.Bool("tls", config.Secure(e.url)))
	}
}

func (s *Server) serveHTTP(e *endpoint, kind string, h http.Handler) {
	protocols := []string{"h2", "http/1.1"}
	if kind == peerEndpoint {
		protocols = protocols[1:] // members talk over connections of their own
	}
	l := s.secured(e, kind, protocols...)
	if !config.Secure(e.url) {
		l = certs.Plain(l, s.rejected(kind))
	}
	web := &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, ErrorLog: zap.NewStdLog(s.logger.Named("http"))}
	s.onStop("HTTP server "+e.url.String(), func(context.Context) error { return web.Close() })
	go func() {
		if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.fail(fmt.Errorf("%s accepts no more connections: %w", e.url.String(), err))
		}
	}()
}

// serveRPC serves gRPC, and HTTP on the same addresses unless it has its own.
func (s *Server) serveRPC() error {
	handler, traffic := s.front.Client(), "grpc+http"
	if len(s.addrs.clientHTTP) > 0 {
		handler, traffic = nil, "grpc"
	}
	set := s.rpcConfig(handler)
	server, err := rpc.New(set)
	if err != nil {
		return err
	}
	s.core.calls.Store(server)
	s.core.clients.keeper.Certificates = set.CertificateNames
	services := grpcapi.Register(server, s.backend())
	s.v2.services.Store(services)
	s.logger.Info("grpc service status changed", zap.String("service", ""), zap.String("status", "SERVING"))
	s.onStop("services", func(context.Context) error { services.Close(); return nil })
	s.onStop("gRPC server", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, drainTime)
		defer cancel()
		if err := server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
	if s.gateway != nil {
		go func() { _ = server.Serve(s.gateway.Listener()) }() // it ends when one of both is closed, and only then
	}
	for _, e := range s.addrs.client {
		l := s.secured(e, clientEndpoint, "h2", "http/1.1")
		go func() {
			if err := server.Serve(l); err != nil {
				s.fail(fmt.Errorf("%s accepts no more connections: %w", e.url.String(), err))
			}
		}()
		s.logger.Info(servingLine(clientEndpoint, config.Secure(e.url)), zap.String("traffic", traffic), zap.String("address", e.Addr().String()))
	}
	return nil
}

func (s *Server) rpcConfig(handler http.Handler) rpc.Config {
	set, logger := s.cfg.RPC, s.logger.Named("rpc").Sugar()
	c := rpc.Config{
		HTTP: handler, MessageBytesMax: s.messageBytes(), StreamsMax: uint32(min(set.MaxStreams, math.MaxUint32)), KeepaliveMinTime: set.KeepaliveMinTime,
		CertificateNames: s.cfg.TLS.Client.Auth,
		Misdirected: func(remote net.Addr) {
			s.rejected(clientEndpoint)(certs.Rejection{Remote: remote, Err: certs.ErrPlain})
		},
		Observer: s.newSlowCalls(s.core.metrics.RPC, set.WarnUnary), Log: func(msg string, kv ...any) { logger.Infow(msg, kv...) },
	}
	if set.KeepaliveInterval > 0 && set.KeepaliveTimeout > 0 { // as etcd: with only one of them, gRPC's defaults hold
		c.KeepaliveInterval, c.KeepaliveTimeout = set.KeepaliveInterval, set.KeepaliveTimeout
	}
	return c
}

// backend is what the services stand on.
func (s *Server) backend() grpcapi.Backend {
	c := &s.core
	return grpcapi.Backend{
		Keeper: &c.clients.keeper, Verifier: c.clients.verifier,
		Member: c.identity.member, Cluster: c.identity.cluster, Node: nodeDoor{c.host}, Store: storeDoor{c.machine, c.clients, c.engine},
		Leases: &leaseDoor{s: s, slots: make(chan struct{}, leaseCalls)}, Hub: c.hub, Members: s.membership(), Compactions: c.compacts.log, Request: c.metrics.Clients.Request, Audit: s.audit, Desk: c.insights.desk,
		Settings: grpcapi.Settings{
			QuotaBytes: s.shownQuota(), MaxRequestBytes: int(s.cfg.Store.MaxRequestBytes), MaxTxnOps: int(min(s.cfg.Store.MaxTxnOps, math.MaxInt32)),
			LeaseTTLSeconds: s.leaseTTLMin(), Election: time.Duration(s.cfg.ElectionTicks()) * s.cfg.Heartbeat(), StrictReconfig: s.cfg.Cluster.StrictReconfig,
			EtcdVersion: config.EtcdVersion, StorageVersion: config.StorageVersion, Version: config.Version, TempDir: s.dir.temp,
		},
	}
}
