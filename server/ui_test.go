package server_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const insecureLine = "serving client traffic insecurely; this is strongly discouraged!"

// fetch asks for a page by a Host of choice.
func fetch(t *testing.T, c *http.Client, url, host string) (int, string, *http.Response) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text), answer
}

// outward is an address of this machine that is not its loopback, "" when it has none.
func outward() string {
	all, _ := net.InterfaceAddrs()
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	return ""
}

// TestPage checks who gets the web page of a running member under each value of --ui.
func TestPage(t *testing.T) {
	for _, c := range []struct {
		ui                      string
		local, rebound, outside int
	}{{"auto", 200, 421, 403}, {"on", 200, 200, 200}, {"off", 404, 404, 404}} {
		t.Run(c.ui, func(t *testing.T) {
			m := must(t, settings(t.TempDir(), "listen-client-urls", "http://0.0.0.0:0", "ui", c.ui))
			_, port, err := net.SplitHostPort(m.address(t, insecureLine, "grpc+http"))
			if err != nil {
				t.Fatal(err)
			}
			web := &http.Client{Transport: &http.Transport{}}
			defer web.CloseIdleConnections()
			local := "http://127.0.0.1:" + port
			for _, path := range []string{"/ui/", "/ui/stats"} {
				if code, text, _ := fetch(t, web, local+path, ""); code != c.local {
					t.Errorf("%s: %d %s", path, code, text)
				}
				if code, text, _ := fetch(t, web, local+path, "evil.example"); code != c.rebound {
					t.Errorf("%s by a name from outside: %d %s", path, code, text)
				}
				if ip := outward(); ip != "" {
					if code, text, _ := fetch(t, web, "http://"+net.JoinHostPort(ip, port)+path, ""); code != c.outside {
						t.Errorf("%s from outside: %d %s", path, code, text)
					}
				}
			}
			if code, _, _ := fetch(t, web, local+"/version", "evil.example"); code != 200 {
				t.Errorf("the page's rule holds for other paths too: %d", code)
			}
		})
	}
}

// TestPageTLS checks the page over HTTP/2, whose requests this server makes itself, and the header by which it is not shared.
func TestPageTLS(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.Issue("server", nil).Write(a.dir, "server")
	m := must(t, settings(t.TempDir(), "listen-client-urls", "https://127.0.0.1:0", "advertise-client-urls", "https://127.0.0.1:0", "cert-file", cert, "key-file", key))
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: a.client(nil), ForceAttemptHTTP2: true}}
	defer web.CloseIdleConnections()
	code, text, answer := fetch(t, web, "https://"+m.address(t, "serving client traffic securely", "grpc+http")+"/ui/", "")
	if code != 200 || answer.ProtoMajor != 2 || !strings.Contains(text, "<title>Quorate</title>") {
		t.Fatalf("%d over HTTP/%d: %s", code, answer.ProtoMajor, text)
	}
	if got := answer.Header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("other origins may read it: %q", got)
	}
}

// TestPageNumbers checks that the page's numbers are those of the member, and that there are some of before.
func TestPageNumbers(t *testing.T) {
	m := must(t, settings(t.TempDir()))
	address := m.address(t, insecureLine, "grpc+http")
	if _, err := dial(t, nil, address).Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	web := &http.Client{Transport: &http.Transport{}}
	defer web.CloseIdleConnections()
	type stats struct {
		Member, Leader string
		Term           uint64
		At             int64
		Bounds         struct{ Requests, Range, Disk, Peers []float64 }
		Requests       map[string]struct {
			OK struct{ Counts []uint64 }
		}
		Behind map[string]uint64
		Sample struct {
			Raft  struct{ HasLeader, IsLeader bool }
			Store struct{ Keys, Revision int64 }
		}
	}
	var now stats
	var text string
	puts, behind, known := uint64(0), uint64(0), false
	// What a new leader proposes by itself may be on its way, and a busy host may not say in time how far it is.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for again := true; again; {
		_, text, _ = fetch(t, web, "http://"+address+"/ui/stats", "")
		now, puts = stats{}, 0
		if err := json.Unmarshal([]byte(text), &now); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		for _, n := range now.Requests["Put"].OK.Counts {
			puts += n
		}
		behind, known = now.Behind[now.Member]
		if again = !known || behind != 0; again {
			select {
			case <-tick.C:
			case <-limit:
				again = false
			}
		}
	}
	if now.Member == "" || now.Leader != now.Member || !now.Sample.Raft.IsLeader || now.Term == 0 || now.Sample.Store.Keys != 1 || now.Sample.Store.Revision != 2 || puts != 1 || behind != 0 || !known {
		t.Errorf("%s", text)
	}
	if len(now.Bounds.Requests)+1 != len(now.Requests["Put"].OK.Counts) || len(now.Bounds.Peers) == 0 || len(now.Bounds.Disk) == 0 || len(now.Bounds.Range) == 0 {
		t.Errorf("bounds %+v", now.Bounds)
	}
	if age := time.Since(time.UnixMilli(now.At)); age < -time.Minute || age > time.Hour {
		t.Errorf("read %v ago", age)
	}
	var past []struct{ Member string }
	for limit := time.After(patience); len(past) == 0; {
		_, text, _ = fetch(t, web, "http://"+address+"/ui/past", "")
		if err := json.Unmarshal([]byte(text), &past); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("there is no past")
		}
	}
	if past[0].Member != now.Member {
		t.Errorf("the past of %q", past[0].Member)
	}
}
