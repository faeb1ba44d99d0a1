package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"go.uber.org/zap"

	"quorate.dev/quorate/certs"
	"quorate.dev/quorate/config"
	"quorate.dev/quorate/discovery"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/member"
)

// discover fills in the initial cluster when DNS or a discovery service is to name it. It is only for a member without data:
// with data, the members are known, and a start must not depend on anything else.
func (s *Server) discover(ctx context.Context) error {
	switch f := &s.cfg.Finding; {
	case f.SRVDomain != "":
		return s.discoverSRV(ctx)
	case len(f.Endpoints) > 0:
		return s.discoverAt(ctx)
	case f.SRVSuffix != "" && s.cfg.Cluster.Initial == "":
		return fmt.Errorf("--discovery-srv-name %q has no domain to ask: give --discovery-srv, or name the members with --initial-cluster", f.SRVSuffix)
	}
	return nil
}

func (s *Server) discoverSRV(ctx context.Context) error {
	c, f := &s.cfg.Cluster, &s.cfg.Finding
	peers, err := discovery.SRV(ctx, s.dns, discovery.Question{Domain: f.SRVDomain, Suffix: f.SRVSuffix, Name: s.cfg.Member.Name, Advertised: c.AdvertisePeer})
	if err != nil {
		return fmt.Errorf("--discovery-srv %q: %w", f.SRVDomain, err)
	}
	// The records' spelling of this member's URLs counts from here on: the others make its id of them.
	var own []url.URL
	for _, p := range peers {
		s.logger.Info("DNS names a member", zap.String("discovery-srv", f.SRVDomain), zap.String("name", p.Name), zap.Stringer("peer-url", &p.URL), zap.Bool("local", p.Own))
		if p.Own {
			own = append(own, p.URL)
		}
	}
	if len(own) == 0 {
		return errors.New("BUG: discovery left this member out")
	}
	c.Initial, c.AdvertisePeer = discovery.Initial(peers), own
	return nil
}

// discoverAt finds the others at the discovery service, as etcd does: the token is that of the cluster, too.
func (s *Server) discoverAt(ctx context.Context) (err error) {
	c, f := &s.cfg.Cluster, &s.cfg.Finding
	if c.State == config.StateExisting {
		return errors.New("--discovery-endpoints form a new cluster: with --initial-cluster-state=existing name the members with --initial-cluster")
	}
	c.Token = f.Token
	urls := config.URLStrings(c.AdvertisePeer)
	var own []string
	for _, u := range urls {
		own = append(own, s.cfg.Member.Name+"="+u)
	}
	secure, err := discoveryTLS(&f.FindingTLS)
	if err != nil {
		return err
	}
	logger := s.logger.With(zap.String("discovery-token", f.Token), zap.Strings("discovery-endpoints", f.Endpoints))
	registry := discovery.Registry{
		Endpoints: f.Endpoints, Token: f.Token, DialTimeout: f.DialTimeout, RequestTimeout: f.RequestTimeout, Clock: clock.Real(), TLS: secure,
		Report: func(there, size int, err error) {
			if err != nil {
				logger.Warn("the discovery service could not be asked; trying again", zap.Error(err))
				return
			}
			logger.Info("waiting for members at the discovery service", zap.Int("there", there), zap.Int("size", size))
		},
	}
	if c.Initial, err = registry.Join(ctx, member.IDOf(urls, f.Token).String(), strings.Join(own, ",")); err != nil {
		return err
	}
	logger.Info("the discovery service named the members", zap.String("initial-cluster", c.Initial))
	return nil
}

// discoveryTLS is how the discovery service is asked, nil for without TLS where an endpoint does not say otherwise.
func discoveryTLS(f *config.FindingTLS) (*tls.Config, error) {
	if f.Insecure && f.Cert == "" && f.Key == "" && f.CA == "" && !f.SkipVerify {
		return nil, nil
	}
	k, err := certs.New(certs.Settings{Cert: f.Cert, Key: f.Key, CA: f.CA}, certs.Options{})
	if err != nil {
		return nil, fmt.Errorf("--discovery-cert, --discovery-key, --discovery-cacert: %w", err)
	}
	conf := k.Client()
	conf.InsecureSkipVerify = f.SkipVerify //nolint:gosec // the setting says so
	return conf, nil
}
