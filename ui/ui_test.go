package ui

import (
	"compress/gzip"
	"context"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// loopback and elsewhere are addresses that requests come in on.
var (
	loopback  = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2379}
	loopback6 = &net.TCPAddr{IP: net.IPv6loopback, Port: 2379}
	elsewhere = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 2379}
	socket    = &net.UnixAddr{Name: "/run/quorate.sock", Net: "unix"}
)

func handler(a Access) http.Handler {
	return New(Config{Access: a, Stats: func(context.Context) any { return map[string]int{"answer": 42} }, Past: func() any { return []int{} }})
}

// ask sends a request that came in on an address. Header pairs follow.
func ask(h http.Handler, on net.Addr, method, url string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, url, nil)
	if on != nil {
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, on))
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestAccess(t *testing.T) {
	for _, c := range []struct {
		name   string
		access Access
		on     net.Addr
		host   string
		code   int
	}{
		{"localhost", Access{}, loopback, "localhost:2379", 200},
		{"upper case, with a dot", Access{}, loopback, "LocalHost.:2379", 200},
		{"below localhost", Access{}, loopback, "m1.localhost", 200},
		{"IPv4", Access{}, loopback, "127.0.0.1:2379", 200},
		{"another of the loopback's", Access{}, loopback, "127.8.9.1:2379", 200},
		{"IPv6", Access{}, loopback6, "[::1]:2379", 200},
		{"IPv6 without a port", Access{}, loopback6, "[::1]", 200},
		{"mapped IPv4", Access{}, loopback, "[::ffff:127.0.0.1]:2379", 200},
		{"a socket", Access{}, socket, "localhost", 200},
		{"rebound name", Access{}, loopback, "evil.example:2379", 421},
		{"name that begins like an address", Access{}, loopback, "127.0.0.1.evil.example", 421},
		{"name that ends like localhost", Access{}, loopback, "notlocalhost", 421},
		{"another machine's address", Access{}, loopback, "192.0.2.7:2379", 421},
		{"no name", Access{}, loopback, "", 421},
		{"from outside", Access{}, elsewhere, "192.0.2.7:2379", 403},
		{"from outside by a local name", Access{}, elsewhere, "localhost:2379", 403},
		{"unknown address", Access{}, nil, "localhost", 403},
		{"on: from outside", Access{Everywhere: true}, elsewhere, "db.example:2379", 200},
		{"on: unknown address", Access{Everywhere: true}, nil, "db.example:2379", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, path := range []string{"/ui/", "/ui/app.js", "/ui/stats", "/ui/past"} {
				r := httptest.NewRequest("GET", path, nil)
				r.Host = c.host
				if c.on != nil {
					r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, c.on))
				}
				w := httptest.NewRecorder()
				handler(c.access).ServeHTTP(w, r)
				if w.Code != c.code {
					t.Errorf("%s: %d instead of %d", path, w.Code, c.code)
				}
				if w.Code != 200 && strings.Contains(w.Body.String(), "42") {
					t.Errorf("%s tells numbers to whom it refuses: %s", path, w.Body)
				}
				checkHeaders(t, w.Header())
			}
		})
	}
}

// checkHeaders looks at what protects the page, which every answer has.
func checkHeaders(t *testing.T, h http.Header) {
	t.Helper()
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
		"Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	rules := map[string]string{}
	for _, rule := range strings.Split(h.Get("Content-Security-Policy"), ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(rule), " ")
		rules[name] = value
	}
	for name, want := range map[string]string{
		"default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "connect-src": "'self'", "img-src": "'self'",
		"frame-ancestors": "'none'", "base-uri": "'none'", "form-action": "'none'",
	} {
		if rules[name] != want {
			t.Errorf("policy %s is %q", name, rules[name])
		}
	}
}

// TestOrigins: answers that the endpoint shares with all origins are not shared when they are the page's.
func TestOrigins(t *testing.T) {
	shared := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Access-Control-Allow-Origin", "*")
		handler(Access{}).ServeHTTP(w, r)
	})
	if got := ask(shared, loopback, "GET", "http://localhost/ui/stats", "Origin", "http://evil.example").Header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("another origin may read the numbers: %q", got)
	}
}

func TestAssets(t *testing.T) {
	h := handler(Access{})
	const url = "http://localhost/ui/app.js"
	plain := ask(h, loopback, "GET", url)
	text, _ := io.ReadAll(plain.Body)
	if plain.Header.Get("Content-Type") != "text/javascript; charset=utf-8" || len(text) == 0 || plain.Header.Get("Vary") != "Accept-Encoding" {
		t.Fatalf("%v", plain.Header)
	}
	small := ask(h, loopback, "GET", url, "Accept-Encoding", "br, gzip;q=0.5")
	r, err := gzip.NewReader(small.Body)
	if err != nil || small.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("not compressed: %v, %v", err, small.Header)
	}
	if again, err := io.ReadAll(r); err != nil || string(again) != string(text) {
		t.Fatalf("compressed differs: %v", err)
	}
	if got := ask(h, loopback, "GET", url, "Accept-Encoding", "gzip;q=0").Header.Get("Content-Encoding"); got != "" {
		t.Errorf("compressed for who does not want it: %s", got)
	}
	tag, smallTag := plain.Header.Get("Etag"), small.Header.Get("Etag")
	if tag == "" || tag == smallTag {
		t.Errorf("tags %q and %q of different bytes", tag, smallTag)
	}
	for _, c := range []struct {
		tags string
		code int
	}{{tag, 304}, {`"x", W/` + tag, 304}, {"*", 304}, {`"x"`, 200}, {smallTag, 200}, {"", 200}} {
		got := ask(h, loopback, "GET", url, "If-None-Match", c.tags)
		body, _ := io.ReadAll(got.Body)
		if got.StatusCode != c.code || (c.code == 304) != (len(body) == 0) {
			t.Errorf("If-None-Match %s: %d with %d bytes", c.tags, got.StatusCode, len(body))
		}
	}
	head := ask(h, loopback, "HEAD", url)
	if body, _ := io.ReadAll(head.Body); head.StatusCode != 200 || len(body) != 0 || head.Header.Get("Content-Length") != plain.Header.Get("Content-Length") {
		t.Errorf("HEAD: %d, %v", head.StatusCode, head.Header)
	}
}

func TestPaths(t *testing.T) {
	h := handler(Access{})
	for _, c := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/ui", 308}, {"GET", "/ui/", 200}, {"GET", "/ui/index.html", 200}, {"GET", "/ui/icon.svg", 200},
		{"GET", "/ui/nothing", 404}, {"GET", "/ui/assets/app.js", 404}, {"GET", "/ui//app.js", 404}, {"GET", "/ui/../ui.go", 404},
		{"POST", "/ui/", 405}, {"PUT", "/ui/stats", 405}, {"DELETE", "/ui/app.js", 405}, {"GET", "/ui/stats", 200}, {"GET", "/ui/past", 200},
	} {
		got := ask(h, loopback, c.method, "http://localhost"+c.path)
		if got.StatusCode != c.code {
			t.Errorf("%s %s: %d instead of %d", c.method, c.path, got.StatusCode, c.code)
		}
		if c.code == 308 && got.Header.Get("Location") != Path {
			t.Errorf("to %s", got.Header.Get("Location"))
		}
	}
	got := ask(h, loopback, "GET", "http://localhost/ui/stats")
	if body, _ := io.ReadAll(got.Body); string(body) != `{"answer":42}` || got.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s, %v", body, got.Header)
	}
}

// sizeMax bounds all assets together, bytes.
const sizeMax = 150_000

// TestSelfContained: the page is small, asks nobody else, and holds no script or style that its policy would not run.
func TestSelfContained(t *testing.T) {
	outside := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9.-]+\.[a-z]{2,}`)
	inline := regexp.MustCompile(`(?i)<script>|<style|\sstyle=|\son[a-z]+=|javascript:|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function`)
	size := 0
	err := fs.WalkDir(embedded, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(embedded, name)
		size += len(text)
		for _, found := range outside.FindAllString(string(text), -1) {
			if found != "http://www.w3.org" { // the name of SVG
				t.Errorf("%s refers to %s", name, found)
			}
		}
		if found := inline.FindString(string(text)); found != "" {
			t.Errorf("%s has %q", name, found)
		}
		return err
	})
	if err != nil || size > sizeMax {
		t.Errorf("%d bytes of assets, at most %d: %v", size, sizeMax, err)
	}
}
