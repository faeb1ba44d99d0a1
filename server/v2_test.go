package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// v2 sends a request of the v2 API and gives status and body. form is "" for none; user is "name:password" or "".
func v2(t *testing.T, m *instance, user, method, path, form string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, m.ClientURLs()[0]+"/v2"+path, strings.NewReader(form))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if name, password, ok := strings.Cut(user, ":"); ok {
		req.SetBasicAuth(name, password)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// TestV2IsOff: without --enable-v2 there is no such path.
func TestV2IsOff(t *testing.T) {
	m := must(t, settings(t.TempDir()))
	code, _ := v2(t, m, "", "GET", "/keys/", "")
	require.Equal(t, http.StatusNotFound, code)
}

// TestV2Separate: a fresh member's first write has index 4, as in etcd; values expire; nothing of it is seen through v3; all of it
// is there after a restart.
func TestV2Separate(t *testing.T) {
	dir := t.TempDir()
	m := must(t, settings(dir, "enable-v2", "true"))
	code, body := v2(t, m, "", "PUT", "/keys/foo", "value=bar")
	require.Equal(t, http.StatusCreated, code)
	require.Equal(t, `{"action":"set","node":{"key":"/foo","value":"bar","modifiedIndex":4,"createdIndex":4}}`+"\n", body)
	_, body = v2(t, m, "", "PUT", "/keys/brief", "value=x&ttl=1")
	require.Contains(t, body, `"ttl":1`)
	_, body = v2(t, m, "", "GET", "/keys/brief?wait=true&waitIndex=6", "")
	require.Contains(t, body, `{"action":"expire","node":{"key":"/brief","modifiedIndex":6`)
	c := clientOf(t, m)
	resp, err := c.Get(t.Context(), "", clientv3.WithPrefix())
	require.NoError(t, err)
	require.Empty(t, resp.Kvs)
	m.stop()
	m = must(t, settings(dir, "enable-v2", "true"))
	_, body = v2(t, m, "", "GET", "/keys/?recursive=true&quorum=true", "")
	require.Equal(t, `{"action":"get","node":{"dir":true,"nodes":[{"key":"/foo","value":"bar","modifiedIndex":4,"createdIndex":4}]}}`+"\n", body)
	_, body = v2(t, m, "", "GET", "/keys/foo?wait=true&waitIndex=1", "")
	require.Contains(t, body, `"modifiedIndex":4`)
}

func clientOf(t *testing.T, m *instance) *clientv3.Client {
	t.Helper()
	u, err := url.Parse(m.ClientURLs()[0])
	require.NoError(t, err)
	return connect(t, u.Host)
}

// TestV2Shared: what one API does the other sees, and v3's users decide about both.
func TestV2Shared(t *testing.T) {
	m := must(t, settings(t.TempDir(), "enable-v2", "true", "v2-mode", "shared"))
	c := clientOf(t, m)
	_, err := c.Put(t.Context(), "/early", "1")
	require.NoError(t, err)
	require.Eventually(t, func() bool { code, _ := v2(t, m, "", "GET", "/keys/early", ""); return code == http.StatusOK }, patience, patience/1000)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", m.ClientURLs()[0]+"/v2/keys/d?wait=true&recursive=true&stream=true", nil)
	require.NoError(t, err)
	stream, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = stream.Body.Close() }()
	lines := bufio.NewScanner(stream.Body)
	next := func() (action, key, value string) {
		t.Helper()
		require.True(t, lines.Scan(), lines.Err())
		var e struct {
			Action string
			Node   struct{ Key, Value string }
		}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &e))
		return e.Action, e.Node.Key, e.Node.Value
	}
	expect := func(action, key, value string) {
		t.Helper()
		a, k, v := next()
		require.Equal(t, []string{action, key, value}, []string{a, k, v})
	}
	watch := c.Watch(ctx, "/d/", clientv3.WithPrefix())
	_, err = c.Txn(ctx).Then(clientv3.OpPut("/d/1", "a"), clientv3.OpPut("/d/2", "b"), clientv3.OpPut("elsewhere", "c")).Commit()
	require.NoError(t, err)
	expect("set", "/d/1", "a")
	expect("set", "/d/2", "b")
	grant, err := c.Grant(ctx, 600)
	require.NoError(t, err)
	_, err = c.Put(ctx, "/d/leased", "x", clientv3.WithLease(grant.ID))
	require.NoError(t, err)
	expect("set", "/d/leased", "x")
	_, err = c.Revoke(ctx, grant.ID)
	require.NoError(t, err)
	expect("delete", "/d/leased", "")
	code, body := v2(t, m, "", "PUT", "/keys/d/1", "value=b&prevValue=a")
	require.Equal(t, http.StatusOK, code, body)
	expect("compareAndSwap", "/d/1", "b")
	code, body = v2(t, m, "", "DELETE", "/keys/d?recursive=true", "")
	require.Equal(t, http.StatusOK, code, body)
	var seen []string
	for len(seen) < 7 {
		for _, e := range (<-watch).Events {
			seen = append(seen, e.Type.String()+" "+string(e.Kv.Key)+" "+string(e.Kv.Value))
		}
	}
	require.Equal(t, []string{"PUT /d/1 a", "PUT /d/2 b", "PUT /d/leased x", "DELETE /d/leased ", "PUT /d/1 b", "DELETE /d/2 ", "DELETE /d/1 "}, seen)

	enable(t, c, "secret")
	code, _ = v2(t, m, "", "GET", "/keys/early", "")
	require.Equal(t, http.StatusUnauthorized, code)
	code, _ = v2(t, m, "root:wrong", "PUT", "/keys/early", "value=2")
	require.Equal(t, http.StatusUnauthorized, code)
	code, _ = v2(t, m, "", "PUT", "/keys/early", "value=2")
	require.Equal(t, http.StatusUnauthorized, code)
	code, _ = v2(t, m, "alice:secret", "PUT", "/keys/early", "value=2")
	require.Equal(t, http.StatusUnauthorized, code)
	code, body = v2(t, m, "root:correct-horse", "PUT", "/keys/early", "value=2")
	require.Equal(t, http.StatusOK, code, body)
}
