package v2http_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/v2http"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

func basic(name, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

// noKeys is a v3 store without keys.
type noKeys struct{}

func (noKeys) Value(string) (string, bool, error) { return "", false, nil }
func (noKeys) Each(func(key, value []byte)) error { return nil }

// share begins shared mode.
func (f *fake) share(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.store.Share(nil, noKeys{}); err != nil {
		t.Fatal(err)
	}
	f.view.Store(f.store.Publish())
	f.hub.Publish(f.view.Load(), nil)
}

// TestSharedUnderV3: while the tree is shared and v3 authentication is on, it decides everything.
func TestSharedUnderV3(t *testing.T) {
	const denied = `"errorCode":110`
	for _, c := range []struct {
		method, target, form, user string
		status                     int
		body                       string
		as                         string // in whose name something was proposed; "-" for nothing
	}{
		{"GET", "/v2/keys/mine", "", "eve:e", 200, `"value":"1"`, "-"},
		{"HEAD", "/v2/keys/mine", "", "eve:e", 200, "", "-"},
		{"GET", "/v2/keys/mine", "", "eve:wrong", 401, denied, "-"},
		{"GET", "/v2/keys/mine", "", "", 401, denied, "-"},
		{"GET", "/v2/keys/other", "", "eve:e", 401, denied, "-"},
		{"GET", "/v2/keys/none", "", "eve:e", 401, denied, "-"}, // nor is told whether there is something
		{"GET", "/v2/keys/other?wait=true", "", "eve:e", 401, denied, "-"},
		{"GET", "/v2/keys/other?wait=true&waitIndex=4", "", "eve:e", 401, denied, "-"},
		{"GET", "/v2/keys/dir", "", "eve:e", 401, denied, "-"}, // its key alone is not enough for what is in it
		{"GET", "/v2/keys/open", "", "eve:e", 200, `"/open/x"`, "-"},
		{"PUT", "/v2/keys/mine", "value=2", "eve:e", 200, `"prevNode"`, "eve 7"},
		{"DELETE", "/v2/keys/mine", "", "eve:e", 200, `"delete"`, "eve 7"},
		{"GET", "/v2/keys/mine?quorum=true", "", "eve:e", 200, `"value":"1"`, "eve 7"},
		{"PUT", "/v2/keys/mine", "value=2", "", 200, `"set"`, " 0"}, // the log decides: nobody has a name there
		{"PUT", "/v2/keys/mine", "value=2", "nobody:x", 401, denied, "-"},
		{"POST", "/v2/members", `{"peerURLs":["http://127.0.0.1:9"]}`, "eve:e", 401, "Insufficient", "-"},
		{"POST", "/v2/members", `{"peerURLs":["http://127.0.0.1:9"]}`, "", 401, "Insufficient", "-"},
		{"POST", "/v2/members", `{"peerURLs":["http://127.0.0.1:9"]}`, "root:r", 201, "", "-"},
		{"GET", "/v2/members", "", "", 200, "", "-"},
		{"GET", "/v2/auth/enable", "", "", 200, `{"enabled":true}`, "-"},
		{"PUT", "/v2/auth/enable", "", "eve:e", 401, "Insufficient", "-"},
		{"GET", "/v2/auth/users", "", "", 401, "Insufficient", "-"},
		{"PUT", "/v2/auth/users/x", `{"user":"x","password":"y"}`, "", 401, "Insufficient", "-"},
		{"GET", "/v2/auth/users", "", "root:r", 200, "", "-"},
	} {
		f := newFake(t)
		for _, key := range []string{"/mine", "/other", "/dir/x", "/open/x"} {
			put(t, f, key, "1")
		}
		f.share(t)
		f.v3 = map[string]string{"eve": "e", "root": "r"}
		f.may = func(who authn.Identity, path string, recursive bool) error {
			if who.User == "eve" && (path == "/mine" || path == "/dir" && !recursive || path == "/open") {
				return nil
			}
			return fault.PermissionDenied
		}
		var headers []string
		if name, password, ok := strings.Cut(c.user, ":"); ok {
			headers = []string{"Authorization", basic(name, password)}
		}
		w := ask(f.serve(), c.method, c.target, c.form, headers...)
		as := "-"
		if len(f.askers) > 0 {
			as = fmt.Sprint(f.askers[0].User, " ", f.askers[0].Revision)
		}
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) || as != c.as {
			t.Errorf("%s %s of %q: %d %s, proposed as %q; want %d %s %q", c.method, c.target, c.user, w.Code, w.Body, as, c.status, c.body, c.as)
		}
	}
}

// TestWriteOnly: who may write a key and not read it is not told what was there.
func TestWriteOnly(t *testing.T) {
	f := newFake(t)
	put(t, f, "/a", "secret")
	f.share(t)
	f.v3 = map[string]string{"eve": "e"}
	f.may = func(authn.Identity, string, bool) error { return fault.PermissionDenied }
	h := f.serve()
	eve := []string{"Authorization", basic("eve", "e")}
	for _, c := range []struct {
		method, target, form string
		status               int
		has                  string
	}{
		{"PUT", "/v2/keys/a?prevValue=x", "value=1", 412, `{"errorCode":101,"message":"Compare failed","index":4}`},
		{"DELETE", "/v2/keys/a?prevValue=x", "", 412, `{"errorCode":101,"message":"Compare failed","index":4}`},
		{"PUT", "/v2/keys/a?prevExist=true&refresh=true&ttl=9", "", 200, `"prevNode":{"key":"/a","modifiedIndex":4,"createdIndex":4}`},
		{"PUT", "/v2/keys/a", "value=1", 200, `"prevNode":{"key":"/a",`},
	} {
		w := ask(h, c.method, c.target, c.form, eve...)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.has) || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s %s: %d %s", c.method, c.target, w.Code, w.Body)
		}
	}
}

// TestOldPermissions: a request that permissions changed under is proposed once more, in the user's name as it is now.
func TestOldPermissions(t *testing.T) {
	for refusals, status := range []int{200, 200, 401} {
		f := newFake(t)
		f.share(t)
		f.v3 = map[string]string{"eve": "e"}
		put(t, f, "/a", "1")
		f.propose = func(_ context.Context, r *wire.V2Request, _ authn.Identity) (*v2store.Event, error) {
			if len(f.proposed) <= refusals {
				return nil, fault.AuthOldRevision
			}
			return f.do(r)
		}
		w := ask(f.serve(), "PUT", "/v2/keys/a", "value=2", "Authorization", basic("eve", "e"))
		if w.Code != status || len(f.proposed) != min(refusals+1, 2) {
			t.Errorf("with %d refusals: %d %s after %d proposals", refusals, w.Code, w.Body, len(f.proposed))
		}
	}
}

// TestV2Users: what only shows with passwords that cannot be checked or stored, and what is stored.
func TestV2Users(t *testing.T) {
	f := newFake(t)
	h := f.serve()
	for _, c := range []struct {
		method, target, form string
		status               int
	}{
		{"PUT", "/v2/auth/users/root", `{"user":"root","password":"r"}`, 201},
		{"PUT", "/v2/auth/users/long", `{"user":"long","password":"` + strings.Repeat("x", 73) + `"}`, 400},
		{"PUT", "/v2/auth/roles/empty", `{"role":"empty","permissions":{"kv":{"read":[""],"write":[""]}}}`, 201},
		{"PUT", "/v2/auth/users/eve", `{"user":"eve","password":"e","roles":["empty"]}`, 200},
		{"PUT", "/v2/auth/enable", "", 200},
	} {
		if w := ask(h, c.method, c.target, c.form); w.Code != c.status || strings.Contains(w.Body.String(), "password\"") {
			t.Fatalf("%s %s: %d %s", c.method, c.target, w.Code, w.Body)
		}
	}
	ev, err := f.view.Load().Get("/2/users/root", false, false, 0)
	if err != nil || *ev.Node.Value != `{"user":"root","password":"hash of r","roles":["root"]}` {
		t.Errorf("stored %v %v", ev, err)
	}
	// An empty pattern, which ends etcd's handler, allows nothing.
	if w := ask(h, "GET", "/v2/keys/", "", "Authorization", basic("eve", "e")); w.Code != 401 {
		t.Errorf("an empty pattern: %d %s", w.Code, w.Body)
	}
	busy := f.serve(func(c *v2http.Config) { c.Passwords = passwords{refuse: fault.TooManyRequests} })
	if w := ask(busy, "GET", "/v2/keys/", "", "Authorization", basic("root", "r")); w.Code != 500 || !strings.Contains(w.Body.String(), "too many requests") {
		t.Errorf("nobody to check a password: %d %s", w.Code, w.Body)
	}
	if w := ask(busy, "GET", "/v2/auth/users", "", "Authorization", basic("root", "r")); w.Code != 500 {
		t.Errorf("nobody to check a password: %d %s", w.Code, w.Body)
	}
	// A file that is not readable is no reason to let everybody in.
	if _, err := f.do(&wire.V2Request{Method: "PUT", Path: "/2/enabled", Val: "nonsense"}); err != nil {
		t.Fatal(err)
	}
	if w := ask(h, "GET", "/v2/keys/", ""); w.Code != 500 {
		t.Errorf("with a damaged switch: %d %s", w.Code, w.Body)
	}
}

// TestSeparateUnderV3: with two trees v3's users do not decide about v2's keys, but nobody without a v3 user changes the cluster.
func TestSeparateUnderV3(t *testing.T) {
	f := newFake(t)
	f.v3 = map[string]string{"root": "r"}
	f.change = func(_ member.Change, as authn.Identity) error {
		if as.User == "" {
			return fault.UserEmpty
		}
		return nil
	}
	h := f.serve()
	if w := ask(h, "PUT", "/v2/keys/a", "value=1"); w.Code != 201 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, headers := range [][]string{nil, {"Authorization", basic("root", "r")}} { // etcd's answer; the name is one of v2's users
		w := ask(h, "POST", "/v2/members", `{"peerURLs":["http://127.0.0.1:9"]}`, headers...)
		if w.Code != 500 || w.Body.String() != `{"message":"Internal Server Error"}` {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}
