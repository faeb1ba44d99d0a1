package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"quorate.dev/quorate/rpc"
)

// TestRestOfARequest: a stream that ends before its request does leaves nothing on the connection that could pass for another
// request, and harms no other connection.
func TestRestOfARequest(t *testing.T) {
	s := newStand(t, map[string]rpc.UnaryHandler{"KV/Range": echo(t)}, map[string]rpc.StreamHandler{
		"Lease/LeaseKeepAlive": func(st *rpc.Stream) *rpc.Status {
			if _, err := st.Recv(); err == nil {
				_ = st.Send(message(t, &etcdserverpb.LeaseKeepAliveResponse{ID: 1}))
			}
			return nil
		}})
	hidden := "POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
	for i := range 200 {
		body := `{"ID":"1"} nonsense` + strings.Repeat(" ", i*10) + hidden
		if i%2 == 0 {
			body = strings.Repeat(`{"ID":"1"}`, 1+i) + hidden
		}
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(c, "POST /v3/lease/keepalive HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(c)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || !resp.Close {
			t.Fatalf("round %d: %v; the connection is to be closed: %v", i, err, resp.Close)
		}
		_ = resp.Body.Close()
		if rest, _ := io.ReadAll(r); len(rest) > 0 {
			t.Fatalf("round %d: the rest of the request was answered as well: %q", i, rest)
		}
		_ = c.Close()
	}
}
