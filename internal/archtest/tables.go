package archtest

// mayImport is the import table of the architecture: what a package may import of this module. "*" allows everything.
var mayImport = map[string][]string{
	"ids":                {},
	"fault":              {},
	"limits":             {},
	"internal/clock":     {},
	"internal/invariant": {},
	"internal/arena":     {"internal/invariant"},
	"internal/disk":      {},
	"internal/canary":    {},
	"wire":               {},

	"v2store": {"limits", "wire", "storage", "internal/canary"},
	"v2hub":   {"limits", "v2store", "internal/canary"},
	"command": {"ids", "wire", "v2store"},
	"v2http":  {"ids", "fault", "limits", "wire", "member", "authn", "v2store", "internal/clock"},
	"mvcc":    {"ids", "fault", "limits", "wire", "storage", "internal/arena", "internal/invariant", "internal/canary"},
	"lease":   {"ids", "storage"},
	"member":  {"ids", "fault", "storage", "internal/canary"},
	"auth":    {"ids", "fault", "wire", "storage", "internal/canary"},
	"state":   {"ids", "fault", "limits", "wire", "command", "mvcc", "lease", "member", "auth", "v2store", "storage", "internal/invariant", "internal/canary"},

	"storage":          {"ids", "internal/clock", "internal/disk", "internal/canary"},
	"wal":              {"ids", "internal/disk", "internal/canary"},
	"internal/etcddb":  {"storage"},
	"internal/etcdwal": {},
	"node":             {"ids", "command", "storage", "limits", "fault", "internal/clock", "internal/invariant", "internal/canary"},
	"snapshot":         {"ids", "internal/clock", "internal/disk", "internal/canary"},
	"peer":             {"ids", "limits", "snapshot", "internal/clock"},
	"leader":           {"ids", "lease", "command", "limits", "fault", "wire", "internal/clock", "internal/canary"},
	"watch":            {"ids", "wire", "mvcc", "limits", "fault", "internal/clock", "internal/canary"},

	"audit":   {"limits", "internal/clock"},
	"insight": {"limits", "internal/clock"},
	"authn":   {"ids", "fault", "limits", "internal/clock"},
	"rpc":     {},
	"grpcapi": {"ids", "fault", "wire", "command", "state", "mvcc", "member", "auth", "authn", "watch", "audit", "insight", "limits", "rpc", "internal/etcddb", "storage"},
	"gateway": {"limits", "internal/clock"},
	"httpapi": {"rpc"},
	"ui":      {},
	"config":  {"limits"},
	"server":  {"*"},

	"certs":             {"limits", "fault", "internal/clock"},
	"internal/pki":      {},
	"internal/freeport": {},

	"tcpproxy":       {"internal/clock"},
	"discovery":      {"wire", "load/lean", "internal/clock"},
	"embed":          {"server", "config"},
	"load/lean":      {},
	"load":           {"load/lean", "wire", "internal/clock"},
	"load/k8s":       {"load", "load/lean", "wire", "internal/clock"},
	"proxy/upstream": {"load/lean", "rpc", "internal/clock"},
	"proxy/fan":      {"proxy/upstream", "load/lean", "rpc", "wire", "fault", "limits", "internal/clock"},
	"proxy/keep":     {"proxy/upstream", "load/lean", "rpc", "wire", "fault", "limits", "internal/clock"},
	"proxy":          {"proxy/upstream", "proxy/fan", "proxy/keep", "load/lean", "rpc", "wire", "fault", "limits", "certs", "internal/clock"},
	"cli":            {"cli/render", "limits", "internal/clock"},
	"cli/render":     {},
	"cli/offline": {
		"cli", "cli/render", "restore", "storage", "mvcc", "snapshot", "member", "wire", "fault", "ids", "internal/etcddb", "internal/clock",
	},
	"restore":          {"ids", "wire", "storage", "wal", "mvcc", "lease", "auth", "member", "internal/disk", "internal/etcddb"},
	"transfer":         {"ids", "wire", "command", "v2store", "storage", "mvcc", "member", "wal", "snapshot", "restore", "internal/clock", "internal/disk", "internal/etcddb", "internal/etcdwal"},
	"cli/transferring": {"cli", "cli/offline", "transfer", "restore", "ids", "internal/clock", "internal/etcddb", "internal/etcdwal"},
	"migrate":          {"ids", "wire", "v2store", "storage", "restore", "member", "internal/etcddb", "internal/etcdwal", "internal/disk", "internal/clock"},
	"cli/migrating":    {"cli", "cli/offline", "migrate", "restore", "member", "ids", "internal/clock"},
	"cli/kube":         {},
	"cli/verdict":      {},
	"cli/ops":          {"cli", "cli/kube", "cli/verdict", "insight", "limits", "internal/clock"},
	"cmd/quorate": {
		"proxy", "tcpproxy", "discovery", "certs", "server", "config", "load", "load/k8s", "internal/clock",
		"cli", "cli/kube", "cli/migrating", "cli/offline", "cli/ops", "cli/transferring", "cli/verdict",
	},
	"internal/archtest": {},
	"internal/check":    {},
	"internal/crash":    {"ids", "command", "member", "node", "state", "storage", "wal"},
	"internal/sim/disk": {},
	"internal/sim/world": {
		"ids", "fault", "limits", "wire", "command", "mvcc", "member", "auth", "state", "storage", "wal", "snapshot", "node", "leader", "watch",
		"v2store", "v2hub", "internal/clock", "internal/disk", "internal/check", "internal/sim/disk",
	},
	"internal/sim":   {"internal/sim/world", "internal/clock"},
	"internal/rerun": {"internal/clock"},
}

// pure packages hold the deterministic middle of the store.
var pure = []string{"ids", "wire", "internal/arena", "command", "mvcc", "lease", "member", "auth", "v2store", "state"}

// impure says what a pure package may not use, and what to do instead.
var impure = map[string]string{
	"time":         "no clock in a pure package: time comes in as a value",
	"os":           "no files in a pure package: use storage",
	"net":          "no sockets in a pure package",
	"math/rand":    "no randomness in a pure package: it comes in as a value",
	"math/rand/v2": "no randomness in a pure package: it comes in as a value",
	"crypto/rand":  "no randomness in a pure package: it comes in as a value",
	"sync":         "no locks in a pure package: one writer, immutable views (sync/atomic publishes them)",
	"log":          "no logging in a pure package: return what happened",
}

// owners lists libraries that only some packages may import.
var owners = []struct {
	library  string
	packages []string
	why      string
}{
	{"github.com/cockroachdb/pebble/v2", []string{"storage", "wal", "internal/etcddb", "snapshot", "server", "embed", "internal/crash", "internal/disk", "internal/sim/disk", "restore", "cli/offline", "transfer"}, "storage is the only door to the engine"},
	{"go.etcd.io/raft/v3", []string{"node", "wal", "member", "state", "snapshot", "peer", "server", "internal/crash", "internal/sim/world", "restore", "internal/etcdwal", "transfer", "migrate"}, "node is the only host of raft"},
	{"github.com/google/btree", []string{"v2store"}, "the v2 tree is the only ordered map that is copied as a whole; the others are our own"},
	{"go.etcd.io/bbolt", []string{"internal/etcddb"}, "etcd's file format is written and read in one place"},
	{"google.golang.org/grpc", []string{"grpcapi", "cli", "gateway"}, "rpc is the server; grpc-go is a judge in tests (grpcapi needs its reflection messages, cli the client's codes and log, and gateway is a client)"},
	{"golang.org/x/crypto/bcrypt", []string{"authn"}, "passwords are hashed and compared in one place"},
	{"github.com/golang-jwt/jwt/v5", []string{"authn"}, "JSON web tokens are made and checked in one place"},
	{"golang.org/x/net/http2", []string{"rpc", "load/lean"}, "rpc is the only HTTP/2 server, load/lean the only client"},
	{"github.com/spf13/cobra", []string{"cmd/quorate", "cli", "cli/offline"}, "commands live in cmd and cli"},
}

// bannedCalls have a better form; test says whether the rule is for tests or for the product.
var bannedCalls = []struct {
	call   string
	test   bool
	except []string
	why    string
}{
	{"time.Sleep", false, nil, "wait for the event, or use internal/clock"},
	{"time.Sleep", true, nil, "poll for the condition with a deadline, or use the manual clock"},
	{"time.Now", false, []string{"internal/clock", "rpc", "httpapi", "server", "wal", "storage", "node", "grpcapi", "cmd/quorate", "load/lean"},
		"use internal/clock, so that tests own the time"},
	{"log.Fatal", false, nil, "return the error; cmd decides about exit codes"},
	{"log.Printf", false, nil, "use the server's logger"},
	{"os.Exit", false, []string{"cmd/quorate", "server", "internal/sim", "internal/rerun"}, "return the error; cmd decides about exit codes"},
	{"context.TODO", false, nil, "pass the caller's context"},
}
