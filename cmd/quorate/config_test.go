package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestConfigFiles: a new file is made and right, one that is there is left alone, and what is wrong with one decides the exit code.
func TestConfigFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quorate.yaml")
	var out, complaints bytes.Buffer
	if code := initConfig(&out, &complaints, []string{path}); code != 0 {
		t.Fatal(code, complaints.String())
	}
	if code := checkConfig(&out, &complaints, path, false, time.Now()); code != 0 {
		t.Errorf("%d %s", code, out.String())
	}
	if code := initConfig(&out, &complaints, []string{path}); code != 1 || !strings.Contains(complaints.String(), "file exists; name another file") {
		t.Errorf("%d %s", code, complaints.String())
	}
	if err := os.WriteFile(path, []byte("name: m1\nmax-wals: 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if code := checkConfig(&out, &complaints, path, false, time.Now()); code != 0 || !strings.Contains(out.String(), path+":2: warning: ") || !strings.HasSuffix(out.String(), "0 errors, 1 warnings\n") {
		t.Errorf("a warning: %d %s", code, out.String())
	}
	if err := os.WriteFile(path, []byte("name: m1\nheartbeat-interval: fast\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	code := checkConfig(&out, &complaints, path, true, time.Now())
	var problems []struct {
		Line int
		Key  string
	}
	if err := json.Unmarshal(out.Bytes(), &problems); err != nil || code != 1 || len(problems) != 1 || problems[0].Line != 2 || problems[0].Key != "heartbeat-interval" {
		t.Errorf("an error as JSON: %d %v %s", code, err, out.String())
	}
	if code := checkConfig(&out, &complaints, path+".none", false, time.Now()); code != 1 {
		t.Errorf("a file that is not there: %d", code)
	}
	out.Reset()
	if code := initConfig(&out, &complaints, nil); code != 0 || !strings.Contains(out.String(), "\n# data-dir: ") {
		t.Errorf("to the standard output: %d", code)
	}
}
