package config

import (
	"strconv"

	"quorate.dev/quorate/limits"
)

func memberRows() []Setting {
	return append(identityRows(), append(listenRows(), append(storeRows(), rpcRows()...)...)...)
}

func identityRows() []Setting {
	return []Setting{
		{Name: "name", Default: DefaultName, Help: "Name of this member, for humans; unique in the cluster.",
			at: func(c *Config) any { return &c.Member.Name }},
		{Name: "data-dir", Help: "Directory of everything that must survive a restart.",
			More: "Default: the member's name plus .quorate (plus .etcd when the program is called etcd), in the working directory.",
			at:   func(c *Config) any { return &c.Member.DataDir }},
		{Name: "wal-dir", Help: "Directory of the log, when it shall be on another disk than the data.",
			at: func(c *Config) any { return &c.Member.WALDir }},
		{Name: "snapshot-count", Kind: Uint, Default: "10000", Help: "Applied entries that come together before old ones are let go of.",
			More: "The log on disk is cut by what the engine has made durable, whatever this says.",
			at:   func(c *Config) any { return &c.Raft.SnapshotCount }},
		{Name: "snapshot-catchup-entries", Kind: Uint, Default: "5000", Help: "Entries kept in memory for slow followers; one further behind gets a snapshot.",
			More: "Large entries are let go of earlier. 0 means the default.",
			at:   func(c *Config) any { return &c.Raft.CatchUp }},
		{Name: "max-snapshots", Kind: Uint, Default: "5", State: NoEffect, Why: "there are no snapshot files to keep",
			Help: "Snapshot files to keep."},
		{Name: "max-wals", Kind: Uint, Default: "5", State: NoEffect, Why: "log files are reused as soon as they are not needed",
			Help: "Log files to keep."},
		{Name: "heartbeat-interval", Kind: Uint, Default: "100", Help: "Time between heartbeats of the leader, in milliseconds.",
			More: "Also in the config file this is a plain number of milliseconds.",
			at:   func(c *Config) any { return &c.Raft.HeartbeatMillis }},
		{Name: "election-timeout", Kind: Uint, Default: "1000", Help: "Time without a heartbeat after which members elect a leader, in milliseconds.",
			More: "At least five heartbeats, at most 50000.",
			at:   func(c *Config) any { return &c.Raft.ElectionMillis }},
		{Name: "initial-election-tick-advance", Kind: Bool, Default: "true", Help: "Start the first election without waiting a full election timeout.",
			More: "A member that is alone elects itself at once in any case.",
			at:   func(c *Config) any { return &c.Raft.TickAdvance }},
		{Name: "memory-mlock", Kind: Bool, Default: "false", State: Later, Why: "keeping pages in memory is not supported yet",
			Help: "Keep the store's pages in memory."},
	}
}

func listenRows() []Setting {
	return []Setting{
		{Name: "listen-peer-urls", Kind: URLs, Default: defaultPeerURL, Help: "Where to accept connections of other members.",
			at: func(c *Config) any { return &c.Listen.Peer }},
		{Name: "listen-client-urls", Kind: URLs, Default: defaultClientURL, Help: "Where to accept clients.",
			More: "One address serves gRPC and HTTP. Setting it requires --advertise-client-urls.",
			at:   func(c *Config) any { return &c.Listen.Client }},
		{Name: "listen-client-http-urls", Kind: URLs, Help: "Where to accept HTTP clients apart from gRPC clients.",
			More: "When set, --listen-client-urls serves gRPC only.",
			at:   func(c *Config) any { return &c.Listen.ClientHTTP }},
		{Name: "socket-reuse-port", Kind: Bool, Default: "false", File: "socket-options.reuse-port",
			Help: "Set SO_REUSEPORT, so that several processes may listen on one port.",
			at:   func(c *Config) any { return &c.Listen.ReusePort }},
		{Name: "socket-reuse-address", Kind: Bool, Default: "false", File: "socket-options.reuse-address",
			Help: "Set SO_REUSEADDR, so that a port in TIME_WAIT can be bound.",
			at:   func(c *Config) any { return &c.Listen.ReuseAddress }},
	}
}

func storeRows() []Setting {
	return []Setting{
		{Name: "quota-backend-bytes", Kind: Int, Default: "0", Help: "Most bytes of live data; beyond it, writes that grow the store are refused.",
			More: "0 means " + strconv.Itoa(limits.QuotaBytesDefault) + " (2 GiB); negative means no quota. Deletes and compaction stay possible, and the alarm clears itself once space is back.",
			at:   func(c *Config) any { return &c.Store.QuotaBytes }},
		{Name: "backend-bbolt-freelist-type", Default: "map", State: NoEffect, Why: "the engine has no free list",
			Help: "Kind of free list of the bbolt engine."},
		{Name: "backend-batch-interval", Kind: Duration, Default: "0s", State: NoEffect, Why: "the log alone makes writes durable",
			Help: "Longest time between commits of the engine."},
		{Name: "backend-batch-limit", Kind: Int, Default: "0", State: NoEffect, Why: "the log alone makes writes durable",
			Help: "Most operations between commits of the engine."},
		{Name: "max-txn-ops", Kind: Uint, Default: strconv.Itoa(limits.TxnOps), Help: "Most operations in one list of a transaction.",
			at: func(c *Config) any { return &c.Store.MaxTxnOps }},
		{Name: "max-request-bytes", Kind: Uint, Default: strconv.Itoa(limits.RequestBytes), Help: "Largest request, in bytes.",
			at: func(c *Config) any { return &c.Store.MaxRequestBytes }},
	}
}

func rpcRows() []Setting {
	return []Setting{
		{Name: "max-concurrent-streams", Kind: Uint32, Default: "4294967295", Help: "Most streams that one connection may have open.",
			at: func(c *Config) any { return &c.RPC.MaxStreams }},
		{Name: "grpc-keepalive-min-time", Kind: Duration, Default: "5s", Help: "Shortest time that a client must leave between two pings.",
			at: func(c *Config) any { return &c.RPC.KeepaliveMinTime }},
		{Name: "grpc-keepalive-interval", Kind: Duration, Default: "2h0m0s", Help: "Idle time after which the server pings a client; 0 never.",
			at: func(c *Config) any { return &c.RPC.KeepaliveInterval }},
		{Name: "grpc-keepalive-timeout", Kind: Duration, Default: "20s", Help: "Time to wait for the answer to a ping before closing; 0 for the built-in 20s.",
			at: func(c *Config) any { return &c.RPC.KeepaliveTimeout }},
		{Name: "enable-grpc-gateway", Kind: Bool, Default: "true", Help: "Serve JSON over HTTP under /v3/.",
			at: func(c *Config) any { return &c.HTTP.Gateway }},
		{Name: "enable-v2", Kind: Bool, Default: "false", Help: "Serve etcd's v2 API under /v2/.",
			More: "As in etcd 3.4. The data of the v2 API is kept and replicated whatever this says.",
			at:   func(c *Config) any { return &c.HTTP.V2 }},
		{Name: "v2-mode", Kind: Choice, Choices: []string{V2Keep, V2Separate, V2Shared}, Default: V2Keep,
			Help: "How the v2 and the v3 API live together: separate, each with data of its own; shared, v2's files and v3's keys are the same; keep, as it is.",
			More: "Not a setting of etcd. The mode is the cluster's, separate at first, and it stays: the leader changes it to what this says when it has --enable-v2. " +
				"It is not changed to shared while a v2 file and a v3 key of the same name differ; the log says which.",
			at: func(c *Config) any { return &c.HTTP.V2Mode }},
		{Name: "raft-read-timeout", Kind: Duration, Default: "5s", State: Later, Why: "connections between members are not supported yet", File: notInFile,
			Help: "Read timeout of connections between members; at least 5s."},
		{Name: "raft-write-timeout", Kind: Duration, Default: "5s", State: Later, Why: "connections between members are not supported yet", File: notInFile,
			Help: "Write timeout of connections between members; at least 5s."},
		{Name: "feature-gates", Kind: GateSet, Help: "Feature gates, as Name=bool pairs.",
			at: func(c *Config) any { return &c.Gates }},
	}
}
