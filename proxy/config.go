package proxy

import (
	"errors"
	"fmt"
	"math"
	"time"

	"quorate.dev/quorate/certs"
)

// Config is what a Proxy needs to know. New gives the defaults; they and the names in comments are etcd's.
type Config struct {
	Listen    Listen
	Store     Store
	Advertise Advertise
	Keepalive Keepalive // towards clients

	Namespace     string // --namespace: goes before every key
	DataDir       string // --data-dir: certificates of --auto-tls
	Ordering      bool   // --experimental-serializable-ordering
	LeasingPrefix string // --experimental-leasing-prefix: refused
	LogCalls      bool   // --experimental-enable-grpc-logging
	Pprof         bool   // --enable-pprof
}

// Listen says where clients connect.
type Listen struct {
	Address     string // --listen-addr, host:port
	MetricsURL  string // --metrics-addr; "" for none
	Streams     uint32 // --max-concurrent-streams of one connection
	AutoTLS     bool   // --auto-tls
	AutoTLSYear uint   // --self-signed-cert-validity, years
	TLS         certs.Settings
}

// Store says where the store is.
type Store struct {
	Endpoints        []string      // --endpoints
	AutoSync         time.Duration // --endpoints-auto-sync-interval; 0 for never
	KeepaliveTime    time.Duration // --dial-keepalive-time; 0 is the pool's
	KeepaliveTimeout time.Duration // --dial-keepalive-timeout
	WithoutStream    bool          // --permit-without-stream: the members are asked how they are in any case
	MaxSend, MaxRecv int           // --max-send-bytes, --max-recv-bytes, bytes
	Wait             time.Duration // for a connection to any member, before a call is refused; no flag
	TLS              certs.Settings
	SkipVerify       bool // --insecure-skip-tls-verify
}

// Advertise says how clients find this proxy.
type Advertise struct {
	URL    string // --advertise-client-url; "" shows the members of the store instead
	Prefix string // --resolver-prefix
	TTL    int    // --resolver-ttl, seconds
}

// Keepalive is the care for connections of clients.
type Keepalive struct {
	MinTime  time.Duration // --grpc-keepalive-min-time
	Interval time.Duration // --grpc-keepalive-interval
	Timeout  time.Duration // --grpc-keepalive-timeout
}

// Default is the configuration without any flag.
func Default() Config {
	return Config{
		Listen:    Listen{Address: "127.0.0.1:23790", Streams: math.MaxUint32, AutoTLSYear: 1},
		Store:     Store{Endpoints: []string{"127.0.0.1:2379"}, KeepaliveTimeout: 20 * time.Second, MaxSend: 3 << 19, MaxRecv: math.MaxInt32, Wait: waitDefault},
		Advertise: Advertise{URL: "127.0.0.1:23790"},
		Keepalive: Keepalive{MinTime: 5 * time.Second, Interval: 2 * time.Hour, Timeout: 20 * time.Second},
		DataDir:   "default.proxy",
	}
}

// Check says what contradicts itself, in etcd's words where it has some.
func (c *Config) Check() error {
	a := &c.Advertise
	switch {
	case a.Prefix != "" && a.TTL < 1:
		return fmt.Errorf("invalid resolver-ttl %d", a.TTL)
	case a.Prefix == "" && a.TTL > 0:
		return fmt.Errorf("invalid resolver-prefix %q", a.Prefix)
	case a.Prefix != "" && a.URL == "":
		return fmt.Errorf("invalid advertise-client-url %q", a.URL)
	case c.Listen.AutoTLS && c.Listen.AutoTLSYear == 0:
		return errors.New("selfSignedCertValidity is invalid,it should be greater than 0")
	case c.LeasingPrefix != "":
		return errors.New("--experimental-leasing-prefix: a proxy that answers reads from memory cannot know who may read; leave the flag " +
			"out (identical reads share one call to the store), or use go.etcd.io/etcd/client/v3/leasing in the application")
	case c.Store.MaxSend < 0 || c.Store.MaxRecv < 0 || c.Store.MaxRecv > math.MaxInt32:
		return fmt.Errorf("--max-send-bytes %d, --max-recv-bytes %d: they must lie between 0 and 2^31-1", c.Store.MaxSend, c.Store.MaxRecv)
	case c.Store.KeepaliveTime < 0 || c.Store.KeepaliveTimeout < 0 || c.Store.AutoSync < 0:
		return errors.New("--dial-keepalive-time, --dial-keepalive-timeout and --endpoints-auto-sync-interval must not be negative")
	case c.Keepalive.MinTime < 0 || c.Keepalive.Interval < 0 || c.Keepalive.Timeout < 0:
		return errors.New("--grpc-keepalive-min-time, --grpc-keepalive-interval and --grpc-keepalive-timeout must not be negative")
	}
	return nil
}
