package compat

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorate.dev/quorate/test/compat/script"
)

// usersSetup makes one user of each kind, with permissions for k to l, and enables authentication.
const usersSetup = `
Put key:"k1" value:"1"
Put key:"a" value:"1"
LeaseGrant ID:70 TTL:500
Put key:"k-leased" lease:70
LeaseGrant ID:71 TTL:500
Put key:"a-leased" lease:71
LeaseGrant ID:72 TTL:500
UserAdd name:"root" password:"root"
UserAdd name:"admin" password:"admin"
UserAdd name:"reader" password:"reader"
UserAdd name:"writer" password:"writer"
UserAdd name:"both" password:"both"
UserAdd name:"norole" password:"norole"
UserAdd name:"certified" options:{no_password:true}
RoleAdd name:"reader"
RoleGrantPermission name:"reader" perm:{permType:READ key:"k" range_end:"l"}
RoleAdd name:"writer"
RoleGrantPermission name:"writer" perm:{permType:WRITE key:"k" range_end:"l"}
RoleAdd name:"both"
RoleGrantPermission name:"both" perm:{permType:READWRITE key:"k" range_end:"l"}
UserGrantRole user:"root" role:"root"
UserGrantRole user:"admin" role:"root"
UserGrantRole user:"reader" role:"reader"
UserGrantRole user:"writer" role:"writer"
UserGrantRole user:"both" role:"both"
AuthEnable
`

// userKinds are ways to call as somebody. Each is put before the calls of a cell of the matrix.
var userKinds = []struct{ name, login string }{
	{"root", "login root root\nas root"},
	{"admin", "login admin admin\nas admin"},
	{"reader", "login reader reader\nas reader"},
	{"writer", "login writer writer\nas writer"},
	{"both", "login both both\nas both"},
	{"norole", "login norole norole\nas norole"},
	{"no token", "as nobody"},
	{"wrong password", "login reader wrong\nas nobody"},
	{"no-password user", "login certified certified\nas nobody"},
	{"unknown user", "login stranger stranger\nas nobody"},
	{"bad token", "token bad nonsense\nas bad"},
	{"made-up token", "token bad abcdefghijklmnop.1\nas bad"},
	{"deleted user", "login root root\nas root\nUserAdd name:\"leaver\" password:\"leaver\"\nlogin leaver leaver\nUserDelete name:\"leaver\"\nas leaver"},
	{"changed password", "login root root\nas root\nUserAdd name:\"leaver\" password:\"leaver\"\nlogin leaver leaver\nUserChangePassword name:\"leaver\" password:\"leaver\"\nas leaver"},
}

// oldToken is a token of an auth revision that has passed, which only signed tokens know.
var oldToken = struct{ name, login string }{"old token",
	"login reader reader\nlogin root root\nas root\nRoleGrantPermission name:\"reader\" perm:{permType:READ key:\"k\" range_end:\"l\"}\nas reader"}

// userCalls are calls of every RPC, several where its permissions depend on the request. None of them takes away what later ones need.
var userCalls = []string{
	`Range key:"k1"`, `Range key:"k" range_end:"l"`, `Range key:"k" range_end:"m"`, `Range key:"a"`, `Range key:"k1" serializable:true`,
	`Range key:"k" range_end:"\000"`, `Range key:"\000" range_end:"\000" count_only:true`, `Range key:"l" range_end:"k"`, `Range`,
	`RangeStream key:"k" range_end:"l"`, `RangeStream key:"a"`,
	`Put key:"k1" value:"2"`, `Put key:"k1" value:"3" prev_kv:true`, `Put key:"a" value:"2"`, `Put value:"x"`, `Put key:"k2" lease:70`,
	`Put key:"k2" lease:71`, `Put key:"k2" lease:72`, `Put key:"k2" lease:404`, `Put key:"k-leased" ignore_lease:true`,
	`DeleteRange key:"k9"`, `DeleteRange key:"k1" prev_kv:true`, `DeleteRange key:"k8" range_end:"l"`, `DeleteRange key:"k8" range_end:"m"`, `DeleteRange key:"b"`,
	`Txn compare:{key:"k1" target:VERSION version:1}`, `Txn compare:{key:"a" target:VERSION version:1}`,
	`Txn compare:{key:"k" range_end:"m" target:VERSION version:1}`,
	`Txn success:{request_range:{key:"k1"}} failure:{request_range:{key:"a"}}`,
	`Txn success:{request_put:{key:"k3"}}`, `Txn failure:{request_put:{key:"a"}}`, `Txn success:{request_put:{key:"k3" prev_kv:true}}`,
	`Txn success:{request_put:{key:"k3" lease:71}}`, `Txn success:{request_delete_range:{key:"k3"}}`, `Txn success:{request_delete_range:{key:"k3" prev_kv:true}}`,
	`Txn failure:{request_delete_range:{key:"a"}}`,
	`Txn success:{request_txn:{success:{request_put:{key:"k4"}}}}`, `Txn success:{request_txn:{failure:{request_put:{key:"a"}}}}`,
	`Txn success:{request_txn:{compare:{key:"a" target:VERSION version:1}}}`,
	`Txn success:{request_txn:{success:{request_txn:{success:{request_delete_range:{key:"k4" prev_kv:true}}}}}}`, `Txn success:{request_txn:{success:{request_range:{key:"a"}}}}`,
	`Txn`, `Txn success:{}`, `Compact revision:1`,
	"stream w\nsend w create_request:{key:\"k1\"}\nwait w created=1", "stream w\nsend w create_request:{key:\"k\" range_end:\"l\"}\nwait w created=1",
	"stream w\nsend w create_request:{key:\"k\" range_end:\"m\"}\nwait w created=1", "stream w\nsend w create_request:{key:\"a\" start_revision:-1}\nwait w created=1",
	"stream w\nsend w create_request:{}\nsend w create_request:{key:\"k1\" watch_id:7}\nwait w created=2", "stream w\nsend w create_request:{key:\"k\" range_end:\"\\000\"}\nwait w created=1",
	"stream w\nsend w create_request:{key:\"k2\" range_end:\"k1\"}\nwait w created=1",
	`LeaseGrant ID:80 TTL:500`, `LeaseGrant TTL:9000000001`, `LeaseRevoke ID:71`, `LeaseRevoke ID:80`, `LeaseRevoke ID:404`, "keepalive ID:70", "keepalive ID:72", "keepalive ID:404",
	`LeaseTimeToLive ID:70`, `LeaseTimeToLive ID:70 keys:true`, `LeaseTimeToLive ID:72 keys:true`, `LeaseTimeToLive ID:404 keys:true`, `LeaseLeases`,
	`MemberAdd peerURLs:"http://127.0.0.1:1" isLearner:true`, `MemberAdd peerURLs:"nonsense"`, `MemberRemove ID:404`, `MemberUpdate ID:404 peerURLs:"http://127.0.0.1:1"`,
	`MemberPromote ID:404`, `MemberList`, `MemberList linearizable:true`,
	`Alarm`, `Alarm action:ACTIVATE`, `Alarm action:DEACTIVATE alarm:NOSPACE`, `Status`, `Defragment`, `Hash`, `HashKV`, `MoveLeader targetID:404`, `Downgrade action:VALIDATE version:"3.5"`,
	`AuthEnable`, `AuthStatus`, `UserAdd name:"root" password:"x"`, `UserAdd`, `UserGet name:"reader"`, `UserGet name:"root"`, `UserGet name:"stranger"`, `UserList`, `UserDelete name:"root"`,
	`UserDelete name:"stranger"`, `UserChangePassword name:"stranger" password:"x"`, `UserGrantRole user:"stranger" role:"reader"`, `UserGrantRole user:"reader" role:"stranger"`,
	`UserGrantRole user:"reader" role:"reader"`, `UserRevokeRole name:"root" role:"root"`, `UserRevokeRole name:"reader" role:"writer"`, `RoleAdd name:"reader"`, `RoleAdd`,
	`RoleGet role:"reader"`, `RoleGet role:"root"`, `RoleGet role:"stranger"`, `RoleList`, `RoleDelete role:"root"`, `RoleDelete role:"stranger"`,
	`RoleGrantPermission name:"reader"`, `RoleGrantPermission name:"stranger" perm:{key:"k"}`, `RoleGrantPermission name:"reader" perm:{}`,
	`RoleRevokePermission role:"reader" key:"x"`, `RoleRevokePermission role:"stranger" key:"x"`,
	`Lock name:"k-lock" lease:72`, `Lock name:"a-lock" lease:72`, `Unlock key:"k-lock/48"`, `Unlock key:"a-lock/48"`, `Unlock`,
	`Campaign name:"k-el" lease:72 value:"v"`, `Campaign name:"a-el" lease:72`, `Leader name:"k-el"`, `Leader name:"a-el"`, `Proclaim leader:{name:"k-el" key:"k-el/48" lease:72}`,
	`Proclaim`, `Resign leader:{name:"a-el" key:"a-el/48" rev:3 lease:72}`, `Resign leader:{name:"k-el" key:"k-el/48" rev:3 lease:72}`,
}

// TestUsersAgainstRPCs has every kind of user call every RPC.
func TestUsersAgainstRPCs(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("0123456789abcdef0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	simple := []string{"--unsafe-no-fsync", "--bcrypt-cost=4"}
	signed := append(simple, "--auth-token=jwt,priv-key="+key+",sign-method=HS256")
	t.Run("simple", func(t *testing.T) { runMatrix(t, simple, userKinds) })
	t.Run("signed", func(t *testing.T) { runMatrix(t, signed, append(userKinds[2:3:3], oldToken)) })
}

func runMatrix(t *testing.T, flags []string, kinds []struct{ name, login string }) {
	p := startPair(t, opponent(), flags...)
	runText(t, p, "setup", usersSetup)
	cells := 0
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			for i, call := range userCalls {
				cells++
				name := fmt.Sprintf("%s/%d", kind.name, i)
				login := kind.login + "\n"
				if call == "Txn" && strings.HasSuffix(login, "as nobody\n") {
					login += "known auth-nobody\n"
				}
				if !runText(t, p, name, login+call) {
					t.Logf("as %s: %s", kind.name, call)
				}
			}
		})
	}
	t.Logf("%d users and calls", cells)
}

// runText runs a case that is made here.
func runText(t *testing.T, p *pair, name, text string) bool {
	t.Helper()
	cases, err := script.Parse(name, "case "+strings.ReplaceAll(name, " ", "-")+"\n"+text)
	if err != nil {
		t.Fatal(err)
	}
	return runCase(t, p, cases[0])
}

// TestUserScenarios runs testdata/users/*.case. Passwords are cheap to hash there.
func TestUserScenarios(t *testing.T) {
	runShared(t, userScenarios(t), func(t *testing.T) *pair { return startPair(t, opponent(), "--unsafe-no-fsync", "--bcrypt-cost=4") })
}

func userScenarios(t *testing.T) []script.Case {
	cases, err := script.Load("testdata/users/*.case")
	if err != nil {
		t.Fatal(err)
	}
	return cases
}
