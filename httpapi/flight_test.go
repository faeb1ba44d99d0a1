package httpapi

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/zap"
)

// TestFlight asks for the last seconds twice, and once where profiles are off.
func TestFlight(t *testing.T) {
	ask := func(pprof bool) *httptest.ResponseRecorder {
		f := New(Config{Member: &fakeMember{}, Metrics: testMetrics(), Timeout: time.Second, Logger: zap.NewNop(), Pprof: pprof})
		w := httptest.NewRecorder()
		f.Client().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/flight", nil))
		return w
	}
	for range 2 {
		w := ask(true)
		if w.Code != http.StatusOK || !bytes.HasPrefix(w.Body.Bytes(), []byte("go 1.")) {
			t.Fatalf("status %d, %d bytes: not a trace", w.Code, w.Body.Len())
		}
	}
	if w := ask(false); w.Code != http.StatusNotFound {
		t.Errorf("without profiles: status %d", w.Code)
	}
}
