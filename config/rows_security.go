package config

// secure is a row of one side's certificates.
func secure(name, file string, kind Kind, def, help string, at func(*Config) any) Setting {
	return Setting{Name: name, File: file, Kind: kind, Default: def, Help: help, at: at}
}

// reloads is said of files.
const reloads = "A changed file is used within a second, without a restart."

func clientTLSRows() []Setting {
	const in = "client-transport-security."
	rows := []Setting{
		secure("cert-file", in+"cert-file", Text, "", "File of the certificate shown to clients.", func(c *Config) any { return &c.TLS.Client.Cert }),
		secure("key-file", in+"key-file", Text, "", "File of the key of that certificate.", func(c *Config) any { return &c.TLS.Client.Key }),
		secure("client-cert-auth", in+"client-cert-auth", Bool, "false", "Require a certificate of every client.", func(c *Config) any { return &c.TLS.Client.Auth }),
		secure("client-cert-file", in+"client-cert-file", Text, "", "File of the certificate that the server itself uses as a client.",
			func(c *Config) any { return &c.TLS.Client.OwnCert }),
		secure("client-key-file", in+"client-key-file", Text, "", "File of the key of that certificate.", func(c *Config) any { return &c.TLS.Client.OwnKey }),
		secure("client-crl-file", notInFile, Text, "", "File of revoked client certificates.", func(c *Config) any { return &c.TLS.Client.CRL }),
		secure("client-cert-allowed-hostname", in+"allowed-hostname", List, "", "Host names that a client certificate may have.",
			func(c *Config) any { return &c.TLS.Client.AllowedHostnames }),
		secure("trusted-ca-file", in+"trusted-ca-file", Text, "", "File of the CA certificates that client certificates must match.",
			func(c *Config) any { return &c.TLS.Client.CA }),
		secure("auto-tls", in+"auto-tls", Bool, "false", "Make a certificate for clients at the first start.", func(c *Config) any { return &c.TLS.Client.Auto }),
		secure("client-cert-allowed-cn", in+"allowed-cn", List, "", "Common names that a client certificate may have.",
			func(c *Config) any { return &c.TLS.Client.AllowedCNs }),
		secure("client-skip-client-san-verification", in+"skip-client-san-verification", Bool, "false", "Do not check the addresses in client certificates.",
			func(c *Config) any { return &c.TLS.Client.SkipAddresses }),
	}
	n := len(rows)
	rows[n-2].NoFlag, rows[n-1].NoFlag = true, true
	rows[n-1].More = "They are only checked at --listen-metrics-urls."
	rows[3].More = "Only etcd's gateway connects to itself; here the files are loaded, and their end is watched."
	rows[0].More, rows[5].More, rows[7].More = reloads, reloads+" In PEM or DER form.", reloads
	return rows
}

func peerTLSRows() []Setting {
	const in = "peer-transport-security."
	rows := []Setting{
		secure("peer-cert-file", in+"cert-file", Text, "", "File of the certificate shown to other members.", func(c *Config) any { return &c.TLS.Peer.Cert }),
		secure("peer-key-file", in+"key-file", Text, "", "File of the key of that certificate.", func(c *Config) any { return &c.TLS.Peer.Key }),
		secure("peer-client-cert-auth", in+"client-cert-auth", Bool, "false", "Require a certificate of every other member.", func(c *Config) any { return &c.TLS.Peer.Auth }),
		secure("peer-client-cert-file", in+"client-cert-file", Text, "", "File of the certificate used towards other members, when it is another one.",
			func(c *Config) any { return &c.TLS.Peer.OwnCert }),
		secure("peer-client-key-file", in+"client-key-file", Text, "", "File of the key of that certificate.", func(c *Config) any { return &c.TLS.Peer.OwnKey }),
		secure("peer-trusted-ca-file", in+"trusted-ca-file", Text, "", "File of the CA certificates that members' certificates must match.",
			func(c *Config) any { return &c.TLS.Peer.CA }),
		secure("peer-cert-allowed-cn", in+"allowed-cn", List, "", "Common names that a member's certificate may have.", func(c *Config) any { return &c.TLS.Peer.AllowedCNs }),
		secure("peer-cert-allowed-hostname", in+"allowed-hostname", List, "", "Host names that a member's certificate may have.",
			func(c *Config) any { return &c.TLS.Peer.AllowedHostnames }),
		secure("peer-auto-tls", in+"auto-tls", Bool, "false", "Make a certificate for other members at the first start.", func(c *Config) any { return &c.TLS.Peer.Auto }),
		secure("peer-crl-file", notInFile, Text, "", "File of revoked certificates of members.", func(c *Config) any { return &c.TLS.Peer.CRL }),
		secure("peer-skip-client-san-verification", in+"skip-client-san-verification", Bool, "false", "Do not check the addresses in members' certificates.",
			func(c *Config) any { return &c.TLS.Peer.SkipAddresses }),
	}
	rows[0].More, rows[5].More, rows[9].More = reloads, reloads, reloads+" In PEM or DER form."
	rows[8].More = "Members do not verify each other's certificates then: only the traffic is hidden."
	return rows
}

func webRows() []Setting {
	return []Setting{
		{Name: "self-signed-cert-validity", Kind: Uint, Default: "1", Help: "Years that self-made certificates are valid.",
			at: func(c *Config) any { return &c.TLS.SelfMadeYears }},
		{Name: "cipher-suites", Kind: List, Help: "TLS cipher suites, by their Go names; empty for Go's choice.",
			at: func(c *Config) any { return &c.TLS.CipherSuites }},
		{Name: "tls-min-version", Default: "TLS1.2", Help: "Lowest TLS version: TLS1.2 or TLS1.3.", at: func(c *Config) any { return &c.TLS.Min }},
		{Name: "tls-max-version", Help: "Highest TLS version: TLS1.2, TLS1.3, or empty for Go's choice.", at: func(c *Config) any { return &c.TLS.Max }},
		{Name: "cors", Kind: Origins, Default: "*", Help: "Origins whose pages may use the HTTP endpoint; * or empty for all.",
			at: func(c *Config) any { return &c.HTTP.CORS }},
		{Name: "host-whitelist", Kind: Hosts, Default: "*", Help: "Host names that HTTP requests without TLS may ask for; * or empty for all.",
			at: func(c *Config) any { return &c.HTTP.Hosts }},
	}
}

func authRows() []Setting {
	return []Setting{
		{Name: "auth-token", Default: TokenSimple, Help: "Kind of authentication token.",
			More: "simple, or jwt,pub-key=FILE,priv-key=FILE,sign-method=METHOD,ttl=5m.",
			at:   func(c *Config) any { return &c.Auth.Token }},
		{Name: "bcrypt-cost", Kind: Uint, Default: "10", Help: "Cost of password hashes, from 4 to 31.",
			at: func(c *Config) any { return &c.Auth.BcryptCost }},
		{Name: "auth-token-ttl", Kind: Uint, Default: "300", Help: "Life of a simple token since its last use, in seconds.",
			at: func(c *Config) any { return &c.Auth.TokenTTLSeconds }},
	}
}
