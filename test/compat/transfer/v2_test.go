package transfer

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// v2 asks a member over the v2 API, and returns what it says, with the index.
func (m *member) v2(t *testing.T, method, path string, form url.Values) string {
	t.Helper()
	var out string
	until(t, method+" "+path, func() error {
		req, err := http.NewRequestWithContext(t.Context(), method, fmt.Sprintf("http://127.0.0.1:%d/v2%s", m.client, path), strings.NewReader(form.Encode()))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode >= 500 {
			err = fmt.Errorf("%s: %s", resp.Status, b)
		}
		out = fmt.Sprintf("%d, index %s: %s", resp.StatusCode, resp.Header.Get("X-Etcd-Index"), b)
		return err
	})
	return out
}

// TestV2 takes the keys of the v2 API of a real 3.4 over: with snapshots and without, killed, what is in the log after the data too.
func TestV2(t *testing.T) {
	for _, every := range []int{25, 100_000} {
		t.Run(fmt.Sprintf("a snapshot every %d entries", every), func(t *testing.T) {
			dir := t.TempDir()
			c := newCluster(t, 1)
			m := c[0]
			c.start(t, "etcd34", filepath.Join(dir, "etcd"), "--enable-v2", fmt.Sprintf("--snapshot-count=%d", every))
			for i := range 90 {
				m.v2(t, http.MethodPut, fmt.Sprintf("/keys/a/%d/%d", i%7, i%30), url.Values{"value": {fmt.Sprint("v", i)}})
				switch {
				case i%9 == 4:
					m.v2(t, http.MethodDelete, fmt.Sprintf("/keys/a/%d/%d", i%7, i%30), nil)
				case i%9 == 5:
					m.v2(t, http.MethodPost, "/keys/queue", url.Values{"value": {fmt.Sprint(i)}})
				case i%9 == 6:
					m.v2(t, http.MethodPut, fmt.Sprintf("/keys/_hidden/%d", i), url.Values{"value": {"x"}})
				case i == 40:
					fill(t, m)
				case i == 20:
					m.v2(t, http.MethodPut, "/keys/lives", url.Values{"value": {"long"}, "ttl": {"90000"}})
				}
			}
			questions := []string{"/keys/?recursive=true&sorted=true", "/keys/_hidden?sorted=true", "/keys/none", "/keys/a?wait=true&recursive=true&waitIndex=60", "/keys/queue?sorted=true&wait=true&waitIndex=30&recursive=true"}
			ask := func() (out []string) {
				for _, q := range questions {
					out = append(out, ttlTaken(m.v2(t, http.MethodGet, q, nil)))
				}
				return out
			}
			was := ask()
			c.kill()
			r := transferred(t, "import", "--from", m.dir, "--data-dir", filepath.Join(dir, "ours", "m1"))
			if n := strings.Join(r.Notes, " "); !strings.Contains(n, "of the v2 API were brought over") {
				t.Errorf("nothing is said of the v2 API: %s", n)
			}
			c.start(t, "quorate", filepath.Join(dir, "ours"), "--enable-v2")
			for i, got := range ask() {
				if withoutIndex(got) != withoutIndex(was[i]) {
					t.Errorf("%s says\n%s and said\n%s", questions[i], got, was[i])
				}
			}
			if got := m.v2(t, http.MethodPut, "/keys/new", url.Values{"value": {"1"}}); !strings.HasPrefix(got, "201") {
				t.Errorf("a key is created: %s", got)
			}
		})
	}
}

// ttlTaken takes the seconds away that a key has left.
func ttlTaken(s string) string {
	if before, rest, ok := strings.Cut(s, `"ttl":`); ok {
		_, after, _ := strings.Cut(rest, ",")
		return before + ttlTaken(after)
	}
	return s
}

// withoutIndex takes away the store's index, which goes up when a member starts and tells its name.
func withoutIndex(s string) string {
	status, rest, _ := strings.Cut(s, ", index ")
	_, body, _ := strings.Cut(rest, ": ")
	if at := strings.Index(body, `,"index":`); at >= 0 {
		body = body[:at]
	}
	return status + body
}
