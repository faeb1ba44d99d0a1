package cli_test

import (
	"regexp"
	"strings"
	"testing"

	"quorate.dev/quorate/cli"
)

// matches runs a command line and compares stdout with a pattern.
func matches(t *testing.T, ep, args string, code int, pattern string) {
	t.Helper()
	l := begin(t, cli.Main, nil, nil, append([]string{"--endpoints", ep}, strings.Fields(args)...)...)
	if got := l.wait(t); got != code || !regexp.MustCompile("^(?s:"+pattern+")$").MatchString(l.out.String()) {
		t.Errorf("%s: %d\n%s%s\nwant %s", args, got, l.out.String(), l.err.String(), pattern)
	}
}

// TestCluster: members and endpoints, in the formats that have them.
func TestCluster(t *testing.T) {
	ep := start(t)
	const id = "[0-9a-f]{1,16}"
	for _, c := range []struct {
		args string
		code int
		out  string
	}{
		{"member list", 0, id + `, started, default, http://127.0.0.1:\d+, http://127.0.0.1:\d+, false\n`},
		{"member list -w table", 0, `┌─+┬─+┬─+┬─+┬─+┬─+┐\n│ +ID +│ STATUS +│ +NAME +│ +PEER ADDRS +│ +CLIENT ADDRS +│ IS LEARNER │\n├.*└.*┘\n`},
		{"member list -w json --hex", 0, `{"header":{"cluster_id":"` + id + `","member_id":"` + id + `","raft_term":2},"members":\[{"ID":"` + id + `","name":"default","peerURLs":\["[^"]+"\],"clientURLs":\["[^"]+"\]}\]}\n`},
		{"member list --consistency=x", 4, ""},
		{"member add n --peer-urls=http://127.0.0.1:1 --learner", 0, `Member +` + id + ` added as learner to cluster +` + id + `\n\nETCD_NAME="n"\nETCD_INITIAL_CLUSTER="[^"]+"\nETCD_INITIAL_ADVERTISE_PEER_URLS="http://127.0.0.1:1"\nETCD_INITIAL_CLUSTER_STATE="existing"\n`},
		{"member add n http://x", 128, ""},
		{"member remove zz", 128, ""},
		{"endpoint health", 0, ep + ` is healthy: successfully committed proposal: took = [0-9.]+[µm]?s\n`},
		{"endpoint health --cluster -w json", 0, `\[{"endpoint":"http://` + ep + `","health":true,"took":"[^"]+"}\]\n`},
		{"endpoint status", 0, ep + ", " + id + `, 3\.7\.\d+, 3\.7\.0, [^,]+B, [^,]+B, \d+%, [^,]+B, true, false, 2, \d+, \d+, , , false\n`},
		{"endpoint status -w fields", 0, `"ClusterID" : .*"DowngradeEnabled" : false\n\n`},
		{"endpoint hashkv --rev=1", 0, ep + `, \d+, 1\n`},
		{"endpoint hashkv -w protobuf", 4, ""},
		{"endpoint status --endpoints=127.0.0.1:1 --command-timeout=100ms", 1, ep + ".*"},
		{"alarm list", 0, ""},
		{"alarm disarm -w json", 0, `{}\n`},
		{"defrag", 0, `Finished defragmenting etcd member\[` + ep + `\]. took [0-9.]+[µm]?s\n`},
		{"move-leader 1", 1, ""},
		{"downgrade validate 3.6", 0, `Downgrade validate success, cluster version 3.7\n`},
		{"downgrade enable", 128, ""},
		{"version", 0, "etcdctl version: 3.7.3\nAPI version: 3.7\n"},
	} {
		matches(t, ep, c.args, c.code, c.out)
	}
}

// TestAuth: users, roles and passwords from enabling to disabling.
func TestAuth(t *testing.T) {
	ep := start(t)
	for _, c := range []struct {
		stdin, args string
		code        int
		out, errs   string
	}{
		{"", "auth status", 0, "Authentication Status: false\nAuthRevision: 1\n", ""},
		{"secret\nsecret\n", "user add root", 0, "Password of root: \nType password of root again for confirmation: \nUser root created\n", ""},
		{"one\ntwo\n", "user add alice", 128, "Password of alice: \nType password of alice again for confirmation: \n", "Error: given passwords are different\n"},
		{"pw\n", "user add alice --interactive=false", 0, "User alice created\n", ""},
		{"", "user add bob:pw", 0, "User bob created\n", ""},
		{"", "user add carol --no-password", 0, "User carol created\n", ""},
		{"", "user add :pw", 128, "", "Error: empty user name is not allowed\n"},
		{"", "role add r", 0, "Role r created\n", ""},
		{"", "role grant-permission r read a b", 0, "Role r updated\n", ""},
		{"", "role grant-permission r readwrite k/ --prefix", 0, "Role r updated\n", ""},
		{"", "role grant-permission r write z --from-key", 0, "Role r updated\n", ""},
		{"", "role grant-permission r sudo a", 128, "", "Error: invalid permission type: sudo\n"},
		{"", "role get r", 0, "Role r\nKV Read:\n\t[a, b) (prefix a)\n\t[k/, k0) (prefix k/)\nKV Write:\n\t[k/, k0) (prefix k/)\n\t[z, <open ended>\n", ""},
		{"", "role revoke-permission r z --from-key", 0, "Permission of range [z, <open ended> is revoked from role r\n", ""},
		{"", "role list", 0, "r\n", ""},
		{"", "user grant-role alice r", 0, "Role r is granted to user alice\n", ""},
		{"", "user get alice", 0, "User: alice\nRoles: r\n", ""},
		{"", "user get alice -w fields", 4, "", "Error: fields not supported as output format\n"},
		{"", "user list", 0, "alice\nbob\ncarol\nroot\n", ""},
		{"", "auth enable", 0, "Authentication Enabled\n", ""},
		{"", "get a", 1, "", "Error: etcdserver: user name is empty\n"},
		{"", "--user root:wrong get a", 2, "", "Error: etcdserver: authentication failed, invalid user ID or password\n"},
		{"secret\n", "--user root put a 1", 0, "Password: \nOK\n", ""},
		{"", "--user alice --password pw get a", 0, "a\n1\n", ""},
		{"", "--user alice:pw put a 2", 1, "", "Error: etcdserver: permission denied\n"},
		{"", "--user root:secret user get alice --detail", 0, "User: alice\n\nRole r\nKV Read:\n\t[a, b) (prefix a)\n\t[k/, k0) (prefix k/)\nKV Write:\n\t[k/, k0) (prefix k/)\n", ""},
		{"new\n", "--user root:secret user passwd bob --interactive=false", 0, "Password updated\n", ""},
		{"", "--user root:secret user revoke-role alice r", 0, "Role r is revoked from user alice\n", ""},
		{"", "--user root:secret user delete bob", 0, "User bob deleted\n", ""},
		{"", "--user root:secret role get root", 0, "Role root\nKV Read:\n\t[, <open ended>\nKV Write:\n\t[, <open ended>\n", ""},
		{"", "--user root:secret role delete r", 0, "Role r deleted\n", ""},
		{"", "--user root:secret auth disable", 0, "Authentication Disabled\n", ""},
	} {
		expect(t, ep, c.stdin, c.args, c.code, c.out, c.errs)
	}
}

// TestCheckPerf: a verdict, nothing left behind, and no work on keys of somebody else.
func TestCheckPerf(t *testing.T) {
	ep := start(t)
	code, out, errs := ctl(t, ep, "", "check", "perf", "--seconds=1", "--auto-compact")
	if (code != 0 && code != 1) || errs != "" || !regexp.MustCompile(`^Compacting with revision \d+\nCompacted with revision \d+\n(PASS|FAIL): Throughput .*\n.*\n.*\n(PASS|FAIL)\n$`).MatchString(out) {
		t.Errorf("%d %q %q", code, out, errs)
	}
	expect(t, ep, "", "get --prefix /etcdctl-check-perf/", 0, "", "")
	expect(t, ep, "", "put /etcdctl-check-perf/mine 1", 0, "OK\n", "")
	expect(t, ep, "", "check perf", 3, "", "Error: prefix \"/etcdctl-check-perf/\" has keys. Delete with 'etcdctl del --prefix /etcdctl-check-perf/' first\n")
	expect(t, ep, "", "check perf --load=huge", 4, "", "Error: unknown load option huge\n")
}
