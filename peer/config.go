package peer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
)

// ErrRemoved is what the other members say to one that was removed from the cluster.
var ErrRemoved = errors.New("the member has been permanently removed from the cluster")

// Receiver takes what comes from other members. It must not block.
type Receiver interface {
	// Receive takes a message over. It may drop it: raft repeats what is lost.
	Receive(m *raftpb.Message)
	// Unreachable says that a message to a member was dropped.
	Unreachable(id ids.MemberID)
	// Removed reports whether a member was in the cluster once and is no more.
	Removed(id ids.MemberID) bool
	// Expelled says, with ErrRemoved, that the others have removed this member.
	Expelled(err error)
}

// Config is what New needs. Fields are required unless they say otherwise.
type Config struct {
	Member     ids.MemberID
	Cluster    ids.ClusterID
	URLs       []string // this member's own peer URLs, which others are told
	Version    string   // of this server, as three numbers
	MinVersion string   // oldest server it works with
	Receiver   Receiver
	Snapshots  Snapshots // nil: none are sent or taken
	Observer   Observer  // nil: nobody

	TLS    func() *tls.Config // asked for each connection to an https URL; nil: the system's defaults
	Clock  clock.Clock        // nil: the machine's clock
	Logger *zap.Logger        // nil: no log
}

// Times of the protocol (source: etcd's rafthttp).
const (
	dialTimeout  = 5 * time.Second
	readTimeout  = 5 * time.Second // a stream on which nothing arrives for that long is dead
	writeTimeout = 5 * time.Second // a stream that takes nothing for that long is dead
	heartbeat    = readTimeout / 3 // between signs of life on an idle stream
	probeEvery   = 4 * time.Second
	redialLeast  = 100 * time.Millisecond // between two attempts to reach a member, at first
	redialMost   = time.Second            // and at most, before jitter
	postTimeout  = 5 * time.Second        // of one message by POST
)

func (c *Config) complete() error {
	if c.Clock == nil {
		c.Clock = clock.Real()
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Observer == nil {
		c.Observer = silent{}
	}
	if c.TLS == nil {
		c.TLS = func() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12} }
	}
	if c.Member == 0 || c.Cluster == 0 || c.Receiver == nil {
		return fmt.Errorf("peer: member %s, cluster %s: both ids and a receiver are needed", c.Member, c.Cluster)
	}
	for _, v := range []string{c.Version, c.MinVersion} {
		if _, err := parseVersion(v); err != nil {
			return fmt.Errorf("peer: %w", err)
		}
	}
	return nil
}
