package tools

import (
	"strings"
	"testing"

	"quorate.dev/quorate/test/compat/proc"
)

// TestHarness shows that the comparison can be believed: a tool that lies in any one thing is found out.
func TestHarness(t *testing.T) {
	j, _ := sides(t)
	scripts, err := Parse("harness", "script harness offline\netcdctl version\netcdctl version\n")
	if err != nil {
		t.Fatal(err)
	}
	outcome := func(tool ...string) []Entry {
		entries, err := Run(scripts[0], Bench{Ctl: tool, Utl: j.utl, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		return entries
	}
	want := outcome(j.ctl...)
	for name, c := range map[string]struct {
		lie   string
		finds string
	}{
		"nothing":  {`"$0" "$@"`, ""},
		"stdout":   {`"$0" "$@" | sed s/API/api/`, "stdout"},
		"blank":    {`"$0" "$@"; echo`, "stdout"},
		"trailing": {`"$0" "$@" | tr -d '\n'`, "stdout"},
		"stderr":   {`"$0" "$@"; echo x >&2`, "stderr"},
		"status":   {`"$0" "$@"; exit 3`, "status"},
		"file":     {`"$0" "$@"; echo > made`, "files"},
		"mode":     {`"$0" "$@"; mkdir -m 700 -p made; chmod 755 made`, "files"},
	} {
		got := outcome(append([]string{"sh", "-c", c.lie}, j.ctl...)...)
		diff := difference(want[0], got[0])
		if (diff == "") != (c.finds == "") || !strings.Contains(diff, c.finds) {
			t.Errorf("the lie about %s shows as %q", name, diff)
		}
	}
}

// TestNormal holds what is made equal, and that nothing else is.
func TestNormal(t *testing.T) {
	bench := Bench{Dir: "/tmp/x/work", Servers: []*proc.Server{{Addr: "127.0.0.1:12345"}}}
	for _, c := range []struct {
		one, other string
		equal      bool
	}{
		{"lease 694d9a2000000001 granted with TTL(100s)", "lease 694d9a2000000099 granted with TTL(100s)", true},
		{"lease 694d9a2000000001 granted with TTL(100s)", "lease 694d9a2000000001 granted with TTL(101s)", false},
		{"lease 694d9a2000000001, 694d9a2000000001", "lease 694d9a2000000001, 694d9a2000000002", false},
		{"lease 694d9a2000000001 granted", "lease  694d9a200000001 granted", true}, // %16x
		{"lease 694d9a2000000001 granted", "lease   694d9a2000000001 granted", false},
		{`{"revision":4}`, `{"revision":5}`, false},
		{`{"ID":7587872356712345678}`, `{"ID":7587872356712345679}`, true},
		{"127.0.0.1:12345 is healthy: successfully committed proposal: took = 2.4ms", "127.0.0.1:12345 is healthy: successfully committed proposal: took = 31.25µs", true},
		{"127.0.0.1:12345 is healthy", "127.0.0.1:12346 is healthy", false},
		{"127.0.0.1:12345, 8e9e05c52164694d, 3.7.3, 3.7.0, 21 MB, 21 MB, 1%, 2.1 GB, true, false, 2, 10, 10, , , false",
			"127.0.0.1:12345, 8e9e05c52164694d, 3.7.3, 3.7.0, 1 kB, 2 kB, 3%, 2.1 GB, true, false, 2, 11, 11, , , false", true},
		{"127.0.0.1:12345, 8e9e05c52164694d, 3.7.3, 3.7.0, 21 MB, 21 MB, 1%, 2.1 GB, true, false, 2, 10, 10, , , false",
			"127.0.0.1:12345, 8e9e05c52164694d, 3.7.3, 3.7.0, 21 MB, 21 MB, 1%, 2.2 GB, true, false, 2, 10, 10, , , false", false},
		{"127.0.0.1:12345, 8e9e05c52164694d, 3.7.3, 3.7.0, 21 MB, 21 MB, 1%, 2.1 GB, true, false, 2, 10, 10, , , false",
			"127.0.0.1:12345, 8e9e05c52164694d, 3.7.3, 3.7.0, 21 MB, 21 MB, 1%, 2.1 GB, true, false, 3, 10, 10, , , false", false},
		{`"DBSize" : 20480`, `"DBSize" : 4096`, true},
		{`"DBSizeQuota" : 20480`, `"DBSizeQuota" : 4096`, false},
		{`{"key":"bXV0ZXgvM2VkNWEyMDA5NmQ5ZTcyZA=="}`, `{"key":"bXV0ZXgvM2VkNWEyMDA5NmQ5ZTQyZA=="}`, true},
		{`{"key":"c29tZXRoaW5nIHF1aXRlIGVsc2U="}`, `{"key":"c29tZXRoaW5nIHF1aXRlIGFsc28="}`, false},
		{"┌──┐\n│ TOOK │\n├──┤\n│ 2ms │\n└──┘", "┌────┐\n│  TOOK │\n├────┤\n│ 12ms │\n└────┘", true},
		{"┌──┐\n│ HASH │\n├──┤\n│ 2 │\n└──┘", "┌────┐\n│  HASH │\n├────┤\n│ 2 │\n└────┘", false},
		{`"ts":"2026-11-21T23:51:07Z","caller":"a.go:1","msg":"x"`, `"ts":"2026-11-21T23:51:08Z","caller":"b.go:1","msg":"x"`, true},
		{`"ts":"2026-11-21T23:51:07Z","caller":"a.go:1","msg":"x"`, `"ts":"2026-11-21T23:51:08Z","caller":"a.go:1","msg":"y"`, false},
		{"open /tmp/x/work/f", "open /tmp/y/work/f", false},
	} {
		if one, other := newNormal(bench).text(c.one), newNormal(bench).text(c.other); (one == other) != c.equal {
			t.Errorf("%q and %q become %q and %q", c.one, c.other, one, other)
		}
	}
}

// TestParse holds the language of scripts.
func TestParse(t *testing.T) {
	scripts, err := Parse("f.txt", "# comment\nscript a own --flag=1\nenv A=B\nctl put 'a b' \"c\\n\"\n| in\n|- put\nstart w etcdctl watch\nstop w TERM\n")
	if err != nil {
		t.Fatal(err)
	}
	s := scripts[0]
	if s.Name != "a" || !s.Own || len(s.Flags) != 1 || s.Commands() != 2 {
		t.Errorf("%+v", s)
	}
	if st := s.Steps[0]; strings.Join(st.Words, "|") != "ctl|put|a b|c\n" || string(st.Stdin) != "in\nput" || st.Env[0] != "A=B" {
		t.Errorf("%+v", st)
	}
	for _, wrong := range []string{"ctl get", "script", "script a odd", "script a\nnonsense x", "script a\nctl 'x", "script a\nknown x\n", "script a\nstart", "| in"} {
		if _, err := Parse("f.txt", wrong); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
}
