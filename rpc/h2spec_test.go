package rpc_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"

	"quorate.dev/quorate/rpc"
)

// h2specOther are the cases in which this server chooses to differ, and why.
var h2specOther = map[string]string{
	"http2/3.5: Sends invalid connection preface": "on a port shared with HTTP/1.1, what is not HTTP/2's preface gets HTTP/1.1's 400 before the connection closes",
}

// TestH2Spec holds the server to h2spec's generic, HPACK and HTTP/2 sections, strict cases included, but for h2specOther.
func TestH2Spec(t *testing.T) {
	s := start(t, rpc.Config{HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The body is read first: an answer to half a request would end its stream before the second half is judged.
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			fmt.Fprintln(w, "hello")
		}
	})}, nil)
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	c := &config.Config{Host: host, Port: n, Path: "/", Timeout: 20 * time.Second, MaxHeaderLen: 4000, Strict: true}
	for _, g := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
		g.Test(c)
		if g.PassedCount == 0 {
			t.Errorf("no case of %s ran", g.Key)
		}
		report(t, g)
	}
}

func report(t *testing.T, g *spec.TestGroup) {
	for _, tc := range append(g.Tests, g.StrictTests...) {
		name := g.ID() + ": " + tc.Desc
		_, other := h2specOther[name]
		switch {
		case tc.Result == nil:
		case other && !tc.Result.Failed:
			t.Errorf("%s: passes, so it is no exception any more", name)
		case other:
		case tc.Result.Skipped:
			t.Errorf("%s: skipped", name)
		case tc.Result.Failed:
			t.Errorf("%s: %v", name, tc.Result.Error)
		}
	}
	for _, sub := range g.Groups {
		report(t, sub)
	}
}
