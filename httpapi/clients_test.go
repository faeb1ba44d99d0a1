package httpapi

import (
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func TestClients(t *testing.T) {
	c := newClients()
	c.Request(false, "3.7")
	c.Request(false, "3.7")
	c.Request(true, "")
	want := `# HELP etcd_server_client_requests_total Calls and streams begun, by the API version of the client.
# TYPE etcd_server_client_requests_total counter
etcd_server_client_requests_total{client_api_version="3.7",type="unary"} 2
etcd_server_client_requests_total{client_api_version="unknown",type="stream"} 1
`
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	page := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	if got := page.Body.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for i := range 1000 {
		c.Request(false, fmt.Sprint("9.", i))
	}
	if n := len(*c.counts[0].Load()); n > clientVersionsMax+1 {
		t.Errorf("clients made us count %d versions", n)
	}
	if n := testing.AllocsPerRun(100, func() { c.Request(false, "3.7") }); n > 0 {
		t.Errorf("%v allocations a request, want none", n)
	}
}
