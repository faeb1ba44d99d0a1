// Package discovery finds the members of a new cluster in DNS or in a running cluster, for members that are started without
// --initial-cluster.
//
// It founds nothing and checks no settings: it answers who is named, and package server takes that in place of
// --initial-cluster. It is asked only by a member without data. Clients finds the ways in for clients, for programs that
// stand between them and the members.
//
// How data passes: SRV asks a Resolver for the two service names of a domain, resolves every target, and returns one Peer
// per record. The record whose target has the address of one of this member's advertised peer URLs is this member; the
// others get numbers for names, which they give up for their own once they run. Registry.Join adds this member under a token to
// the keys of a running cluster, the discovery service, and returns all once they are complete.
//
// Invariants: all that are named or an error, never some of it, because members that found a cluster of different sizes
// never meet; whoever asks gets the same URLs, in whichever order and case they are answered, because ids are made of them; every
// URL that this member advertises is in the answer.
package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// timeout bounds one discovery, all questions together; DNS itself gives up on a server after a few seconds.
const timeout = 30 * time.Second

// handshake bounds one connection that is tried, TLS included.
const handshake = 5 * time.Second

// Resolver asks DNS; *net.Resolver is one. An answer is at most one DNS message, 64 KiB.
type Resolver interface {
	// LookupSRV returns the SRV records of _service._proto.name. A name without records is a *net.DNSError with IsNotFound.
	LookupSRV(ctx context.Context, service, proto, name string) (cname string, records []*net.SRV, err error)
	// LookupNetIP returns the addresses of host, of the network "ip"; an address is its own.
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Question is what a member knows before it asks.
type Question struct {
	Domain     string    // that has the records
	Suffix     string    // appended with a dash to the names of the services; may be empty
	Name       string    // of this member
	Advertised []url.URL // the peer URLs of this member, http or https
}

// Peer is one member of the cluster to be.
type Peer struct {
	Name string // Question.Name for this member, else a number
	URL  url.URL
	Own  bool // this member
}

// service is a name to ask for, and what URLs its records stand for (source: etcd v3.7 server/embed/config.go).
type service struct{ name, scheme string }

// SRV finds the members that the domain's SRV records name, ascending by URL: those of _etcd-server-ssl._tcp with https URLs
// and those of _etcd-server._tcp with http URLs. An error says which name was asked and what came.
func SRV(ctx context.Context, dns Resolver, q Question) ([]Peer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	own, err := ownAddresses(ctx, dns, q.Advertised)
	if err != nil {
		return nil, err
	}
	var peers []Peer
	var asked []string
	for _, s := range []service{{"etcd-server-ssl", "https"}, {"etcd-server", "http"}} {
		if q.Suffix != "" {
			s.name += "-" + q.Suffix
		}
		full := "_" + s.name + "._tcp." + q.Domain
		found, err := s.ask(ctx, dns, q.Domain, own)
		if err != nil {
			return nil, fmt.Errorf("SRV records of %s: %w", full, err)
		}
		asked = append(asked, full)
		peers = append(peers, found...)
	}
	if len(peers) == 0 {
		return nil, fmt.Errorf("there are no SRV records of %s: make one for each member, or name the members with --initial-cluster", strings.Join(asked, " nor of "))
	}
	if err := complete(peers, own, asked); err != nil {
		return nil, err
	}
	return named(peers, q.Name), nil
}

// ownURL is a URL that this member advertises, and where it leads.
type ownURL struct {
	url   url.URL
	port  string
	addrs []netip.Addr
}

func ownAddresses(ctx context.Context, dns Resolver, advertised []url.URL) ([]ownURL, error) {
	var out []ownURL
	for _, u := range advertised {
		if u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("this member advertises the peer URL %s, which no SRV record can name: advertise an http or https URL", u.String())
		}
		addrs, err := resolve(ctx, dns, u.Hostname())
		if err != nil {
			return nil, fmt.Errorf("address of this member's peer URL %s: %w", u.String(), err)
		}
		out = append(out, ownURL{u, u.Port(), addrs})
	}
	return out, nil
}

// resolve returns the addresses of a host, IPv4 ones in their short form.
func resolve(ctx context.Context, dns Resolver, host string) ([]netip.Addr, error) {
	addrs, err := dns.LookupNetIP(ctx, "ip", host)
	if err == nil && len(addrs) == 0 {
		err = fmt.Errorf("%s has no address", host)
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, err
}

// ask returns the members that one service names; none is no error.
func (s service) ask(ctx context.Context, dns Resolver, domain string, own []ownURL) ([]Peer, error) {
	_, records, err := dns.LookupSRV(ctx, s.name, "tcp", domain)
	if missing := (*net.DNSError)(nil); errors.As(err, &missing) && missing.IsNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Peer
	for _, r := range records {
		host := strings.ToLower(strings.TrimSuffix(r.Target, "."))
		if host == "" {
			continue // a lone dot says that the service is not there (RFC 2782)
		}
		p := Peer{URL: url.URL{Scheme: s.scheme, Host: net.JoinHostPort(host, strconv.Itoa(int(r.Port)))}}
		addrs, err := resolve(ctx, dns, r.Target)
		if err != nil {
			return nil, fmt.Errorf("address of the target %s: %w", p.URL.Host, err)
		}
		for _, o := range own {
			if o.port != p.URL.Port() || !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return slices.Contains(o.addrs, a) }) {
				continue
			}
			if o.url.Scheme != s.scheme {
				return nil, fmt.Errorf("they name this member %s, and it advertises %s: advertise the former, or remove the record", p.URL.String(), o.url.String())
			}
			p.Own = true
		}
		out = append(out, p)
	}
	return out, nil
}

// complete checks that as many records are this member's as it has peer URLs, and that nobody is named twice.
func complete(peers []Peer, own []ownURL, asked []string) error {
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Compare(a.URL.String(), b.URL.String()) })
	var all, mine, advertised []string
	for _, p := range peers {
		all = append(all, p.URL.String())
		if p.Own {
			mine = append(mine, p.URL.String())
		}
	}
	for _, o := range own {
		advertised = append(advertised, o.url.String())
	}
	for i := 1; i < len(all); i++ {
		if all[i] == all[i-1] {
			return fmt.Errorf("SRV records of %s name %s twice: remove one", strings.Join(asked, " and "), all[i])
		}
	}
	if len(mine) != len(own) {
		return fmt.Errorf("SRV records of %s name %v, of which %v are this member, and it advertises %v (--initial-advertise-peer-urls): each of these needs exactly one record whose target has its address and port",
			strings.Join(asked, " and "), all, mine, advertised)
	}
	return nil
}

// named gives every member a name. The numbers are in the order of the URLs and leave this member's name out.
func named(peers []Peer, own string) []Peer {
	next := 0
	for i := range peers {
		if peers[i].Own {
			peers[i].Name = own
			continue
		}
		if strconv.Itoa(next) == own {
			next++
		}
		peers[i].Name = strconv.Itoa(next)
		next++
	}
	return peers
}

// Initial writes members in the form of --initial-cluster.
func Initial(peers []Peer) string {
	out := make([]string, len(peers))
	for i, p := range peers {
		out[i] = p.Name + "=" + p.URL.String()
	}
	return strings.Join(out, ",")
}
