package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
)

// Transport carries messages to and from the other members. All methods are safe for concurrent use.
type Transport struct {
	cfg     Config
	logger  *zap.Logger
	streams *http.Transport // of streams: what is open for long
	calls   *http.Transport // of everything else
	counts  counts

	mu      sync.RWMutex
	remotes map[ids.MemberID]*remote
	closed  bool
}

// counts are of the life of a transport.
type counts struct {
	dropped atomic.Uint64 // messages for which there was no room
	failed  atomic.Uint64 // messages whose POST failed
	rtt     sync.Map      // ids.MemberID to time.Duration
}

// New returns a transport that knows no other member yet.
func New(c Config) (*Transport, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	return &Transport{
		cfg: c, logger: c.Logger, streams: roundTripper(c.TLS, c.Clock, true), calls: roundTripper(c.TLS, c.Clock, false),
		remotes: map[ids.MemberID]*remote{},
	}, nil
}

// roundTripper makes connections of one kind.
func roundTripper(conf func() *tls.Config, clock clock.Clock, streams bool) *http.Transport {
	dialer := net.Dialer{Timeout: dialTimeout}
	t := &http.Transport{IdleConnTimeout: time.Minute, DisableCompression: true}
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, addr)
		if err != nil || !streams {
			return conn, err
		}
		return impatient{conn, clock}, nil
	}
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := t.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return secure(ctx, conn, addr, conf())
	}
	t.MaxIdleConnsPerHost = posters
	if streams {
		t.MaxIdleConnsPerHost = -1
	}
	return t
}

// secure does a TLS handshake with the member at addr. The configuration is that of the moment: certificates change.
func secure(ctx context.Context, conn net.Conn, addr string, conf *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if conf.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		conf = conf.Clone()
		conf.ServerName = host
	}
	c := tls.Client(conn, conf)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("TLS handshake with %s: %w", addr, err), conn.Close())
	}
	return c, nil
}

// impatient is a connection on which something must arrive again and again.
type impatient struct {
	net.Conn
	clock clock.Clock
}

func (c impatient) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(c.clock.Now().Add(readTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// Add begins to exchange messages with a member at peer URLs. It does nothing when the member is known.
func (t *Transport) Add(id ids.MemberID, urls []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id == t.cfg.Member || t.closed || t.remotes[id] != nil {
		return
	}
	t.remotes[id] = newRemote(t, id, urls)
	t.logger.Info("added remote peer", zapPeer(id), zap.Strings("remote-peer-urls", urls))
}

// Update changes the URLs of a member, which need not be known.
func (t *Transport) Update(id ids.MemberID, urls []string) {
	if r := t.remote(id); r != nil {
		r.update(urls)
	}
}

// Remove ends the exchange with a member.
func (t *Transport) Remove(id ids.MemberID) {
	t.mu.Lock()
	r := t.remotes[id]
	delete(t.remotes, id)
	t.mu.Unlock()
	if r != nil {
		r.close()
		t.logger.Info("removed remote peer", zapPeer(id))
	}
}

// Close ends the exchange with all members.
func (t *Transport) Close() {
	t.mu.Lock()
	all := t.remotes
	t.remotes, t.closed = map[ids.MemberID]*remote{}, true
	t.mu.Unlock()
	var done sync.WaitGroup
	for _, r := range all {
		done.Go(r.close)
	}
	done.Wait()
	t.streams.CloseIdleConnections()
	t.calls.CloseIdleConnections()
}

func (t *Transport) remote(id ids.MemberID) *remote {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.remotes[id]
}

// Send takes the messages over; each names its receiver. Those to members that are not known are dropped. It does not block.
func (t *Transport) Send(messages []*raftpb.Message) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, m := range messages {
		if r := t.remotes[ids.MemberID(m.GetTo())]; r != nil {
			r.send(m)
		}
	}
}

// ActiveSince is the time since which a stream with the member works, or the zero time.
func (t *Transport) ActiveSince(id ids.MemberID) time.Time {
	if r := t.remote(id); r != nil {
		return r.activeSince()
	}
	return time.Time{}
}

// Stats are counts since New.
type Stats struct {
	Dropped uint64 // messages for which there was no room
	Failed  uint64 // messages whose POST failed
}

// Stats returns the counts.
func (t *Transport) Stats() Stats {
	return Stats{Dropped: t.counts.dropped.Load(), Failed: t.counts.failed.Load()}
}

// RTT is what the last probe of a member took, 0 when none was answered.
func (t *Transport) RTT(id ids.MemberID) time.Duration {
	v, _ := t.counts.rtt.Load(id)
	d, _ := v.(time.Duration)
	return d
}

// now is the time for deadlines of connections.
func (t *Transport) now() time.Time { return t.cfg.Clock.Now() }

func (t *Transport) count(c *atomic.Uint64) { c.Add(1) }

func (t *Transport) observeRTT(id ids.MemberID, d time.Duration) {
	t.counts.rtt.Store(id, d)
	t.cfg.Observer.RoundTrip(id, d)
}

// identify adds what every request says of its sender.
func (t *Transport) identify(h http.Header) {
	h.Set(headerFrom, t.cfg.Member.String())
	h.Set(headerVersion, t.cfg.Version)
	h.Set(headerMinVersion, t.cfg.MinVersion)
	h.Set(headerCluster, t.cfg.Cluster.String())
	h.Set(headerURLs, strings.Join(t.cfg.URLs, ","))
}

// String names the transport for messages.
func (t *Transport) String() string { return fmt.Sprintf("peers of member %s", t.cfg.Member) }
