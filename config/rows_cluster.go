package config

const (
	whyMembers   = "members are not compared or caught up by this setting yet"
	whyDiscovery = "the discovery service is asked without a user yet"
)

func clusterRows() []Setting {
	return []Setting{
		{Name: "initial-advertise-peer-urls", Kind: URLs, Default: defaultPeerURL, Help: "Addresses of this member for the other members.",
			at: func(c *Config) any { return &c.Cluster.AdvertisePeer }},
		{Name: "initial-cluster", Default: DefaultName + "=" + defaultPeerURL, Help: "Members of a new cluster, as name=peer-URL pairs.",
			More: "When not set, it follows from --name and --initial-advertise-peer-urls. With existing data the setting is ignored.",
			at:   func(c *Config) any { return &c.Cluster.Initial }},
		{Name: "initial-cluster-state", Kind: Choice, Default: StateNew, Choices: []string{StateNew, StateExisting},
			Help: "Whether to found a new cluster or to join an existing one.",
			More: "To join (\"existing\"), add the member first; --initial-cluster then names all members. With existing data the setting is ignored.",
			at:   func(c *Config) any { return &c.Cluster.State }},
		{Name: "initial-cluster-token", Default: "etcd-cluster", Help: "Word that makes the ids of this cluster differ from those of others.",
			at: func(c *Config) any { return &c.Cluster.Token }},
		{Name: "advertise-client-urls", Kind: URLs, Default: defaultClientURL, Help: "Addresses of this member for clients.",
			at: func(c *Config) any { return &c.Cluster.AdvertiseClient }},
		{Name: "strict-reconfig-check", Kind: Bool, Default: "true", Help: "Refuse membership changes that would lose the quorum.",
			at: func(c *Config) any { return &c.Cluster.StrictReconfig }},
		{Name: "auto-promote", Kind: Bool, Default: "false", Help: "Have this member, when it leads, make learners voters as soon as they are ready.",
			More: "Not a setting of etcd. Give it to all members.", at: func(c *Config) any { return &c.Cluster.AutoPromote }},
		{Name: "pre-vote", Kind: Bool, Default: "true", Help: "Ask for votes on trial first, so that a returning member does not disturb the leader.",
			at: func(c *Config) any { return &c.Raft.PreVote }},
		{Name: "auto-compaction-retention", Default: "0", Help: "How much history automatic compaction keeps; 0 switches it off.",
			More: "In mode periodic a duration such as 30m, or a number of hours; in mode revision a number of revisions. In the config file a string.",
			at:   func(c *Config) any { return &c.Store.CompactionRetention }},
		{Name: "auto-compaction-mode", Default: CompactionPeriodic, Help: "What --auto-compaction-retention counts: periodic or revision.",
			at: func(c *Config) any { return &c.Store.CompactionMode }},
		{Name: "v2-deprecation", Kind: Choices, Choices: []string{"write-only", "write-only-skip-check", "write-only-drop-data", "gone"},
			State: NoEffect, Why: "there is no v2 store", Help: "Stage of the removal of the v2 store."},
	}
}

func discoveryRows() []Setting {
	later := func(name, file string, kind Kind, def, help string) Setting {
		return Setting{Name: name, File: file, Kind: kind, Default: def, State: Later, Why: whyDiscovery, Help: help}
	}
	idle := func(name, file, def, help string) Setting {
		return Setting{Name: name, File: file, Kind: Duration, Default: def, State: NoEffect, Why: "each question to the discovery service has its own connection", Help: help}
	}
	return []Setting{
		{Name: "discovery-token", File: "discovery-config.token", Help: "Discovery: token of the cluster to form.",
			at: func(c *Config) any { return &c.Finding.Token }},
		{Name: "discovery-endpoints", File: "discovery-config.endpoints", Kind: Outputs,
			Help: "Discovery: addresses of a running cluster in which the members of a new one find each other, in place of --initial-cluster.",
			More: "Its key /_etcd/registry/TOKEN/_config/size holds how many they are. With existing data the setting is ignored.",
			at:   func(c *Config) any { return &c.Finding.Endpoints }},
		{Name: "discovery-dial-timeout", File: "discovery-config.dial-timeout", Kind: Duration, Default: "2s", Help: "Discovery: time to connect.",
			at: func(c *Config) any { return &c.Finding.DialTimeout }},
		{Name: "discovery-request-timeout", File: "discovery-config.request-timeout", Kind: Duration, Default: "5s", Help: "Discovery: time for a request.",
			at: func(c *Config) any { return &c.Finding.RequestTimeout }},
		idle("discovery-keepalive-time", "discovery-config.keepalive-time", "2s", "Discovery: time between pings."),
		idle("discovery-keepalive-timeout", "discovery-config.keepalive-timeout", "6s", "Discovery: time to wait for the answer to a ping."),
		{Name: "discovery-insecure-transport", File: "discovery-config.secure.insecure-transport", Kind: Bool, Default: "true", Help: "Discovery: connect without TLS.",
			More: "Endpoints with https:// always use TLS, and so do those without http:// when a certificate or CA is given.",
			at:   func(c *Config) any { return &c.Finding.Insecure }},
		{Name: "discovery-insecure-skip-tls-verify", File: "discovery-config.secure.insecure-skip-tls-verify", Kind: Bool, Default: "false",
			Help: "Discovery: do not verify the service's certificate; for tests only.", at: func(c *Config) any { return &c.Finding.SkipVerify }},
		{Name: "discovery-cert", File: "discovery-config.secure.cert", Help: "Discovery: file of the client certificate.",
			at: func(c *Config) any { return &c.Finding.Cert }},
		{Name: "discovery-key", File: "discovery-config.secure.key", Help: "Discovery: file of the client key.",
			at: func(c *Config) any { return &c.Finding.Key }},
		{Name: "discovery-cacert", File: "discovery-config.secure.cacert", Help: "Discovery: file of the CA certificates that the service must match.",
			at: func(c *Config) any { return &c.Finding.CA }},
		later("discovery-user", "discovery-config.auth.username", Text, "", "Discovery: user, or user:password."),
		{Name: "discovery-password", File: "discovery-config.auth.password", State: Later, Why: whyDiscovery, Secret: true,
			Help: "Discovery: password."},
		{Name: "discovery-fallback", Kind: Choice, Default: "exit", Choices: []string{"exit", "proxy"}, State: NoEffect, File: notInFile,
			Why: "a failed discovery always ends the start", Help: "What to do when discovery fails; only exit is possible."},
		{Name: "discovery-srv", Help: "DNS domain whose SRV records name the members of a new cluster, in place of --initial-cluster.",
			More: "Asked are _etcd-server-ssl._tcp.DOMAIN (https) and _etcd-server._tcp.DOMAIN (http). With existing data the setting is ignored.",
			at:   func(c *Config) any { return &c.Finding.SRVDomain }},
		{Name: "discovery-srv-name", Help: "Suffix of the service name in the SRV records, as in _etcd-server-SUFFIX._tcp.DOMAIN.",
			at: func(c *Config) any { return &c.Finding.SRVSuffix }},
	}
}
