package v2http_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/wire"
)

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

// pipe is a client that takes what is written to it only while it is open.
type pipe struct {
	header http.Header
	open   chan struct{} // closed when the client reads

	mu      sync.Mutex
	body    bytes.Buffer
	flushed chan struct{} // gets an element for every flush
}

func newPipe() *pipe {
	return &pipe{header: http.Header{}, open: make(chan struct{}), flushed: make(chan struct{}, 1<<17)}
}

// Header implements http.ResponseWriter.
func (p *pipe) Header() http.Header { return p.header }

// WriteHeader implements http.ResponseWriter.
func (p *pipe) WriteHeader(int) {}

// Flush implements http.Flusher.
func (p *pipe) Flush() { p.flushed <- struct{}{} }

// Write implements http.ResponseWriter.
func (p *pipe) Write(b []byte) (int, error) {
	<-p.open
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.body.Write(b)
}

func (p *pipe) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.body.String()
}

// watching runs a watch until its headers are there. ended is closed when the handler returns.
func watching(t *testing.T, h http.Handler, p *pipe, target string, headers ...string) (cancel func(), ended chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r := httptest.NewRequest(http.MethodGet, target, nil).WithContext(ctx)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		h.ServeHTTP(p, r)
	}()
	await(t, p.flushed, "the headers")
	return cancel, ended
}

func await(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
	}
}

func put(t *testing.T, f *fake, key, value string) {
	t.Helper()
	if _, err := f.do(&wire.V2Request{Method: "PUT", Path: "/1" + key, Val: value}); err != nil {
		t.Fatal(err)
	}
}

// TestWatchEnds: by an event, by the client that goes away, by the end of the member. Nothing of a watch is left then.
func TestWatchEnds(t *testing.T) {
	for name, end := range map[string]func(f *fake, cancel func()){
		"event":  func(f *fake, _ func()) { put(t, f, "/a", "1") },
		"client": func(_ *fake, cancel func()) { cancel() },
		"member": func(f *fake, _ func()) { f.hub.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			f, p := newFake(t), newPipe()
			close(p.open)
			cancel, ended := watching(t, f.serve(), p, "/v2/keys/a?wait=true")
			if f.Count() != 1 || p.header.Get("X-Etcd-Index") != "3" || p.header.Get("X-Raft-Index") != "17" || p.header.Get("X-Raft-Term") != "3" {
				t.Errorf("%d watchers, headers %v", f.Count(), p.header)
			}
			end(f, cancel)
			await(t, ended, "the end")
			if f.Count() != 0 {
				t.Errorf("%d watchers are left", f.Count())
			}
			if want := `{"action":"set","node":{"key":"/a","value":"1","modifiedIndex":4,"createdIndex":4}}` + "\n"; name == "event" && p.text() != want {
				t.Errorf("got %s", p.text())
			}
		})
	}
}

// TestSlowWatcher: a client that does not read loses its watch, whatever else happens, and gets what was queued for it.
func TestSlowWatcher(t *testing.T) {
	f, slow, quick := newFake(t), newPipe(), newPipe()
	close(quick.open)
	h := f.serve()
	_, slowEnded := watching(t, h, slow, "/v2/keys/a?wait=true&stream=true")
	_, quickEnded := watching(t, h, quick, "/v2/keys/a?wait=true&stream=true")
	for i := range limits.V2WatcherEvents + 100 {
		put(t, f, "/a", fmt.Sprint(i))
		await(t, quick.flushed, "an event for the client that reads")
	}
	if n := f.Count(); n != 1 {
		t.Errorf("%d watchers wait, and only one client reads", n)
	}
	close(slow.open)
	await(t, slowEnded, "the end of the slow one")
	if n := strings.Count(slow.text(), "\n"); n < limits.V2WatcherEvents || n > limits.V2WatcherEvents+2 || !strings.Contains(slow.text(), `"value":"0"`) {
		t.Errorf("the slow client got %d events", n)
	}
	if n := strings.Count(quick.text(), "\n"); n != limits.V2WatcherEvents+100 {
		t.Errorf("the client that reads got %d events", n)
	}
	f.hub.Close()
	await(t, quickEnded, "the end")
}

// TestWatchLosesPermission: a watch of a v3 user shows nothing once that user may not read it any more.
func TestWatchLosesPermission(t *testing.T) {
	f, p := newFake(t), newPipe()
	f.share(t)
	f.v3 = map[string]string{"eve": "e"}
	var mu sync.Mutex
	allowed := true
	f.may = func(who authn.Identity, path string, recursive bool) error {
		mu.Lock()
		defer mu.Unlock()
		if who.User != "eve" || path != "/a" || !recursive || !allowed {
			return fault.PermissionDenied
		}
		return nil
	}
	close(p.open)
	_, ended := watching(t, f.serve(), p, "/v2/keys/a?wait=true&stream=true&recursive=true", "Authorization", basic("eve", "e"))
	put(t, f, "/a/x", "1")
	await(t, p.flushed, "the event")
	mu.Lock()
	allowed = false
	mu.Unlock()
	put(t, f, "/a/x", "secret")
	await(t, ended, "the end")
	if strings.Count(p.text(), "\n") != 1 || strings.Contains(p.text(), "secret") {
		t.Errorf("the watch showed %s", p.text())
	}
}

// TestWatchBeforeUsers: a watch that nobody in particular began shows nothing once v3's users decide.
func TestWatchBeforeUsers(t *testing.T) {
	f, p := newFake(t), newPipe()
	f.share(t)
	var mu sync.Mutex
	enabled := false
	f.enabled = func() bool { mu.Lock(); defer mu.Unlock(); return enabled }
	f.may = func(authn.Identity, string, bool) error { return fault.UserEmpty }
	close(p.open)
	_, ended := watching(t, f.serve(), p, "/v2/keys/a?wait=true&stream=true&recursive=true")
	put(t, f, "/a/x", "1")
	await(t, p.flushed, "the event")
	mu.Lock()
	enabled = true
	mu.Unlock()
	put(t, f, "/a/x", "secret")
	await(t, ended, "the end")
	if strings.Count(p.text(), "\n") != 1 || strings.Contains(p.text(), "secret") {
		t.Errorf("the watch showed %s", p.text())
	}
}
