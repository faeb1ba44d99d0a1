package config

func monitoringRows() []Setting {
	return []Setting{
		{Name: "enable-pprof", Kind: Bool, Default: "false", Help: "Serve Go profiles under /debug/pprof/, and under /debug/flight an execution trace of the last ten seconds, for go tool trace.",
			at: func(c *Config) any { return &c.HTTP.Pprof }},
		{Name: "metrics", Default: "basic", Help: "Detail of metrics: basic, or extensive with latency histograms per gRPC method.",
			at: func(c *Config) any { return &c.HTTP.Metrics }},
		{Name: "ui", Kind: Choice, Choices: []string{UIAuto, UIOn, UIOff}, Default: UIAuto,
			Help: "Who gets the web page under /ui: auto, requests that arrive on a loopback address; on, all that reach a client address; off, nobody.",
			More: "Not a setting of etcd. The page shows what its user may read and changes nothing; it needs the JSON gateway. docs/ui.md tells more.",
			at:   func(c *Config) any { return &c.HTTP.UI }},
		{Name: "listen-metrics-urls", Kind: URLs, Help: "Where to serve only /metrics, /health, /livez and /readyz.",
			at: func(c *Config) any { return &c.Listen.Metrics }},
	}
}

func loggingRows() []Setting {
	return []Setting{
		{Name: "logger", Default: "zap", State: NoEffect, Why: "there is one logger", Help: "The logger; only zap."},
		{Name: "log-outputs", Kind: Outputs, Default: LogDefault, Help: "Where the log goes: default, stderr, stdout, systemd/journal or file paths.",
			More: "default is stderr. /dev/null discards everything.",
			at:   func(c *Config) any { return &c.Log.Outputs }},
		{Name: "log-level", Default: "info", Help: "Lowest level that is logged: debug, info, warn, error, panic or fatal.",
			at: func(c *Config) any { return &c.Log.Level }},
		{Name: "log-format", Default: "json", Help: "Form of the log: json or console.",
			at: func(c *Config) any { return &c.Log.Format }},
		{Name: "enable-log-rotation", Kind: Bool, Default: "false", Help: "Start a new log file when the current one is full; needs one file in --log-outputs.",
			at: func(c *Config) any { return &c.Log.Rotate }},
		{Name: "log-rotation-config-json", Default: `{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}`,
			Help: "How log files rotate, as a JSON object.",
			More: rotationMore,
			at:   func(c *Config) any { return &c.Log.Rotation }},
		{Name: "warning-unary-request-duration", Kind: Duration, Default: "300ms", Help: "Requests slower than this are logged.",
			at: func(c *Config) any { return &c.RPC.WarnUnary }},
	}
}

func tracingRows() []Setting {
	const why = "tracing is not supported yet"
	return []Setting{
		{Name: "enable-distributed-tracing", Kind: Bool, Default: "false", State: Later, Why: why, Help: "Send traces to an OpenTelemetry collector."},
		{Name: "distributed-tracing-address", Default: "localhost:4317", State: Later, Why: why, Help: "Address of the collector."},
		{Name: "distributed-tracing-service-name", Default: "etcd", State: Later, Why: why, Help: "Service name in traces, the same for all members."},
		{Name: "distributed-tracing-instance-id", State: Later, Why: why, Help: "Instance id in traces, unique for every member."},
		{Name: "distributed-tracing-sampling-rate", Kind: Int, Default: "0", State: Later, Why: why, Help: "Traced requests per million."},
	}
}

func featureRows() []Setting {
	return []Setting{
		{Name: "corrupt-check-time", Kind: Duration, Default: "0s", Help: "Time between comparisons of all data with the other members; 0 switches them off.",
			More: "Each member reads its whole store for it.",
			at:   func(c *Config) any { return &c.Checks.Every }},
		{Name: "compact-hash-check-time", Kind: Duration, Default: "1m0s", Help: "Time between comparisons of the hashes that members compute at compactions; above 0.",
			More: "On unless --feature-gates=CompactHashCheck=false.",
			at:   func(c *Config) any { return &c.Checks.Compactions }},
		{Name: "compaction-batch-limit", Kind: Int, Default: "0", State: NoEffect, Why: "compaction adapts its own pace",
			Help: "Most revisions removed in one batch; 0 means 1000."},
		{Name: "compaction-sleep-interval", Kind: Duration, Default: "0s", State: NoEffect, Why: "compaction yields to writes by itself",
			Help: "Pause between batches of a compaction."},
		{Name: "watch-progress-notify-interval", Kind: Duration, Default: "0s", Help: "Time between progress notifications of watches; 0 means 10m.",
			at: func(c *Config) any { return &c.RPC.WatchProgress }},
		{Name: "warning-apply-duration", Kind: Duration, Default: "100ms", Help: "Commands that take longer to apply are logged.",
			at: func(c *Config) any { return &c.RPC.WarnApply }},
		{Name: "bootstrap-defrag-threshold-megabytes", Kind: Uint, Default: "0", State: NoEffect, Why: "the engine needs no defragmentation",
			Help: "Defragment at start when it frees at least this many megabytes."},
		{Name: "max-learners", Kind: Int, Default: "1", Help: "Most learners in the cluster; the same for all members.",
			at: func(c *Config) any { return &c.Cluster.MaxLearners }},
		{Name: "downgrade-check-time", Kind: Duration, Default: "5s", State: Later, Why: whyMembers, Help: "Time between checks of a running downgrade."},
	}
}

func unsafeRows() []Setting {
	return []Setting{
		{Name: "force-new-cluster", Kind: Bool, Default: "false", Help: "Make a cluster of this member alone out of its data.",
			More: "For when a majority is lost for good. All other members are removed; they must never be started again with their data. Leave it out afterwards.",
			at:   func(c *Config) any { return &c.Cluster.ForceNew }},
		{Name: "unsafe-no-fsync", Kind: Bool, Default: "false", Help: "Do not wait for the disk. A power loss then loses acknowledged writes.",
			at: func(c *Config) any { return &c.Store.UnsafeNoFsync }},
	}
}

func otherRows() []Setting {
	rows := []Setting{
		{Name: "config-file", File: notInFile, Help: "YAML or JSON file with settings; all other flags and variables are then ignored.",
			More: "Durations in the file are integer nanoseconds (600000000000 for 10m)."},
		{Name: "version", Kind: Bool, Default: "false", File: notInFile, Help: "Print the version and exit."},
	}
	for _, name := range []string{"cluster-active-size", "cluster-remove-delay", "cluster-sync-interval", "config", "force", "max-result-buffer",
		"max-retry-attempts", "peer-heartbeat-interval", "peer-election-timeout", "retry-interval", "snapshot", "v", "vv",
		"test.coverprofile", "test.outputdir"} {
		rows = append(rows, Setting{Name: name, File: notInFile, State: Historical, Why: "it belongs to very old releases",
			Help: "Accepted for old command lines, ignored."})
	}
	return rows
}
