package discovery

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Endpoint is a way in for clients that DNS names.
type Endpoint struct {
	URL      url.URL // http or https, with a port
	Priority uint16  // the lowest is to be preferred
	Weight   uint16  // share among those of one priority
}

// Clients finds the endpoints that the domain's SRV records name: those of _etcd-client-ssl._tcp with https URLs, then those of
// _etcd-client._tcp with http URLs, each in the order of DNS. A suffix is appended with a dash to the names of the services. An
// error says which names were asked and what came; there are no endpoints without one.
func Clients(ctx context.Context, dns Resolver, domain, suffix string) ([]Endpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var found []Endpoint
	var asked []string
	var failures error
	for _, s := range []service{{"etcd-client-ssl", "https"}, {"etcd-client", "http"}} {
		if suffix != "" {
			s.name += "-" + suffix
		}
		full := "_" + s.name + "._tcp." + domain
		asked = append(asked, full)
		_, records, err := dns.LookupSRV(ctx, s.name, "tcp", domain)
		if missing := (*net.DNSError)(nil); err != nil && (!errors.As(err, &missing) || !missing.IsNotFound) {
			failures = errors.Join(failures, fmt.Errorf("SRV records of %s: %w", full, err))
		}
		for _, r := range records {
			host := strings.ToLower(strings.TrimSuffix(r.Target, "."))
			if host == "" {
				continue // a lone dot says that the service is not there (RFC 2782)
			}
			u := url.URL{Scheme: s.scheme, Host: net.JoinHostPort(host, strconv.Itoa(int(r.Port)))}
			found = append(found, Endpoint{URL: u, Priority: r.Priority, Weight: r.Weight})
		}
	}
	if len(found) > 0 { // who names one service only may have a DNS server that refuses the other name
		return found, nil
	}
	if failures == nil {
		failures = fmt.Errorf("there are no SRV records of %s: make one for each member, or name the members with --endpoints", strings.Join(asked, " nor of "))
	}
	return nil, failures
}

// Secure returns those endpoints with which a TLS handshake under conf succeeds; conf names who must be there. The error tells
// what is wrong with the others.
func Secure(ctx context.Context, found []Endpoint, conf *tls.Config) (good []Endpoint, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for _, e := range found {
		if e.URL.Scheme != "https" {
			err = errors.Join(err, fmt.Errorf("%s is insecure", e.URL.String()))
			continue
		}
		c, failure := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: handshake}, Config: conf}).DialContext(ctx, "tcp", e.URL.Host)
		if failure != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", e.URL.String(), failure))
			continue
		}
		_ = c.Close()
		good = append(good, e)
	}
	return good, err
}
