package v2http_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/v2http"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

// TestFailures: what a group answers that has no leader, no room or no patience.
func TestFailures(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		body   string
	}{
		{fault.Timeout, 500, `{"errorCode":300,"message":"Raft Internal Error","cause":"etcdserver: request timed out","index":0}`},
		{fault.NoLeader, 500, `{"errorCode":300,"message":"Raft Internal Error","cause":"etcdserver: no leader","index":0}`},
		{fmt.Errorf("put: %w", fault.NoSpace), 500, `{"errorCode":300,"message":"Raft Internal Error","cause":"etcdserver: mvcc: database space exceeded","index":0}`},
		{fault.RequestTooLarge, 400, `{"errorCode":210,"message":"Invalid POST form","cause":"etcdserver: request is too large","index":0}`},
		{fault.PermissionDenied, 401, `{"errorCode":110,"message":"The request requires user authentication","cause":"Insufficient credentials","index":0}`},
		{errors.New("a disk that lies"), 500, `{"errorCode":300,"message":"Raft Internal Error","cause":"a disk that lies","index":0}`},
		{v2store.NewError(v2store.CodeKeyNotFound, "/1/a", 9), 404, `{"errorCode":100,"message":"Key not found","cause":"/a","index":9}`},
	} {
		f := newFake(t)
		f.propose = func(context.Context, *wire.V2Request, authn.Identity) (*v2store.Event, error) { return nil, c.err }
		h := f.serve()
		for _, q := range [][2]string{{"PUT", "/v2/keys/a"}, {"POST", "/v2/keys/a"}, {"DELETE", "/v2/keys/a"}, {"GET", "/v2/keys/a?quorum=true"}} {
			w := ask(h, q[0], q[1], "")
			if w.Code != c.status || w.Body.String() != c.body+"\n" {
				t.Errorf("%s %s with %v: %d %s", q[0], q[1], c.err, w.Code, w.Body)
			}
			if w.Header().Get("X-Raft-Index") != "" || w.Header().Get("X-Etcd-Index") == "" || w.Header().Get("X-Etcd-Cluster-Id") != "def" {
				t.Errorf("%s %s with %v: headers %v", q[0], q[1], c.err, w.Header())
			}
		}
	}
}

// TestTimeout: a proposal that is never decided ends with the request's time.
func TestTimeout(t *testing.T) {
	f := newFake(t)
	f.propose = func(ctx context.Context, _ *wire.V2Request, _ authn.Identity) (*v2store.Event, error) {
		<-ctx.Done()
		return nil, fault.Timeout
	}
	h := f.serve(func(c *v2http.Config) { c.Timeout = time.Millisecond })
	if w := ask(h, "PUT", "/v2/keys/a", "value=1"); w.Code != 500 || !strings.Contains(w.Body.String(), "request timed out") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestHugeBodies: nothing is read beyond its bound.
func TestHugeBodies(t *testing.T) {
	f := newFake(t)
	h := f.serve(func(c *v2http.Config) { c.RequestBytes = 1000 })
	for _, c := range []struct {
		method, path, kind string
		status             int
		most               int64
	}{
		{"PUT", "/v2/keys/a", "application/x-www-form-urlencoded", 400, 1 << 20},
		{"POST", "/v2/keys/a", "application/x-www-form-urlencoded", 400, 1 << 20},
		{"PUT", "/v2/keys/a", "text/plain", 201, 0}, // not a form: not read
		{"DELETE", "/v2/keys/a", "application/x-www-form-urlencoded", 200, 0},
		{"PUT", "/v2/auth/users/a", "application/json", 400, 4 << 20},
		{"PUT", "/v2/auth/roles/a", "application/json", 400, 4 << 20},
		{"POST", "/v2/members", "application/json", 400, 4 << 20},
		{"PUT", "/v2/members/abc", "application/json", 400, 4 << 20},
	} {
		body := &endless{text: "a"}
		if c.kind == "application/json" {
			body.text = " "
		}
		r, err := http.NewRequestWithContext(t.Context(), c.method, "http://x"+c.path, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", c.kind)
		w := newRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.status || body.read > c.most {
			t.Errorf("%s %s: %d after %d bytes: %s", c.method, c.path, w.Code, body.read, w.Body)
		}
		if c.status == 400 && !strings.Contains(w.Body.String(), "request is too large") {
			t.Errorf("%s %s: %s", c.method, c.path, w.Body)
		}
	}
}

// endless is a body without an end.
type endless struct {
	text string
	read int64
}

// Read implements io.Reader.
func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, strings.Repeat(e.text, len(p)))
	e.read += int64(n)
	return n, nil
}

// TestParameters: what becomes of them in what is proposed.
func TestParameters(t *testing.T) {
	yes, no := true, false
	now := newFake(t).clock.Now()
	for _, c := range []struct {
		method, target, form string
		want                 wire.V2Request
	}{
		{"PUT", "/v2/keys/a/b/", "value=1", wire.V2Request{Path: "/1/a/b", Val: "1"}},
		{"PUT", "/v2/keys/a?value=query", "value=body", wire.V2Request{Path: "/1/a", Val: "body"}},
		{"PUT", "/v2/keys/a?value=query", "", wire.V2Request{Path: "/1/a", Val: "query"}},
		{"PUT", "/v2/keys/a?prevExist=true&dir=1&prevIndex=7&prevValue=x", "", wire.V2Request{Path: "/1/a", PrevExist: &yes, Dir: true, PrevIndex: 7, PrevValue: "x"}},
		{"PUT", "/v2/keys/a?prevExist=0", "ttl=", wire.V2Request{Path: "/1/a", PrevExist: &no}},
		{"PUT", "/v2/keys/a", "ttl=5", wire.V2Request{Path: "/1/a", Expiration: now.Add(5 * time.Second).UnixNano()}},
		{"PUT", "/v2/keys/a", "ttl=5&refresh=true", wire.V2Request{Path: "/1/a", Expiration: now.Add(5 * time.Second).UnixNano(), Refresh: &yes}},
		{"PUT", "/v2/keys/a", "ttl=0", wire.V2Request{Path: "/1/a", Expiration: now.UnixNano()}},
		{"POST", "/v2/keys", "value=1&recursive=true", wire.V2Request{Path: "/1", Val: "1", Recursive: true}},
		{"DELETE", "/v2/keys/a?recursive=true&sorted=true", "", wire.V2Request{Path: "/1/a", Recursive: true, Sorted: true}},
		{"GET", "/v2/keys/a%2Fb?quorum=true&wait=true", "", wire.V2Request{Method: "QGET", Path: "/1/a/b"}},
	} {
		f := newFake(t)
		w := ask(f.serve(), c.method, c.target, c.form)
		if len(f.proposed) != 1 {
			t.Errorf("%s %s: %d proposals, answer %d %s", c.method, c.target, len(f.proposed), w.Code, w.Body)
			continue
		}
		c.want.Time = now.UnixNano()
		if c.want.Method == "" {
			c.want.Method = c.method
		}
		got := f.proposed[0]
		if fmt.Sprint(deref(got)) != fmt.Sprint(deref(c.want)) {
			t.Errorf("%s %s %s: proposed %+v, want %+v", c.method, c.target, c.form, deref(got), deref(c.want))
		}
	}
}

// deref shows a request without addresses.
func deref(r wire.V2Request) []any {
	show := func(b *bool) string {
		if b == nil {
			return "none"
		}
		return fmt.Sprint(*b)
	}
	exist, refresh := show(r.PrevExist), show(r.Refresh)
	r.PrevExist, r.Refresh = nil, nil
	return []any{r, exist, refresh}
}

// FuzzRequest: whatever is asked, there is an answer of the API, and what is proposed is of the namespace of keys.
func FuzzRequest(f *testing.F) {
	for _, seed := range [][3]string{
		{"PUT", "/a?prevExist=true", "value=1&ttl=5"}, {"GET", "/a/b?recursive=true&wait=x", ""}, {"POST", "", "dir=true"}, {"DELETE", "/a?prevIndex=9&prevValue=", "x"},
		{"PUT", "/%2e%2e/2/enabled", "value=%ff"}, {"PUT", "/../auth/enable", "value=true"}, {"HEAD", "//x//", ""}, {"PUT", "/a?refresh=1;ttl=2", "&=&"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, method, target, form string) {
		u, err := url.ParseRequestURI("/v2/keys" + target)
		if err != nil || strings.Contains(u.RawQuery, "wait") {
			return
		}
		m := newFake(t)
		r, err := http.NewRequestWithContext(t.Context(), method, "http://x/", strings.NewReader(form))
		if err != nil {
			return
		}
		r.URL = u
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := newRecorder()
		m.serve().ServeHTTP(w, r)
		switch {
		case w.Code == 200, w.Code == 201, w.Code == 301, w.Code == 400, w.Code == 401, w.Code == 403, w.Code == 404, w.Code == 405, w.Code == 412:
		default:
			t.Errorf("%s %s: %d %s", method, target, w.Code, w.Body)
		}
		for _, q := range m.proposed {
			if q.Path != "/1" && !strings.HasPrefix(q.Path, "/1/") {
				t.Errorf("%s %s: proposed for %q", method, target, q.Path)
			}
		}
	})
}
