package server_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/internal/freeport"
)

// TestAuditLog: what clients asked for is in the file when the server has stopped, over a restart, and /metrics counts it.
func TestAuditLog(t *testing.T) {
	bin, dir, addr := buildQuorate(t), t.TempDir(), freeport.Address(t)
	file := filepath.Join(dir, "audit.log")
	for _, key := range []string{"first", "second"} {
		p := startProcess(t, bin, filepath.Join(dir, "data"), addr, "--audit-log="+file, `--audit-log-rotation={"maxsize": 1}`)
		c := connect(t, addr)
		if _, err := c.Put(t.Context(), key, "v"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(t.Context(), key, clientv3.WithSerializable()); err != nil { // not recorded: --audit-log-methods=writes
			t.Fatal(err)
		}
		resp, err := http.Get("http://" + addr + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		var series []string
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "quorate_audit_") {
				series = append(series, strings.Fields(lines.Text())[0])
			}
		}
		resp.Body.Close()
		if len(series) != 3 {
			t.Errorf("/metrics has %v", series)
		}
		c.Close()
		p.stop(t)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for line := range strings.Lines(string(text)) {
		var fields struct {
			Method, Code, Decision string
			Ranges                 []struct{ Key string }
		}
		if err := json.Unmarshal([]byte(line), &fields); err != nil || fields.Code != "OK" || fields.Decision != "allowed" || len(fields.Ranges) != 1 {
			t.Fatalf("%v: %s", err, line)
		}
		keys = append(keys, fields.Method+" "+fields.Ranges[0].Key)
	}
	if got := strings.Join(keys, ", "); got != "/etcdserverpb.KV/Put first, /etcdserverpb.KV/Put second" {
		t.Errorf("the audit log has %s", got)
	}
}
