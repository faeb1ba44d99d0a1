package config

const whyTLS = "TLS is not supported yet, and serving without it would expose the data"

// secure is a row whose silent loss would weaken what the operator asked for.
func secure(name, file string, kind Kind, def, help string) Setting {
	return Setting{Name: name, File: file, Kind: kind, Default: def, State: Refused, Why: whyTLS, Help: help}
}

func clientTLSRows() []Setting {
	const in = "client-transport-security."
	cn := secure("client-cert-allowed-cn", in+"allowed-cn", List, "", "Common names that a client certificate may have.")
	san := secure("client-skip-client-san-verification", in+"skip-client-san-verification", Bool, "false", "Do not check the addresses in client certificates.")
	cn.NoFlag, san.NoFlag = true, true
	return []Setting{
		secure("cert-file", in+"cert-file", Text, "", "File of the certificate shown to clients."),
		secure("key-file", in+"key-file", Text, "", "File of the key of that certificate."),
		secure("client-cert-auth", in+"client-cert-auth", Bool, "false", "Require a certificate of every client."),
		secure("client-cert-file", in+"client-cert-file", Text, "", "File of the certificate that the server itself uses as a client."),
		secure("client-key-file", in+"client-key-file", Text, "", "File of the key of that certificate."),
		secure("client-crl-file", notInFile, Text, "", "File of revoked client certificates."),
		secure("client-cert-allowed-hostname", in+"allowed-hostname", List, "", "Host names that a client certificate may have."),
		secure("trusted-ca-file", in+"trusted-ca-file", Text, "", "File of the CA certificates that client certificates must match."),
		secure("auto-tls", in+"auto-tls", Bool, "false", "Make a certificate for clients at the first start."),
		cn, san,
	}
}

func peerTLSRows() []Setting {
	const in = "peer-transport-security."
	return []Setting{
		secure("peer-cert-file", in+"cert-file", Text, "", "File of the certificate shown to other members."),
		secure("peer-key-file", in+"key-file", Text, "", "File of the key of that certificate."),
		secure("peer-client-cert-auth", in+"client-cert-auth", Bool, "false", "Require a certificate of every other member."),
		secure("peer-client-cert-file", in+"client-cert-file", Text, "", "File of the certificate used towards other members, when it is another one."),
		secure("peer-client-key-file", in+"client-key-file", Text, "", "File of the key of that certificate."),
		secure("peer-trusted-ca-file", in+"trusted-ca-file", Text, "", "File of the CA certificates that members' certificates must match."),
		secure("peer-cert-allowed-cn", in+"allowed-cn", List, "", "Common names that a member's certificate may have."),
		secure("peer-cert-allowed-hostname", in+"allowed-hostname", List, "", "Host names that a member's certificate may have."),
		secure("peer-auto-tls", in+"auto-tls", Bool, "false", "Make a certificate for other members at the first start."),
		secure("peer-crl-file", notInFile, Text, "", "File of revoked certificates of members."),
		secure("peer-skip-client-san-verification", in+"skip-client-san-verification", Bool, "false", "Do not check the addresses in members' certificates."),
	}
}

func webRows() []Setting {
	const why = "TLS is not supported yet"
	return []Setting{
		{Name: "self-signed-cert-validity", Kind: Uint, Default: "1", State: Later, Why: why, Help: "Years that self-made certificates are valid."},
		{Name: "cipher-suites", Kind: List, State: Later, Why: why, Help: "TLS cipher suites, by their Go names; empty for Go's choice."},
		{Name: "tls-min-version", Default: "TLS1.2", State: Later, Why: why, Help: "Lowest TLS version: TLS1.2 or TLS1.3."},
		{Name: "tls-max-version", State: Later, Why: why, Help: "Highest TLS version: TLS1.2, TLS1.3, or empty for Go's choice."},
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
