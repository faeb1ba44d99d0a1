package etcd34

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestServer holds what other tests build on: the version, the first index, and that data outlives a process.
func TestServer(t *testing.T) {
	s, err := Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Kill() }()
	a, err := s.Do(http.MethodPut, "/v2/keys/a/b", url.Values{"value": {"1"}})
	if err != nil || a.Status != http.StatusCreated || a.Header.Get("X-Etcd-Index") != "4" {
		t.Fatalf("%v %+v %s", err, a, a.Body)
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if a, err = s.Do(http.MethodGet, "/v2/keys/a/b?quorum=true", nil); err != nil || !strings.Contains(string(a.Body), `"value":"1"`) {
		t.Fatalf("%v %s", err, a.Body)
	}
	out, err := Ctl("version")
	if err != nil || !strings.Contains(out, "etcdctl version: "+Version) {
		t.Fatalf("%v %s", err, out)
	}
}

// TestCluster holds that all members of a cluster answer.
func TestCluster(t *testing.T) {
	servers, err := StartCluster(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		defer s.Kill()
	}
	if _, err := servers[0].Do(http.MethodPut, "/v2/keys/x", url.Values{"value": {"1"}}); err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		if a, err := s.Do(http.MethodGet, "/v2/keys/x?quorum=true", nil); err != nil || a.Status != http.StatusOK {
			t.Errorf("%s: %v %+v", s.Name, err, a)
		}
	}
	for _, s := range servers { // a member that is left alone cannot answer
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}
}
