package server_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/embed"
	"quorate.dev/quorate/insight"
)

// ask gets a page of a member into v, and returns the status and the text.
func ask(t *testing.T, url, token string, v any) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if v != nil && resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(text, v); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
	}
	return resp.StatusCode, string(text)
}

func insightServer(t *testing.T, settings map[string]string) (url string, c *clientv3.Client) {
	t.Helper()
	s, err := embed.Start(t.Context(), embed.Config{Dir: t.TempDir(), Name: "one", Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	c, err = clientv3.New(clientv3.Config{Endpoints: s.ClientURLs(), DialTimeout: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return s.ClientURLs()[0], c
}

func TestReport(t *testing.T) {
	url, _ := insightServer(t, map[string]string{"heartbeat-interval": "150", "max-wals": "9"})
	var r insight.Report
	before := time.Now()
	if code, text := ask(t, url+insight.PathReport, "", &r); code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	if at := time.Unix(0, r.Time); at.Before(before) || at.After(time.Now()) {
		t.Errorf("the member's clock says %v", at)
	}
	if s, _ := r.Setting("heartbeat-interval"); s.Value != "150" || s.Origin != "program" || s.State != "" {
		t.Errorf("heartbeat-interval: %+v", s)
	}
	if s, _ := r.Setting("max-wals"); s.Value != "9" || s.State == "" || s.Why == "" {
		t.Errorf("a setting without effect: %+v", s)
	}
	if r.Name != "one" || len(r.Sizes) == 0 {
		t.Errorf("%+v", r)
	}
}

// TestTop looks while a client puts one key again and again and watches it.
func TestTop(t *testing.T) {
	url, c := insightServer(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := c.Watch(ctx, "/registry/pods/", clientv3.WithPrefix())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_, _ = c.Put(ctx, "/registry/pods/ns/hot", "value")
			_, _ = c.Get(ctx, "/registry/", clientv3.WithPrefix(), clientv3.WithLimit(10))
			<-w
		}
	}()
	var top insight.Top
	found := map[string]bool{}
	// On a busy machine half a second may see only some of it.
	seen := func() bool {
		clear(found)
		for _, r := range top.Prefixes {
			found[r.Method+" "+string(r.Key)] = true
		}
		return len(top.Keys) > 0 && found["KV/Put /registry/pods/"] && found["KV/Range /registry/"] && top.Watch.Events > 0
	}
	for deadline := time.Now().Add(patience); !seen() && time.Now().Before(deadline); {
		top = insight.Top{}
		if code, text := ask(t, url+insight.PathTop+"?seconds=0.5&depth=2", "", &top); code != http.StatusOK {
			t.Fatalf("%d %s", code, text)
		}
	}
	cancel()
	<-done
	if len(top.Keys) != 1 || string(top.Keys[0].Key) != "/registry/pods/ns/hot" || top.Keys[0].Calls == 0 || top.Keys[0].Mean <= 0 || top.Keys[0].In == 0 || top.Keys[0].Out == 0 {
		t.Errorf("keys: %+v", top.Keys)
	}
	if !found["KV/Put /registry/pods/"] || !found["KV/Range /registry/"] {
		t.Errorf("prefixes: %+v", top.Prefixes)
	}
	if len(top.Clients) != 1 || top.Clients[0].Client != "127.0.0.1" {
		t.Errorf("clients: %+v", top.Clients)
	}
	if top.Watch.Watchers != 1 || top.Watch.Events == 0 || len(top.Watch.Largest) != 1 || top.Watch.Largest[0].Watchers != 1 {
		t.Errorf("watches: %+v", top.Watch)
	}
	for _, query := range []string{"seconds=31", "seconds=x", "depth=0", "depth=9"} {
		if code, _ := ask(t, url+insight.PathTop+"?"+query, "", nil); code != http.StatusBadRequest {
			t.Errorf("%s: status %d", query, code)
		}
	}
}

// TestInsightNeedsRoot: with authentication on, only root sees what others do.
func TestInsightNeedsRoot(t *testing.T) {
	url, c := insightServer(t, nil)
	ctx := t.Context()
	for _, step := range []func() error{
		func() error { _, err := c.UserAdd(ctx, "root", "secret"); return err },
		func() error { _, err := c.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := c.UserAdd(ctx, "ann", "word"); return err },
		func() error { _, err := c.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	token := func(user, password string) string {
		r, err := c.Authenticate(ctx, user, password)
		if err != nil {
			t.Fatal(err)
		}
		return r.Token
	}
	root, ann := token("root", "secret"), token("ann", "word")
	for _, path := range []string{insight.PathReport, insight.PathTop + "?seconds=0"} {
		for _, ask1 := range []struct {
			token string
			want  int
		}{{"", http.StatusUnauthorized}, {"wrong", http.StatusUnauthorized}, {ann, http.StatusForbidden}, {root, http.StatusOK}} {
			if code, text := ask(t, url+path, ask1.token, nil); code != ask1.want {
				t.Errorf("%s: status %d, want %d: %s", path, code, ask1.want, text)
			}
		}
	}
}
