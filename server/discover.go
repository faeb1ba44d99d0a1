package server

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"go.uber.org/zap"

	"quorate.dev/quorate/discovery"
)

// discover fills in the initial cluster when --discovery-srv has DNS name it. It is only for a member without data: with data,
// the members are known, and a start must not depend on DNS.
func (s *Server) discover(ctx context.Context) error {
	c := &s.cfg.Cluster
	if c.SRVDomain == "" {
		if c.SRVSuffix != "" && c.Initial == "" {
			return fmt.Errorf("--discovery-srv-name %q has no domain to ask: give --discovery-srv, or name the members with --initial-cluster", c.SRVSuffix)
		}
		return nil
	}
	peers, err := discovery.SRV(ctx, s.dns, discovery.Question{Domain: c.SRVDomain, Suffix: c.SRVSuffix, Name: s.cfg.Member.Name, Advertised: c.AdvertisePeer})
	if err != nil {
		return fmt.Errorf("--discovery-srv %q: %w", c.SRVDomain, err)
	}
	// The records' spelling of this member's URLs counts from here on: the others make its id of them.
	var own []url.URL
	for _, p := range peers {
		s.logger.Info("DNS names a member", zap.String("discovery-srv", c.SRVDomain), zap.String("name", p.Name), zap.Stringer("peer-url", &p.URL), zap.Bool("local", p.Own))
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
