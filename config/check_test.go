package config_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"quorate.dev/quorate/config"
	"quorate.dev/quorate/internal/pki"
)

// uncomment makes a file of a template, with every setting at its default.
func uncomment(template string) string {
	var b strings.Builder
	for line := range strings.Lines(template) {
		if after, ok := strings.CutPrefix(line, "# "); ok {
			b.WriteString(after)
		}
	}
	return b.String()
}

// TestTemplate: the template changes nothing as it is, and nothing with every setting at its default; it has all settings.
func TestTemplate(t *testing.T) {
	load := func(text string) *config.Config {
		l, err := config.Load(config.Source{Program: "quorate", Args: []string{"--config-file=x"}, ReadFile: func(string) ([]byte, error) { return []byte(text), nil }})
		if err != nil {
			t.Fatal(err)
		}
		return l.Config
	}
	empty, asIs, whole := load("{}"), load(config.Template()), load(uncomment(config.Template()))
	for name, c := range map[string]*config.Config{"as it is": asIs, "uncommented": whole} {
		if c.Dump(true) != empty.Dump(true) {
			t.Errorf("the template, %s, changes settings:\n%s", name, c.Dump(false))
		}
	}
	for _, s := range config.Settings() {
		if s.Key() != "" && s.State != config.Historical && !whole.IsSet(s.Name) && s.Default != "" {
			t.Errorf("the template does not set %s", s.Name)
		}
	}
	if problems := config.Check([]byte(uncomment(config.Template())), os.ReadFile, time.Now()); len(problems) > 0 {
		t.Errorf("a file of defaults is wrong: %+v", problems)
	}
}

// TestCheck: all problems of a file are found at once, each at its line.
func TestCheck(t *testing.T) {
	now, dir := time.Now(), t.TempDir()
	a := pki.New(t, "root", now)
	cert, key := a.Issue("good", nil).Write(dir, "good")
	_, other := a.Issue("other", nil).Write(dir, "other")
	later := now.AddDate(30, 0, 0)
	for _, c := range []struct {
		name, text string
		now        time.Time
		want       []string // "LINE severity key: part of the text | part of the fix"
	}{
		{"nothing", "", now, nil},
		{"comments", "# nothing\n", now, nil},
		{"good", "name: m1\nclient-transport-security:\n  cert-file: " + cert + "\n  key-file: " + key + "\nlisten-client-urls: https://127.0.0.1:1\n", now, nil},
		{"several", "heartbeat-intervall: 1\nname: 7\nheartbeat-interval: fast\n\nelection-timeout: 100\nnonsense-of-old: true\n", now, []string{
			"1 error heartbeat-intervall: it is ignored | mean heartbeat-interval?",
			"3 error heartbeat-interval: use an integer |",
			"5 error election-timeout: at least as 5 times |",
			"6 warning nonsense-of-old: it is ignored |",
		}},
		{"not in a map", "cert-file: x\n", now, []string{"1 error cert-file: it is ignored | write client-transport-security.cert-file"}},
		{"flag only", "raft-read-timeout: 5\n", now, []string{"1 error raft-read-timeout: it is ignored | can only be given as a flag"}},
		{"no map", "client-transport-security: 7\n", now, []string{"1 error client-transport-security: must be a map |"}},
		{"no map at all", "- 1\n", now, []string{"0 error : must be a map |"}},
		{"no YAML", "name: m1\na: [1\n", now, []string{"2 error : did not find expected |"}},
		{"twice", "name: m1\nname: m2\n", now, []string{"2 error : already |"}},
		{"duration", "grpc-keepalive-interval: 10m\n", now, []string{"1 error grpc-keepalive-interval: write 600000000000 |"}},
		{"mode", "auto-compaction-mode: weekly\n", now, []string{`1 error auto-compaction-mode: unknown auto-compaction-mode "weekly" |`}},
		{"no effect", "max-wals: 7\n", now, []string{"1 warning max-wals: accepted, no effect |"}},
		{"contradiction", "name: m1\ninitial-cluster: m2=http://localhost:2380\n", now, []string{"2 error initial-cluster: does not include this member |"}},
		{"TLS without certificate", "listen-client-urls: https://127.0.0.1:1\n", now, []string{"0 error : must be provided for client url |"}},
		{"certificate without TLS", "client-transport-security: {cert-file: " + cert + ", key-file: " + key + "}\n", now, []string{"0 warning : scheme is http or unix |"}},
		{"no such file", "peer-transport-security:\n  trusted-ca-file: /nonexistent/ca.pem\n", now, []string{"2 error peer-transport-security.trusted-ca-file: no such file | readable"}},
		{"no certificate", "peer-transport-security:\n  trusted-ca-file: " + key + "\n", now, []string{"2 error peer-transport-security.trusted-ca-file: there is no certificate in it | PEM"}},
		{"wrong key", "listen-peer-urls: https://127.0.0.1:2380\npeer-transport-security:\n  cert-file: " + cert + "\n  key-file: " + other + "\n", now,
			[]string{"4 error peer-transport-security.key-file: private key does not match | the key of the certificate in"}},
		{"expired", "listen-peer-urls: https://127.0.0.1:2380\npeer-transport-security:\n  cert-file: " + cert + "\n  key-file: " + key + "\n", later,
			[]string{"3 error peer-transport-security.cert-file: has expired at | renew"}},
		{"JSON", "{\n\"name\": \"m1\",\n\"heartbeat-interval\": \"fast\"\n}", now, []string{"3 error heartbeat-interval: use an integer |"}},
		{"secret", "discovery-config:\n  auth:\n    password: [hidden]\n", now, []string{"3 error discovery-config.auth.password: *** |"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := config.Check([]byte(c.text), os.ReadFile, c.now)
			for i := range max(len(got), len(c.want)) {
				if i >= len(got) || i >= len(c.want) {
					t.Fatalf("got %+v, want %q", got, c.want)
				}
				severity := map[bool]string{true: "warning", false: "error"}[got[i].Warning]
				head, rest, _ := strings.Cut(c.want[i], ": ")
				text, fix, _ := strings.Cut(rest, " |")
				if fmt.Sprintf("%d %s %s", got[i].Line, severity, got[i].Key) != head || !strings.Contains(got[i].Text, text) || !strings.Contains(got[i].Fix, strings.TrimSpace(fix)) {
					t.Errorf("got %+v, want %s", got[i], c.want[i])
				}
			}
		})
	}
}
