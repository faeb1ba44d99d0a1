package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"quorate.dev/quorate/limits"
)

// whatAnswered looks what is at endpoints that did not answer as a server does, and says so.
func (s *Session) whatAnswered(endpoints []string) {
	endpoints = endpoints[:min(len(endpoints), limits.DiagnosedEndpoints)]
	found := make([]string, len(endpoints))
	ctx, cancel := context.WithTimeout(s.Process.Context, limits.DiagnosisTime)
	defer cancel()
	var looking sync.WaitGroup
	for i, ep := range endpoints {
		looking.Go(func() { found[i] = s.look(ctx, ep) })
	}
	looking.Wait()
	for i, ep := range endpoints {
		s.Warnf("  %s: %s\n", ep, found[i])
	}
}

// probe is one look at an endpoint.
type probe struct {
	ctx     context.Context
	network string
	address string
	url     string      // http or https, for questions
	tls     *tls.Config // nil for plain text
}

// look says in one sentence what is at an endpoint, and what to do.
func (s *Session) look(ctx context.Context, endpoint string) string {
	p, err := s.probeOf(ctx, endpoint)
	if err != nil {
		return err.Error()
	}
	conn, err := p.dial()
	if err != nil {
		return p.unconnected(err)
	}
	defer conn.Close()
	if p.tls != nil {
		secure := tls.Client(conn, p.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return p.unsecured(err)
		}
		if secure.ConnectionState().NegotiatedProtocol == "http/1.1" {
			return p.webServer("")
		}
		conn = secure
	}
	return p.greet(conn)
}

// probeOf understands an endpoint as the client library does: the scheme decides about TLS, and without one the flags do.
func (s *Session) probeOf(ctx context.Context, endpoint string) (*probe, error) {
	spec := s.spec.Clone()
	cfg, err := clientv3.NewClientConfig(spec, zap.NewNop())
	if err != nil {
		return nil, err
	}
	p := &probe{ctx: ctx, network: "tcp", address: endpoint, tls: cfg.TLS}
	if scheme, rest, ok := strings.Cut(endpoint, "://"); ok {
		p.address, _, _ = strings.Cut(rest, "/")
		switch scheme {
		case "http":
			p.tls = nil
		case "https", "unixs":
			if p.tls == nil {
				p.tls = new(tls.Config)
			}
		}
		if strings.HasPrefix(scheme, "unix") {
			p.network, p.address = "unix", rest
		}
	}
	p.url = "http://" + p.address
	if p.tls != nil {
		p.tls = p.tls.Clone()
		p.url = "https://" + p.address
		if host, _, err := net.SplitHostPort(p.address); err == nil && p.tls.ServerName == "" {
			p.tls.ServerName = host
		}
		p.tls.NextProtos = []string{"h2", "http/1.1"}
	}
	return p, nil
}

func (p *probe) dial() (net.Conn, error) {
	d := net.Dialer{Timeout: limits.DiagnosisTime / 2}
	conn, err := d.DialContext(p.ctx, p.network, p.address)
	if err != nil {
		return nil, err
	}
	if deadline, ok := p.ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline.Add(-limits.DiagnosisTime / 2)) // the other half is for questions
	}
	return conn, nil
}

// unconnected explains why no connection could be made.
func (p *probe) unconnected(err error) string {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return `connection refused: nothing listens there. Start a server with "quorate serve", or name another endpoint with --endpoints`
	case errors.As(err, &dns):
		return fmt.Sprintf("the name %q cannot be resolved: %s", dns.Name, dns.Err)
	case errors.Is(err, os.ErrNotExist):
		return "there is no such socket"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "nobody takes the connection: a firewall drops it, or the machine is down"
	}
	return err.Error()
}

// unsecured explains why a TLS handshake failed.
func (p *probe) unsecured(err error) string {
	var record tls.RecordHeaderError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &record), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "it does not speak TLS: use http:// instead of https://, or leave --cacert, --cert and --key out"
	case errors.As(err, &authority):
		return "its certificate is signed by " + authority.Cert.Issuer.String() + ", which is not trusted: name that authority's file with --cacert"
	case errors.As(err, &host):
		return "its certificate is not for this name: " + err.Error()
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate expired on " + invalid.Cert.NotAfter.Format(time.DateOnly) + ": renew it"
	}
	return "the TLS handshake failed: " + err.Error()
}

// settingsFrame is the type of the frame with which an HTTP/2 server begins.
const settingsFrame = 4

// greet begins to speak HTTP/2 and looks at the first bytes that come back.
func (p *probe) greet(conn net.Conn) string {
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		return "it closed the connection: " + err.Error()
	}
	first := make([]byte, 64)
	n, err := io.ReadAtLeast(conn, first, 9)
	first = first[:n]
	const tlsAlert, tlsHandshake = 0x15, 0x16
	switch {
	case n >= 9 && first[3] == settingsFrame:
		return p.health()
	case n > 0 && (first[0] == tlsAlert || first[0] == tlsHandshake):
		return speaksTLS
	case bytes.HasPrefix(first, []byte("HTTP/")):
		line, _ := bufio.NewReader(io.MultiReader(bytes.NewReader(first), conn)).ReadString('\n')
		return p.webServer(strings.TrimSpace(line))
	case err != nil && strings.Contains(err.Error(), "certificate"):
		return "it wants a client certificate: name one with --cert and --key (" + err.Error() + ")"
	case n > 0:
		return fmt.Sprintf("something answered that is no server of this kind: %q", first)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "it took the connection and does not answer: the process hangs, or something between drops what it says"
	case p.tls == nil && p.takesTLS():
		return speaksTLS
	}
	return "it closed the connection without a word: it may be a proxy with nothing behind it"
}

const speaksTLS = "it speaks TLS: use https:// and name its authority's file with --cacert"

// takesTLS says whether a TLS handshake gets an answer in TLS, whatever it is.
func (p *probe) takesTLS() bool {
	conn, err := p.dial()
	if err != nil {
		return false
	}
	defer conn.Close()
	err = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(p.ctx) //nolint:gosec // nothing is said
	var alert tls.AlertError
	return err == nil || errors.As(err, &alert) || strings.Contains(err.Error(), "remote error: tls")
}

// ask gets a page.
func (p *probe) ask(path string) (*http.Response, []byte, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	if p.tls != nil {
		transport.TLSClientConfig = p.tls.Clone()
		transport.TLSClientConfig.NextProtos = []string{"http/1.1"}
	}
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, p.network, p.address)
	}
	req, err := http.NewRequestWithContext(p.ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limits.DiagnosisBytes))
	return resp, body, err
}

// health asks a server that speaks the right protocol why it does not answer.
func (p *probe) health() string {
	if name, clients, ok := p.peerPort(); ok {
		return peerText(name, clients)
	}
	_, body, err := p.ask("/health")
	var h struct{ Health, Reason string }
	if err == nil && json.Unmarshal(body, &h) == nil {
		if h.Health == "true" {
			return "a server answers there and says that it is healthy: it may have been too slow; try a larger --command-timeout"
		}
		return fmt.Sprintf("a server answers there and says that it is not healthy (%s): too few members may be up; \"quorate endpoint health --cluster\" shows which", h.Reason)
	}
	return "a server speaks gRPC there, but does not answer this request: it may be another service, or too slow (--command-timeout)"
}

// peerPort asks for the list that only a member's port for other members has.
func (p *probe) peerPort() (name string, clients []string, ok bool) {
	resp, body, err := p.ask("/members")
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", nil, false
	}
	var members []struct {
		Name       string   `json:"name"`
		PeerURLs   []string `json:"peerURLs"`
		ClientURLs []string `json:"clientURLs"`
	}
	if json.Unmarshal(body, &members) != nil || len(members) == 0 {
		return "", nil, false
	}
	for _, m := range members {
		clients = append(clients, m.ClientURLs...)
		for _, u := range m.PeerURLs {
			if strings.HasSuffix(u, "://"+p.address) {
				return m.Name, m.ClientURLs, true
			}
		}
	}
	return "", clients, true
}

func peerText(name string, clients []string) string {
	text := "that is the port for other members"
	if name != "" {
		text += fmt.Sprintf(" of member %q", name)
	}
	if len(clients) > 0 {
		text += "; clients connect to " + strings.Join(clients, ",")
	}
	return text
}

// webServer names a server that speaks HTTP/1: a member's peer port, or something else. line is the first of its answer.
func (p *probe) webServer(line string) string {
	if name, clients, ok := p.peerPort(); ok {
		return peerText(name, clients)
	}
	resp, body, err := p.ask("/")
	text := "a web server answered ("
	switch {
	case err != nil:
		return text + line + "), not one that speaks gRPC"
	case bytes.Contains(body, []byte("HTTP request to an HTTPS server")):
		return speaksTLS
	case line == "":
		line = resp.Proto + " " + resp.Status
	}
	text += line
	if server := resp.Header.Get("Server"); server != "" {
		text += ", Server: " + server
	}
	return text + "), not one that speaks gRPC: is the port right? Clients connect to 2379 by default"
}
