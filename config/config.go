// Package config holds every setting of the server in one table and derives everything else from it: command-line
// flags, environment variables, the YAML or JSON config file, help texts, docs/config.md, warnings and the dump.
//
// It is not where settings take effect (package server wires them) and it keeps no bounds that an operator cannot change
// (package limits). It writes nothing to a log or a terminal: what the operator must read is returned as Notes.
//
// How data passes: Load reads one Source (arguments, environment, files) and returns a Config with typed groups of
// values. A Setting is one row of the table: its name, kind, default, help and the field of Config that holds it. Rows
// whose function is not there yet have no field; their values are kept as text so that Dump and the warnings see them.
//
// Invariants: every default passes the parser of its own row; a Config returned by Load has passed Validate; a dump read
// back as a config file gives the same values; flags, variables and keys are those of etcd v3.7 (server/embed/config.go
// and server/etcdmain/config.go there), so that a unit file or manifest written for it starts this server unchanged.
package config

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"quorate.dev/quorate/limits"
)

// Versions that this build reports. Clients switch behaviour on EtcdVersion, so it names the release whose behaviour we
// reproduce; Version is our own.
const (
	Version           = "0.1.0" // of this program
	EtcdVersion       = "3.7.3" // the etcd release we are compatible with
	MinClusterVersion = "3.0.0" // the oldest release that may be a member of the same cluster
	ClusterVersion    = "3.7.0" // the cluster version that a fresh cluster of this build decides on
	StorageVersion    = "3.7.0" // the storage schema version reported by Status and /version
)

// Names and values that other packages compare with.
const (
	DefaultName         = "default"
	StateNew            = "new"
	StateExisting       = "existing"
	CompactionPeriodic  = "periodic"
	CompactionRevision  = "revision"
	MetricsExtensive    = "extensive"
	UIAuto              = "auto"
	UIOn                = "on"
	UIOff               = "off"
	V2Keep              = "keep"
	V2Separate          = "separate"
	V2Shared            = "shared"
	LogDefault          = "default"
	LogJournal          = "systemd/journal"
	LogStderr           = "stderr"
	LogStdout           = "stdout"
	LogDiscard          = "/dev/null"
	defaultPeerURL      = "http://localhost:2380"
	defaultClientURL    = "http://localhost:2379"
	electionMillisMax   = 50000
	electionHeartbeats  = 5
	raftTimeoutMin      = 5 * time.Second
	programEtcd         = "etcd"
	dataDirSuffix       = ".quorate"
	dataDirSuffixAsEtcd = ".etcd"
)

// Config is the validated configuration of one server, grouped by what it concerns.
type Config struct {
	Member  Member
	Listen  Listen
	Cluster Cluster
	Finding Finding
	Raft    Raft
	Store   Store
	Checks  Checks
	RPC     RPC
	HTTP    HTTP
	TLS     TLS
	Log     Log
	Auth    Auth
	Gates   Gates

	inactive map[string]string // settings without a field, name -> canonical text
	origin   map[string]string // explicitly set settings, name -> "flag", "env", "file" or "program"
}

// Member says who this member is and where its files are.
type Member struct {
	Name    string // human-readable, unique in the cluster
	DataDir string // directory of everything that must survive; never empty after Load
	WALDir  string // directory of the log when it is kept apart from DataDir, else ""
}

// Listen says where the server accepts connections.
type Listen struct {
	Peer         []url.URL // traffic between members
	Client       []url.URL // gRPC, and HTTP too while ClientHTTP is empty
	ClientHTTP   []url.URL // HTTP only; when not empty, Client serves gRPC only
	Metrics      []url.URL // /metrics, /health, /livez and /readyz only
	ReusePort    bool      // SO_REUSEPORT
	ReuseAddress bool      // SO_REUSEADDR
}

// Cluster says how the cluster is formed and how this member is announced.
type Cluster struct {
	AdvertisePeer   []url.URL
	AdvertiseClient []url.URL
	Initial         string // name=url pairs, comma-separated; empty when the members are still to be discovered
	State           string // StateNew or StateExisting
	Token           string
	StrictReconfig  bool
	MaxLearners     int64
	AutoPromote     bool // the leader promotes learners by itself
	ForceNew        bool // this member's data becomes a cluster of this member alone
}

// Finding says where a member without data finds the others when Cluster.Initial does not name them.
type Finding struct {
	SRVDomain      string        // whose DNS records name the members, else ""
	SRVSuffix      string        // of the service names in these records
	Endpoints      []string      // of a cluster in which the members find each other, else empty
	Token          string        // of the cluster that they form
	DialTimeout    time.Duration // to connect to an endpoint
	RequestTimeout time.Duration // of a question to it
	FindingTLS
}

// FindingTLS says how that cluster is asked. Endpoints with https:// always use TLS, those with http:// never do, and others do
// when a certificate is named, SkipVerify is set, or Insecure is false.
type FindingTLS struct {
	Cert, Key  string // shown to it
	CA         string // its certificate must lead to
	Insecure   bool
	SkipVerify bool // accept any certificate
}

// Raft holds the consensus timing.
type Raft struct {
	HeartbeatMillis uint64 // one tick, milliseconds
	ElectionMillis  uint64 // milliseconds
	PreVote         bool
	TickAdvance     bool   // the first election after a start comes early
	SnapshotCount   uint64 // applied entries that come together before those that others hardly need are let go of
	CatchUp         uint64 // applied entries kept for others
}

// Checks holds how often the leader compares the members' data.
type Checks struct {
	Every       time.Duration // all of it; 0 never
	Compactions time.Duration // what was hashed at compactions
}

// Store holds the bounds and duties of the store.
type Store struct {
	QuotaBytes          int64  // 0 means the default, negative means none; see Quota
	MaxTxnOps           uint64 // operations per list of a transaction
	MaxRequestBytes     uint64 // bytes
	CompactionMode      string // CompactionPeriodic or CompactionRevision
	CompactionRetention string // see Compaction
	UnsafeNoFsync       bool
}

// RPC holds the settings of the gRPC endpoint.
type RPC struct {
	MaxStreams        uint64        // concurrent streams per connection
	KeepaliveMinTime  time.Duration // pings more frequent than this are refused
	KeepaliveInterval time.Duration // server pings an idle connection after this, 0 never
	KeepaliveTimeout  time.Duration // and closes it when there is no answer for this long
	WarnUnary         time.Duration // a unary request slower than this is logged
	WarnApply         time.Duration // a command applied slower than this is logged
	WatchProgress     time.Duration // period of progress notifications, 0 means limits.WatchProgress
}

// HTTP holds the settings of the HTTP endpoint.
type HTTP struct {
	CORS    []string // allowed origins; empty or "*" means all
	Hosts   []string // allowed Host headers; empty or "*" means all
	Pprof   bool
	Metrics string // "basic" or MetricsExtensive
	UI      string // UIAuto, UIOn or UIOff
	Gateway bool   // JSON over HTTP under /v3/
	V2      bool   // the v2 API under /v2/
	V2Mode  string // V2Keep, V2Separate or V2Shared
}

// Log holds the settings of the server's own log, and of the audit log.
type Log struct {
	Outputs  []string // LogDefault, LogStderr, LogStdout, LogJournal, LogDiscard or file paths
	Level    string
	Format   string // "json" or "console"
	Rotate   bool
	Rotation string // JSON object: maxsize (MB), maxage (days), maxbackups, localtime, compress
	Audit    AuditLog
}

// Auth holds the settings of authentication.
type Auth struct {
	Token      string // "simple", "jwt,..." or "" for none; see Tokens
	BcryptCost uint64 // of passwords' hashes, 4 to 31
	TokenTTL   uint64 // of a simple token since its last use, seconds; 0 means the default
}

// New returns the configuration that no argument, variable or file has changed. DataDir is still empty: Load derives it.
func New() *Config {
	c := &Config{inactive: map[string]string{}, origin: map[string]string{}}
	for i := range table {
		if err := table[i].set(c, table[i].Default); err != nil {
			panic(fmt.Sprintf("BUG: default of setting %s: %v", table[i].Name, err))
		}
	}
	return c
}

// RequestTimeout is how long the server works on one request: five seconds plus two election timeouts.
func (c *Config) RequestTimeout() time.Duration {
	return limits.RequestTimeoutBase + 2*time.Duration(c.Raft.ElectionMillis)*time.Millisecond
}

// Heartbeat is the length of one raft tick.
func (c *Config) Heartbeat() time.Duration {
	return time.Duration(c.Raft.HeartbeatMillis) * time.Millisecond
}

// ElectionTicks is the election timeout in ticks; at least 5 in a valid configuration.
func (c *Config) ElectionTicks() int { return int(c.Raft.ElectionMillis / c.Raft.HeartbeatMillis) }

// Quota is the most bytes that live data may take and whether that is enforced at all.
func (c *Config) Quota() (bytes int64, enforced bool) {
	switch q := c.Store.QuotaBytes; {
	case q < 0:
		return 0, false
	case q == 0:
		return limits.QuotaBytesDefault, true
	default:
		return q, true
	}
}

// Compaction is the parsed automatic compaction: a period or a count of revisions to keep. Both zero means off.
type Compaction struct {
	Period    time.Duration
	Revisions int64
}

// Compaction parses auto-compaction-mode and auto-compaction-retention: a bare number means hours in mode periodic and
// revisions in mode revision.
func (c *Config) Compaction() (Compaction, error) {
	mode, text := c.Store.CompactionMode, c.Store.CompactionRetention
	count, err := strconv.ParseInt(text, 10, 64)
	isCount := err == nil
	switch {
	case mode != CompactionPeriodic && mode != CompactionRevision:
		return Compaction{}, fmt.Errorf("unknown auto-compaction-mode %q: use %q or %q", mode, CompactionPeriodic, CompactionRevision)
	case isCount && count < 0:
		return Compaction{}, fmt.Errorf("--auto-compaction-retention %q is negative: use 0 to switch automatic compaction off", text)
	case isCount && mode == CompactionRevision:
		return Compaction{Revisions: count}, nil
	case isCount && count > int64(1<<63-1)/int64(time.Hour):
		return Compaction{}, fmt.Errorf("--auto-compaction-retention %q is more hours than a duration can hold", text)
	case isCount:
		return Compaction{Period: time.Duration(count) * time.Hour}, nil
	case mode == CompactionRevision:
		return Compaction{}, fmt.Errorf("--auto-compaction-retention %q is not a number of revisions, which --auto-compaction-mode=revision needs (such as 1000)", text)
	}
	period, err := time.ParseDuration(text)
	if err != nil || period < 0 {
		return Compaction{}, fmt.Errorf("--auto-compaction-retention %q is neither a number of hours nor a duration such as \"30m\"", text)
	}
	return Compaction{Period: period}, nil
}

// IsSet reports whether the setting was given by a flag, a variable or the config file.
func (c *Config) IsSet(name string) bool { _, ok := c.origin[name]; return ok }

// Set changes one setting by its flag name, as a command line would. It is for programs that embed a server; call
// Finish afterwards.
func (c *Config) Set(name, text string) error {
	s := lookup(name)
	if s == nil {
		return fmt.Errorf("there is no setting %q", name)
	}
	if err := s.set(c, text); err != nil {
		return fmt.Errorf("invalid value %q for setting %s: %w", text, name, err)
	}
	c.origin[name] = "program"
	return nil
}

// URLStrings lists the URLs as text, in order.
func URLStrings(urls []url.URL) []string {
	out := make([]string, len(urls))
	for i := range urls {
		out[i] = urls[i].String()
	}
	return out
}

func joinURLs(urls []url.URL) string { return strings.Join(URLStrings(urls), ",") }
