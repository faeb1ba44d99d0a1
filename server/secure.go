package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/certs"
	"quorate.dev/quorate/config"
	"quorate.dev/quorate/httpapi"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
)

// security holds the certificates of a member.
type security struct {
	client *certs.Keeper // nil when no address of clients uses TLS
	peer   *certs.Keeper // never nil: other members may use TLS where this one does not listen with it
	quiet  map[string]*complaints
}

// What a listener serves, in the log's words.
const (
	clientEndpoint  = "client"
	peerEndpoint    = "peer"
	metricsEndpoint = "metrics" // with the certificates of clients
)

// loadCertificates loads or makes the certificates, before anything else is done that their absence could make unsafe.
func (s *Server) loadCertificates(context.Context) (err error) {
	t, l := &s.cfg.TLS, &s.cfg.Listen
	s.secure.quiet = map[string]*complaints{clientEndpoint: {}, peerEndpoint: {}, metricsEndpoint: {}}
	protocol, err := certs.ParseProtocol(t.CipherSuites, t.Min, t.Max)
	if err != nil {
		return fmt.Errorf("--cipher-suites, --tls-min-version, --tls-max-version: %w", err)
	}
	client, err := s.certificates(clientEndpoint, &t.Client, slices.Concat(l.Client, l.ClientHTTP, s.cfg.Cluster.AdvertiseClient))
	if err != nil {
		return err
	}
	client.Protocol = protocol
	if slices.ContainsFunc(slices.Concat(l.Client, l.ClientHTTP, l.Metrics), config.Secure) {
		if s.secure.client, err = s.keep(clientEndpoint, client); err != nil {
			return err
		}
	}
	peer, err := s.certificates(peerEndpoint, &t.Peer, slices.Concat(l.Peer, s.cfg.Cluster.AdvertisePeer))
	if err != nil {
		return err
	}
	peer.Protocol = protocol
	if s.cfg.Finding.SRVDomain != "" && peer.CA == "" {
		peer.ServerName = s.cfg.Finding.SRVDomain // of whose members all certificates are then
	}
	if s.secure.peer, err = s.keep(peerEndpoint, peer); err != nil {
		return err
	}
	s.watchCertificates()
	return nil
}

// certificates says which certificates one side uses. It makes one where that is wanted and none is given.
func (s *Server) certificates(kind string, c *config.Security, urls []url.URL) (certs.Settings, error) {
	set := certs.Settings{
		Cert: c.Cert, Key: c.Key, ClientCert: c.OwnCert, ClientKey: c.OwnKey, CA: c.CA, CRL: c.CRL, ClientAuth: c.Auth,
		AllowedCNs: c.AllowedCNs, AllowedHostnames: c.AllowedHostnames,
	}
	if !c.Auto || !set.Empty() {
		return set, nil
	}
	var hosts []string
	for _, u := range urls {
		if h := u.Hostname(); h != "" && !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	made, err := certs.Make(filepath.Join(s.dir.path, "fixtures", kind), hosts, s.cfg.TLS.SelfMadeYears, time.Now())
	if err != nil {
		return set, fmt.Errorf("failed to get %s self-signed certs: %w", kind, err)
	}
	if made.Fresh {
		s.logger.Warn("automatically generate certificates", zap.Time("certificate-validity-bound-not-after", made.NotAfter), zap.String("path", made.Cert))
	}
	set.Cert, set.Key, set.SelfMade = made.Cert, made.Key, true
	return set, nil
}

func (s *Server) keep(kind string, set certs.Settings) (*certs.Keeper, error) {
	k, err := certs.New(set, certs.Options{
		Reloaded: func(files []string) {
			s.logger.Info("loaded changed certificates", zap.String("of", kind), zap.Strings("files", files))
		},
		Failed: func(err error) {
			s.logger.Warn("cannot use changed certificates", zap.String("of", kind), zap.Error(err))
		},
		Rejected: s.rejected(kind),
	})
	if err != nil {
		return nil, fmt.Errorf("TLS of %ss: %w", kind, err)
	}
	if !k.Empty() {
		s.logger.Info("starting with "+kind+" TLS", zap.String("cert", set.Cert), zap.String("key", set.Key), zap.String("client-cert", set.ClientCert),
			zap.String("client-key", set.ClientKey), zap.String("trusted-ca", set.CA), zap.Bool("client-cert-auth", set.ClientAuth), zap.String("crl-file", set.CRL),
			zap.Strings("cipher-suites", s.cfg.TLS.CipherSuites))
	}
	return k, nil
}

// secured is the listener of an address, with TLS when its URL says so.
func (s *Server) secured(e *endpoint, kind string, protocols ...string) net.Listener {
	if !config.Secure(e.url) {
		return e.Listener
	}
	if kind == peerEndpoint {
		return s.secure.peer.Listen(e.Listener, protocols, !s.cfg.TLS.Peer.SkipAddresses)
	}
	// As with etcd, the addresses in certificates of clients only count for monitoring.
	return s.secure.client.Listen(e.Listener, protocols, kind == metricsEndpoint && !s.cfg.TLS.Client.SkipAddresses)
}

// rejected logs connections that came to nothing, but no more than an operator can read.
func (s *Server) rejected(kind string) func(certs.Rejection) {
	quiet := s.secure.quiet[kind]
	return func(r certs.Rejection) {
		if errors.Is(r.Err, io.EOF) { // somebody looked whether the port is open
			s.logger.Debug("connection ended before a TLS handshake", zap.String("endpoint", kind), zap.Stringer("remote-addr", r.Remote))
			return
		}
		ok, dropped := quiet.allow(time.Now())
		if !ok {
			return
		}
		fields := []zap.Field{zap.Stringer("remote-addr", r.Remote), zap.String("server-name", r.ServerName), zap.Error(r.Err)}
		if r.Plain {
			fields = append(fields, zap.String("hint", "the client does not use TLS: it needs https:// in place of http://"))
		}
		if dropped > 0 {
			fields = append(fields, zap.Uint64("like-it-and-not-logged", dropped))
		}
		s.logger.Warn("rejected connection on "+kind+" endpoint", fields...)
	}
}

// complaints bounds how many lines of a kind are logged.
type complaints struct {
	mu      sync.Mutex
	since   time.Time
	lines   int
	dropped uint64
}

// complaintsPerSecond are logged of each kind.
const complaintsPerSecond = 50

// allow reports whether a line may be logged, and how many were not before it.
func (c *complaints) allow(now time.Time) (ok bool, dropped uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.since) >= time.Second {
		c.since, c.lines = now, 0
	}
	if c.lines >= complaintsPerSecond {
		c.dropped++
		return false, 0
	}
	c.lines++
	dropped, c.dropped = c.dropped, 0
	return true, dropped
}

// watchCertificates has the files looked at when nobody connects, and warns of those about to end.
func (s *Server) watchCertificates() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s.onStop("watch over certificates", func(context.Context) error { cancel(); <-done; return nil })
	go func() {
		defer close(done)
		tick := clock.Real().NewTicker(limits.CertWatch)
		defer tick.Stop()
		warned := map[string]time.Time{}
		for {
			for _, e := range s.expiries() {
				now := time.Now()
				if e.Near(now) && now.Sub(warned[e.Side+e.File]) >= certReminder {
					warned[e.Side+e.File] = now
					s.logger.Warn("a certificate is about to end, or has ended: replace its file; no restart is needed", zap.String("of", e.Side), zap.String("what", e.What),
						zap.String("file", e.File), zap.Time("not-after", e.At))
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
}

// certReminder is the time between two warnings of the same certificate.
const certReminder = 24 * time.Hour

// expiry is the end of a certificate, and whose it is.
type expiry struct {
	certs.Expiry
	Side string
}

func (s *Server) expiries() (all []expiry) {
	for _, side := range s.keepers() {
		for _, e := range side.Expiries() {
			all = append(all, expiry{e, side.name})
		}
	}
	return all
}

type namedKeeper struct {
	*certs.Keeper
	name string
}

func (s *Server) keepers() (all []namedKeeper) {
	if s.secure.client != nil {
		all = append(all, namedKeeper{s.secure.client, clientEndpoint})
	}
	return append(all, namedKeeper{s.secure.peer, peerEndpoint})
}

// tlsSample is what a scrape shows of certificates; there is nothing of a side without any.
func (s *Server) tlsSample() (all []httpapi.TLSSample) {
	now := time.Now()
	for _, side := range s.keepers() {
		ends := side.Expiries()
		if side.Empty() && len(ends) == 0 {
			continue
		}
		n := side.Counts()
		t := httpapi.TLSSample{Side: side.name, Handshakes: n.Handshakes, Rejected: n.Rejected, Reloads: n.Reloads, Failures: n.Failures, Failing: side.Failing() != ""}
		for _, e := range ends {
			t.Ends = append(t.Ends, httpapi.CertificateSample{What: e.What, File: e.File, Unix: e.At.Unix(), Left: e.At.Sub(now).Seconds()})
		}
		all = append(all, t)
	}
	return all
}

// certificateWarnings say in one line each what an operator has to do about certificates.
func (s *Server) certificateWarnings() (lines []string) {
	now := time.Now()
	for _, e := range s.expiries() {
		if e.Near(now) {
			lines = append(lines, fmt.Sprintf("%s %s %s ends at %s (in %.1f days)", e.Side, e.What, e.File, e.At.UTC().Format(time.RFC3339), e.At.Sub(now).Hours()/24))
		}
	}
	for _, side := range s.keepers() {
		if why := side.Failing(); why != "" {
			lines = append(lines, fmt.Sprintf("%s certificates cannot be reloaded: %s", side.name, why))
		}
	}
	return lines
}
