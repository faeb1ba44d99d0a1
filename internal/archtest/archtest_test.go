package archtest

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

// TestModule holds the whole module to the rules.
func TestModule(t *testing.T) {
	pkgs, err := Load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) < 10 {
		t.Fatalf("found only %d packages: the walk is broken", len(pkgs))
	}
	text, err := os.ReadFile("budget.txt")
	if err != nil {
		t.Fatal(err)
	}
	budget, err := ParseBudget(string(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range Apply(Check(pkgs), budget) {
		t.Error(f)
	}
}

// TestRulesBite applies each rule to a source that breaks it and to one that does not.
func TestRulesBite(t *testing.T) {
	long := strings.Repeat("\tx++\n", 71)
	for _, c := range []struct {
		name, file, src string
		want            string // rule:name, empty for none
	}{
		{"clean", "ids/a.go", "// Package ids is fine.\npackage ids\n", ""},
		{"uphill import", "wire/a.go", "// Package wire x.\npackage wire\nimport _ \"quorate.dev/quorate/server\"\n", "imports:wire"},
		{"allowed import", "wal/a.go", "// Package wal x.\npackage wal\nimport _ \"quorate.dev/quorate/ids\"\n", ""},
		{"unknown package", "strange/a.go", "// Package strange x.\npackage strange\n", "imports:strange"},
		{"etcd server", "server/a.go", "// Package server x.\npackage server\nimport _ \"go.etcd.io/etcd/server/v3/embed\"\n", "imports:go.etcd.io/etcd/server/v3/embed"},
		{"engine elsewhere", "mvcc/a.go", "// Package mvcc x.\npackage mvcc\nimport _ \"github.com/cockroachdb/pebble/v2\"\n", "imports:github.com/cockroachdb/pebble/v2"},
		{"clock in pure", "lease/a.go", "// Package lease x.\npackage lease\nimport _ \"time\"\n", "purity:time"},
		{"goroutine in pure", "lease/a.go", "// Package lease x.\npackage lease\nfunc f() { go f() }\n", "purity:go"},
		{"goroutine elsewhere", "watch/a.go", "// Package watch x.\npackage watch\nfunc f() { go f() }\n", ""},
		{"long function", "ids/a.go", "// Package ids x.\npackage ids\nfunc f() {\n\tx := 0\n" + long + "}\n", "function:f"},
		{"long method", "ids/a.go", "// Package ids x.\npackage ids\ntype t int\nfunc (*t) f() {\n\tx := 0\n" + long + "}\n", "function:t.f"},
		{"wide struct", "ids/a.go", "// Package ids x.\npackage ids\ntype t struct { a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p int }\n", "struct:t"},
		{"wide interface", "ids/a.go", "// Package ids x.\npackage ids\ntype t interface { A(); B(); C(); D(); E(); F() }\n", "interface:t"},
		{"no package comment", "ids/a.go", "package ids\n", "doc:ids"},
		{"undocumented export", "ids/a.go", "// Package ids x.\npackage ids\nfunc F() {}\n", "doc:F"},
		{"sleep", "watch/a.go", "// Package watch x.\npackage watch\nimport \"time\"\nfunc f() { time.Sleep(1) }\n", "calls:time.Sleep"},
		{"sleep in a test", "watch/a_test.go", "package watch\nimport \"time\"\nfunc f() { time.Sleep(1) }\n", "calls:time.Sleep"},
		{"now in the middle", "leader/a.go", "// Package leader x.\npackage leader\nimport \"time\"\nvar x = time.Now()\n", "calls:time.Now"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pkgs, err := Load(fstest.MapFS{c.file: {Data: []byte(c.src)}})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range Check(pkgs) {
				got = append(got, f.Rule+":"+f.Name)
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Fatalf("got findings %q, want %q", s, c.want)
			}
		})
	}
}

func TestBudget(t *testing.T) {
	found := []Finding{{Rule: "function", File: "a/b.go", Name: "f", Value: 80}}
	rows, err := ParseBudget("# why\nfunction a/b.go f 80 a table that reads best whole\n")
	if err != nil {
		t.Fatal(err)
	}
	if left := Apply(found, rows); len(left) != 0 {
		t.Errorf("an allowed finding is reported: %v", left)
	}
	found[0].Value = 81
	if left := Apply(found, rows); len(left) != 2 {
		t.Errorf("want the finding over its budget and the row that allows nothing, got %v", left)
	}
	if _, err := ParseBudget("function a/b.go f 80"); err == nil {
		t.Error("a row without a reason is accepted")
	}
}
