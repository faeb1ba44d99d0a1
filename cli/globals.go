package cli

import (
	"time"

	"github.com/spf13/pflag"
)

// Globals are the flags that every verb has.
type Globals struct {
	Endpoints []string
	Output    string // simple, fields, json, protobuf or table
	Hex       bool
	Debug     bool
	Dial      DialFlags
	TLS       TLSFlags
	Auth      AuthFlags
	Discovery DiscoveryFlags
}

// DialFlags bound what a client does.
type DialFlags struct {
	Timeout          time.Duration
	CommandTimeout   time.Duration
	KeepAliveTime    time.Duration
	KeepAliveTimeout time.Duration
	MaxSend, MaxRecv int // bytes; 0 is the client's default
}

// TLSFlags say how connections are secured.
type TLSFlags struct {
	Cert, Key, CACert string // files
	Insecure          bool   // plain text unless an endpoint or a file says otherwise
	SkipVerify        bool
}

// AuthFlags say who asks.
type AuthFlags struct {
	User, Password, Token string
}

// DiscoveryFlags find endpoints in DNS.
type DiscoveryFlags struct {
	Domain, Service string
	Insecure        bool
}

// register adds the flags, with the names, defaults and texts that etcdctl prints. Shorthands other than -w only where no
// other command line can have a different meaning for them.
func (g *Globals) register(f *pflag.FlagSet, shorthands bool) {
	f.StringSliceVar(&g.Endpoints, "endpoints", []string{"127.0.0.1:2379"}, "gRPC endpoints")
	f.BoolVar(&g.Debug, "debug", false, "enable client-side debug logging")
	f.StringVarP(&g.Output, "write-out", "w", "simple", "set the output format (fields, json, protobuf, simple, table)")
	f.BoolVar(&g.Hex, "hex", false, "print byte strings as hex encoded strings")

	d, t := &g.Dial, &g.TLS
	f.DurationVar(&d.Timeout, "dial-timeout", 2*time.Second, "dial timeout for client connections")
	f.DurationVar(&d.CommandTimeout, "command-timeout", 5*time.Second, "timeout for short running command (excluding dial timeout)")
	f.DurationVar(&d.KeepAliveTime, "keepalive-time", 2*time.Second, "keepalive time for client connections")
	f.DurationVar(&d.KeepAliveTimeout, "keepalive-timeout", 6*time.Second, "keepalive timeout for client connections")
	f.IntVar(&d.MaxSend, "max-request-bytes", 0, "client-side request send limit in bytes (if 0, it defaults to 2.0 MiB (2 * 1024 * 1024).)")
	f.IntVar(&d.MaxRecv, "max-recv-bytes", 0, `client-side response receive limit in bytes (if 0, it defaults to "math.MaxInt32")`)

	f.BoolVar(&t.Insecure, "insecure-transport", true, "disable transport security for client connections")
	f.BoolVar(&g.Discovery.Insecure, "insecure-discovery", true, "accept insecure SRV records describing cluster endpoints")
	f.BoolVar(&t.SkipVerify, "insecure-skip-tls-verify", false, "skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)")
	f.StringVar(&t.Cert, "cert", "", "identify secure client using this TLS certificate file")
	f.StringVar(&t.Key, "key", "", "identify secure client using this TLS key file")
	f.StringVar(&t.CACert, "cacert", "", "verify certificates of TLS-enabled secure servers using this CA bundle")
	f.StringVar(&g.Auth.Token, "auth-jwt-token", "", "JWT token used for authentication (if this option is used, --user and --password should not be set)")
	f.StringVar(&g.Auth.User, "user", "", "username[:password] for authentication (prompt if password is not supplied)")
	f.StringVar(&g.Auth.Password, "password", "", "password for authentication (if this option is used, --user option shouldn't include password)")
	short := ""
	if shorthands {
		short = "d"
	}
	f.StringVarP(&g.Discovery.Domain, "discovery-srv", short, "", "domain name to query for SRV records describing cluster endpoints")
	f.StringVar(&g.Discovery.Service, "discovery-srv-name", "", "service name to query when using DNS discovery")
}
