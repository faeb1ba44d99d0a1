package v2http_test

import (
	"fmt"
	"strings"
	"testing"

	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/member"
)

// TestMembers: what a cluster answers that one healthy member cannot.
func TestMembers(t *testing.T) {
	const body = `{"peerURLs":["http://127.0.0.1:9"]}`
	for _, c := range []struct {
		err            error
		method, target string
		status         int
		text           string
	}{
		{nil, "POST", "/v2/members", 201, `"peerURLs":["http://127.0.0.1:9"],"clientURLs":[]}` + "\n"},
		{fault.MemberExist, "POST", "/v2/members", 409, `{"message":"membership: ID exists"}`},
		{fault.PeerURLExist, "POST", "/v2/members", 409, `{"message":"membership: peerURL exists"}`},
		{fault.Unhealthy, "POST", "/v2/members", 500, `{"message":"Internal Server Error"}`},
		{fault.MemberNotEnoughStarted, "DELETE", "/v2/members/abc", 500, `{"message":"Internal Server Error"}`},
		{fault.MemberNotFound, "DELETE", "/v2/members/ABC", 404, `{"message":"No such member: abc"}`},
		{fault.MemberNotFound, "DELETE", "/v2/members/9", 410, `{"message":"Member permanently removed: 9"}`},
		{fault.MemberNotFound, "PUT", "/v2/members/9", 500, `{"message":"Internal Server Error"}`},
		{fault.PeerURLExist, "PUT", "/v2/members/abc", 409, `{"message":"membership: peerURL exists"}`},
		{nil, "PUT", "/v2/members/abc", 204, ""},
		{nil, "DELETE", "/v2/members/abc", 204, ""},
	} {
		f := newFake(t)
		two := member.Member{ID: 9, PeerURLs: []string{"http://127.0.0.1:10"}}
		f.apply(t, member.Change{Kind: member.Added, Member: two})
		f.apply(t, member.Change{Kind: member.Removed, Member: two})
		f.change = func(member.Change, authn.Identity) error { return c.err }
		w := ask(f.serve(), c.method, c.target, body)
		if w.Code != c.status || !strings.HasSuffix(w.Body.String(), c.text) || c.text == "" && w.Body.Len() > 0 {
			t.Errorf("%s %s with %v: %d %s", c.method, c.target, c.err, w.Code, w.Body)
		}
	}
}

// TestWithoutLeader: what is known of a leader while there is none, and on a member that is not the leader.
func TestWithoutLeader(t *testing.T) {
	f := newFake(t)
	f.leader = 0
	h := f.serve()
	for target, want := range map[string]string{
		"/v2/members/leader": `503 {"message":"During election"}`,
		"/v2/stats/leader":   `403 {"message":"not current leader"}`,
		"/v2/stats/self": `200 {"name":"m1","id":"abc","state":"StateLeader","startTime":"2026-01-02T03:03:05Z","leaderInfo":{"leader":"","uptime":"59s",` +
			`"startTime":"2026-01-02T03:03:06Z"},"recvAppendRequestCnt":0,"sendAppendRequestCnt":3,"sendPkgRate":1.5}`,
		"/v2/machines": "200 http://127.0.0.1:1, http://127.0.0.1:2379",
	} {
		w := ask(h, "GET", target, "")
		if got := fmt.Sprint(w.Code, " ", w.Body); got != want {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
	f.leader = selfID
	want := `{"leader":"abc","followers":{"2":{"latency":{"current":1.5,"average":2,"standardDeviation":0,"minimum":1,"maximum":3},"counts":{"fail":0,"success":7}}}}`
	if w := ask(h, "GET", "/v2/stats/leader", ""); w.Body.String() != want {
		t.Errorf("%s", w.Body)
	}
}
