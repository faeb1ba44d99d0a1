package server

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/config"
)

// logged builds the logger of these settings, lets use write to it and returns the file's lines.
func logged(t *testing.T, file string, settings map[string]string, use func(*zap.Logger)) []string {
	t.Helper()
	c := config.New()
	settings["log-outputs"] = file
	for name, value := range settings {
		if err := c.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Finish(); err != nil {
		t.Fatal(err)
	}
	logger, closer, err := Logger(c)
	if err != nil {
		t.Fatal(err)
	}
	use(logger)
	if err := closer.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimRight(string(text), "\n"), "\n")
}

// TestLogShape checks keys, their order and the forms of values, which tools parse.
func TestLogShape(t *testing.T) {
	lines := logged(t, filepath.Join(t.TempDir(), "q.log"), map[string]string{}, func(l *zap.Logger) {
		l.Debug("not shown")
		l.Named("raft").Info("hello", zap.Duration("took", 2300*time.Microsecond), zap.Error(errors.New("e")))
		l.Error("bad")
	})
	if len(lines) != 2 {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	shape := regexp.MustCompile(`^\{"level":"info","ts":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d{4})","logger":"raft",` +
		`"caller":"server/log_test\.go:\d+","msg":"hello","took":"2\.3ms","error":"e"\}$`)
	if !shape.MatchString(lines[0]) {
		t.Errorf("line %s", lines[0])
	}
	var bad map[string]any
	if err := json.Unmarshal([]byte(lines[1]), &bad); err != nil || bad["stacktrace"] == nil || bad["level"] != "error" {
		t.Errorf("%v: %s", err, lines[1])
	}
}

func TestLogConsoleAndLevel(t *testing.T) {
	lines := logged(t, filepath.Join(t.TempDir(), "q.log"), map[string]string{"log-format": "console", "log-level": "debug"}, func(l *zap.Logger) {
		l.Debug("hello", zap.Int("n", 1))
	})
	if fields := strings.Split(lines[0], "\t"); len(fields) != 5 || fields[1] != "debug" || fields[3] != "hello" || fields[4] != `{"n": 1}` {
		t.Errorf("%q", lines)
	}
}

// TestLogSampling checks that a flood of one message does not become a flood of the log.
func TestLogSampling(t *testing.T) {
	lines := logged(t, filepath.Join(t.TempDir(), "q.log"), map[string]string{}, func(l *zap.Logger) {
		for range 1000 {
			l.Info("flood")
		}
	})
	if len(lines) >= 1000 || len(lines) < sampleFirst {
		t.Errorf("%d lines", len(lines))
	}
}

func TestLogRotation(t *testing.T) {
	file := filepath.Join(t.TempDir(), "q.log")
	long := strings.Repeat("x", 1<<20)
	logged(t, file, map[string]string{"enable-log-rotation": "true", "log-rotation-config-json": `{"maxsize": 1}`}, func(l *zap.Logger) {
		for range 3 {
			l.Info(long[:1<<19])
		}
	})
	files, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(files) < 2 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

func TestLogToNowhere(t *testing.T) {
	c := config.New()
	c.Log.Outputs = []string{filepath.Join(t.TempDir(), "no", "such", "q.log")}
	if _, _, err := Logger(c); err == nil || !strings.Contains(err.Error(), "--log-outputs: open ") {
		t.Errorf("%v", err)
	}
	c.Log.Outputs = []string{config.LogDiscard}
	logger, closer, err := Logger(c)
	if err != nil {
		t.Fatal(err)
	}
	logger.Info("nobody hears")
	if err := closer.Close(); err != nil {
		t.Error(err)
	}
}
