package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
)

// Keeper holds the certificates of one side. Its methods are safe for concurrent use.
type Keeper struct {
	set     Settings
	options Options
	counts  counts
	now     atomic.Pointer[material]

	looking sync.Mutex // held by the one that looks at the files
	looked  time.Time  // the last time
	parts   []*part
}

// Options are what a Keeper needs besides its Settings. All may be left out.
type Options struct {
	Clock    clock.Clock             // nil: the machine's
	Resolver Resolver                // nil: the machine's
	Reloaded func(files []string)    // told which changed files are in use now
	Failed   func(err error)         // told, once for each new reason, why changed files are not
	Rejected func(r Rejection)       // told of each connection that came to nothing
	Work     func() (release func()) // nil: none; awaited before the costly part of a handshake
	Timeout  time.Duration           // of a handshake; 0 is limits.HandshakeTimeout
	wrap     func(net.Conn) net.Conn // tests look at what is written
}

// Counts are of the life of a Keeper.
type Counts struct {
	Handshakes uint64 // of listeners, that succeeded
	Rejected   uint64 // connections to listeners that came to nothing
	Reloads    uint64 // of changed files
	Failures   uint64 // of changed files that could not be used
}

type counts struct{ handshakes, rejected, reloads, failures atomic.Uint64 }

// New loads the files. An error says which cannot be used and why.
func New(set Settings, options Options) (*Keeper, error) {
	if err := set.Check(); err != nil {
		return nil, err
	}
	if options.Clock == nil {
		options.Clock = clock.Real()
	}
	if options.Resolver == nil {
		options.Resolver = net.DefaultResolver
	}
	if options.Timeout == 0 {
		options.Timeout = limits.HandshakeTimeout
	}
	k := &Keeper{set: set, options: options}
	if set.Cert != "" {
		k.parts = append(k.parts, pairPart(set.Cert, set.Key, func(m *material, c *tls.Certificate) { m.cert = c }))
	}
	if set.ClientCert != "" {
		k.parts = append(k.parts, pairPart(set.ClientCert, set.ClientKey, func(m *material, c *tls.Certificate) { m.client = c }))
	}
	if set.CA != "" {
		k.parts = append(k.parts, caPart(set.CA))
	}
	if set.CRL != "" {
		k.parts = append(k.parts, crlPart(set.CRL))
	}
	m, now := &material{}, options.Clock.Now()
	for _, p := range k.parts {
		if _, err := p.look(m, now); err != nil {
			return nil, err
		}
	}
	k.looked = now
	k.now.Store(m)
	return k, nil
}

// Empty reports whether there is no certificate to listen with.
func (k *Keeper) Empty() bool { return k.set.Empty() }

// Counts returns the counts.
func (k *Keeper) Counts() Counts {
	c := &k.counts
	return Counts{c.handshakes.Load(), c.rejected.Load(), c.reloads.Load(), c.failures.Load()}
}

// Look loads changed files again unless that was tried within limits.CertLook. Handshakes do it by themselves.
func (k *Keeper) Look() { k.current() }

// current is what counts now. While one goroutine looks at the files, others go on with what there is.
func (k *Keeper) current() *material {
	if len(k.parts) > 0 && k.looking.TryLock() {
		defer k.looking.Unlock()
		if now := k.options.Clock.Now(); now.Sub(k.looked) >= limits.CertLook {
			k.reload(now)
			k.looked = now
		}
	}
	return k.now.Load()
}

// reload publishes what changed. The caller holds looking.
func (k *Keeper) reload(now time.Time) {
	next := *k.now.Load()
	var files []string
	var failures []error
	for _, p := range k.parts {
		changed, err := p.look(&next, now)
		if changed {
			files = append(files, p.files...)
		}
		failures = append(failures, err)
	}
	if len(files) > 0 {
		k.now.Store(&next)
		k.counts.reloads.Add(1)
		if k.options.Reloaded != nil {
			k.options.Reloaded(files)
		}
	}
	if err := errors.Join(failures...); err != nil {
		k.counts.failures.Add(1)
		if k.options.Failed != nil {
			k.options.Failed(fmt.Errorf("what was loaded before stays in use: %w", err))
		}
	}
}

// Failing says why files cannot be used now, "" when all can.
func (k *Keeper) Failing() string {
	k.looking.Lock()
	defer k.looking.Unlock()
	for _, p := range k.parts {
		if p.failed != "" {
			return p.failed
		}
	}
	return ""
}
