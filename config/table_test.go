package config

import (
	"flag"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write docs/config.md instead of comparing it")

// TestTable checks the rows one by one: the default passes its own parser and is canonical, help exists, a state other
// than Active has a reason, and an active row has a field.
func TestTable(t *testing.T) {
	c := New()
	for _, s := range Settings() {
		if s.State == Historical {
			continue
		}
		if got := s.get(c); got != s.Default {
			t.Errorf("%s: default %q reads back as %q", s.Name, s.Default, got)
		}
		if s.changed(c) {
			t.Errorf("%s counts as changed in a fresh configuration", s.Name)
		}
		if s.Help == "" || (s.State != Active) != (s.Why != "") {
			t.Errorf("%s: help %q, state %s, reason %q", s.Name, s.Help, s.State, s.Why)
		}
		if s.State == Active && s.at == nil && s.Section != SectionOther {
			t.Errorf("%s is active but nothing reads it", s.Name)
		}
	}
}

// etcdFlags are the names that etcd v3.7 registers, written down apart from the table.
const etcdFlags = `advertise-client-urls auth-token auth-token-ttl auto-compaction-mode auto-compaction-retention auto-tls
backend-batch-interval backend-batch-limit backend-bbolt-freelist-type bcrypt-cost bootstrap-defrag-threshold-megabytes cert-file
cipher-suites client-cert-allowed-hostname client-cert-auth client-cert-file client-crl-file client-key-file cluster-active-size
cluster-remove-delay cluster-sync-interval compact-hash-check-time compaction-batch-limit compaction-sleep-interval config config-file
corrupt-check-time cors data-dir discovery-cacert discovery-cert discovery-dial-timeout discovery-endpoints discovery-fallback
discovery-insecure-skip-tls-verify discovery-insecure-transport discovery-keepalive-time discovery-keepalive-timeout discovery-key
discovery-password discovery-request-timeout discovery-srv discovery-srv-name discovery-token discovery-user
distributed-tracing-address distributed-tracing-instance-id distributed-tracing-sampling-rate distributed-tracing-service-name
downgrade-check-time election-timeout enable-distributed-tracing enable-grpc-gateway enable-log-rotation enable-pprof feature-gates force
force-new-cluster grpc-keepalive-interval grpc-keepalive-min-time grpc-keepalive-timeout heartbeat-interval host-whitelist
initial-advertise-peer-urls initial-cluster initial-cluster-state initial-cluster-token initial-election-tick-advance key-file
listen-client-http-urls listen-client-urls listen-metrics-urls listen-peer-urls log-format log-level log-outputs
log-rotation-config-json logger max-concurrent-streams max-learners max-request-bytes max-result-buffer max-retry-attempts max-snapshots
max-txn-ops max-wals memory-mlock metrics name peer-auto-tls peer-cert-allowed-cn peer-cert-allowed-hostname peer-cert-file
peer-client-cert-auth peer-client-cert-file peer-client-key-file peer-crl-file peer-election-timeout peer-heartbeat-interval peer-key-file
peer-skip-client-san-verification peer-trusted-ca-file pre-vote quota-backend-bytes raft-read-timeout raft-write-timeout retry-interval
self-signed-cert-validity snapshot snapshot-catchup-entries snapshot-count socket-reuse-address socket-reuse-port strict-reconfig-check
test.coverprofile test.outputdir tls-max-version tls-min-version trusted-ca-file unsafe-no-fsync v v2-deprecation version vv wal-dir
warning-apply-duration warning-unary-request-duration watch-progress-notify-interval`

// ownFlags are names that etcd does not have, or not any more.
const ownFlags = `audit-log audit-log-methods audit-log-rotation auto-promote enable-v2 ui v2-mode`

func TestFlagNames(t *testing.T) {
	want := map[string]bool{}
	for _, name := range strings.Fields(etcdFlags + " " + ownFlags) {
		want[name] = true
	}
	for _, s := range Settings() {
		if s.NoFlag {
			continue
		}
		if !want[s.Name] {
			t.Errorf("flag --%s is neither one of etcd's nor of our own", s.Name)
		}
		delete(want, s.Name)
	}
	for name := range want {
		t.Errorf("flag --%s of etcd is missing", name)
	}
}

// TestDumpRoundTrip sets random settings to random valid values and reads the dump back as a config file.
func TestDumpRoundTrip(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for round := 0; round < 300; round++ {
		c := New()
		for _, s := range Settings() {
			if s.Key() == "" || s.Secret || r.IntN(3) > 0 {
				continue
			}
			text := sample(r, &s)
			if err := s.set(c, text); err != nil {
				t.Fatalf("%s=%q: %v", s.Name, text, err)
			}
		}
		for _, all := range []bool{false, true} {
			back := New()
			unknown, err := back.readFile([]byte(c.Dump(all)))
			if err != nil || len(unknown) > 0 {
				t.Fatalf("all=%t: %v, unknown keys %v in\n%s", all, err, unknown, c.Dump(all))
			}
			for _, s := range Settings() {
				if got, want := s.get(back), s.get(c); got != want && !s.Secret {
					t.Fatalf("all=%t: %s reads back as %q, was %q", all, s.Name, got, want)
				}
			}
		}
	}
}

func sample(r *rand.Rand, s *Setting) string {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	switch s.Kind {
	case Bool:
		return pick("true", "false", "T", "0")
	case Uint, Uint32:
		return pick("0", "7", "4294967295", "0x10")
	case Int:
		return pick("0", "-1", "9223372036854775807")
	case Duration:
		return pick("0", "1ns", "10m", "2562047h")
	case URLs:
		return pick("http://127.0.0.1:1", "http://[::1]:2,http://10.0.0.1:3", "unix:///tmp/q.sock")
	case Origins:
		return pick("*", "", "https://a.example:443")
	case Choice, Choices:
		return pick(s.Choices...)
	case GateSet:
		return pick("", "AllAlpha=true", "PriorityRequest=true,FastLeaseKeepAlive=false")
	}
	return pick("", "a", "b,a,b", "*", `quo"te: #`, "null", "7")
}

// TestGateSlots checks the two lists of gates against each other.
func TestGateSlots(t *testing.T) {
	if len(gates)+gateGroups != len(gateSlots) {
		t.Fatalf("%d gates and %d groups, %d slots", len(gates), gateGroups, len(gateSlots))
	}
	for i, g := range FeatureGates() {
		if gateSlots[gateGroups+i] != g.Name {
			t.Errorf("slot %d is %s, gate is %s", gateGroups+i, gateSlots[gateGroups+i], g.Name)
		}
	}
	v, err := parseGates("AllAlpha=true,PriorityRequest=false,AllBeta=false")
	if err != nil {
		t.Fatal(err)
	}
	g := v.(Gates)
	for name, want := range map[string]bool{"LeaseCheckpoint": true, "PriorityRequest": false, "FastLeaseKeepAlive": false} {
		if g.Enabled(name) != want {
			t.Errorf("%s is %t", name, !want)
		}
	}
}

// TestDocument compares docs/config.md with the table; with -update it writes the file.
func TestDocument(t *testing.T) {
	const path = "../docs/config.md"
	if *update {
		if err := os.WriteFile(path, []byte(Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != Markdown() {
		t.Errorf("%s differs from the table: run go test ./config -update", path)
	}
}

// TestHelp checks that every flag an operator can use is listed once.
func TestHelp(t *testing.T) {
	help := Help()
	for _, s := range Settings() {
		want := 1
		if s.State == Historical || s.NoFlag {
			want = 0
		}
		if n := strings.Count(help, "  --"+s.Name+" '"); n != want {
			t.Errorf("--%s appears %d times", s.Name, n)
		}
	}
}

// FuzzFile checks that no file makes the reader panic, and that what it accepts survives a dump.
func FuzzFile(f *testing.F) {
	f.Add([]byte("name: a\nelection-timeout: 2000\n"))
	f.Add([]byte(`{"client-transport-security":{"cert-file":"x"},"log-outputs":["a","b"]}`))
	f.Add([]byte("grpc-keepalive-interval: 600000000000\ncors: '*'\nunknown: {a: [1]}\n"))
	f.Add([]byte("a: &x [*x]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := New()
		if _, err := c.readFile(text); err != nil {
			return
		}
		back := New()
		if _, err := back.readFile([]byte(c.Dump(false))); err != nil {
			t.Fatalf("dump of an accepted file: %v\n%s", err, c.Dump(false))
		}
		if again := back.Dump(false); again != c.Dump(false) {
			t.Fatalf("dump changed:\n%s\nbecame\n%s", c.Dump(false), again)
		}
	})
}
