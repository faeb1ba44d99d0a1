package migrate_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorate.dev/quorate/migrate"
)

const done = "using default transformer\nfinished transforming keys\n"

// TestDefault holds that every destination gets what etcd's own migration makes, and that the source stays as it is.
func TestDefault(t *testing.T) {
	for _, name := range []string{"plain", "snapshots", "cluster"} {
		t.Run(name, func(t *testing.T) {
			dir, want := unpacked(t, name), wanted(t, name)
			before := tree(t, dir)
			for _, kind := range []migrate.Kind{migrate.Nowhere, migrate.Snapshot, migrate.DataDir} {
				target := into(t, kind)
				r, said, err := run(t, migrate.Options{DataDir: dir, Target: target})
				if err != nil || said != done {
					t.Fatalf("%s: %v %q", kind, err, said)
				}
				keys := int64(strings.Count(want, "\n"))
				if r.Written.Keys != keys || r.Read.Keys != keys || kind != migrate.Nowhere && r.Verified != keys {
					t.Errorf("%s: there are %d keys, and the report says %+v", kind, keys, r)
				}
				if r.Skipped.Hidden == 0 || r.Skipped.Directories == 0 || r.Read.TTL == 0 || r.Read.InTTL == 0 || r.TTL != "permanent" {
					t.Errorf("%s: the report says %+v", kind, r)
				}
				if kind == migrate.Snapshot {
					if got, leases := held(t, target.Path); got != want || leases != "" {
						t.Errorf("got\n%s%s\nwant\n%s", got, leases, want)
					}
				}
				if entries, _ := os.ReadDir(filepath.Dir(target.Path)); len(entries) > 1 {
					t.Errorf("%s: more was made: %v", kind, entries)
				}
				if tree(t, dir) != before {
					t.Errorf("%s: the source has changed", kind)
				}
			}
			for range 2 { // a second time finds the keys of the first
				if _, _, err := run(t, migrate.Options{DataDir: dir, Target: migrate.Target{Kind: migrate.InPlace}}); err != nil {
					t.Fatal(err)
				}
				if got, _ := held(t, filepath.Join(dir, "member", "snap", "db")); got != want {
					t.Errorf("in place: got\n%s\nwant\n%s", got, want)
				}
			}
		})
	}
}

// TestTTL holds the three ways with keys that expire.
func TestTTL(t *testing.T) {
	dir := unpacked(t, "plain")
	target := into(t, migrate.Snapshot)
	r, _, err := run(t, migrate.Options{DataDir: dir, Target: target, TTL: migrate.Drop})
	if err != nil || r.Skipped.TTL != 1 {
		t.Fatalf("%v %+v", err, r)
	}
	if got, _ := held(t, target.Path); strings.Contains(got, "ttl/key") || !strings.Contains(got, "ttldir/inside") {
		t.Errorf("dropped: got\n%s", got)
	}
	var before string
	for range 2 { // members that migrate on their own agree
		target = into(t, migrate.Snapshot)
		r, _, err = run(t, migrate.Options{DataDir: dir, Target: target, TTL: migrate.Lease})
		if err != nil || r.Written.Leases != 2 || r.Written.WithTTL != 2 {
			t.Fatalf("%v %+v", err, r)
		}
		got, leases := held(t, target.Path)
		if strings.Count(leases, "\n") != 2 {
			t.Errorf("leases:\n%s", leases)
		}
		for line := range strings.Lines(got) {
			id, err := strconv.ParseInt(strings.TrimSpace(line[strings.LastIndexByte(strings.TrimSpace(line), ' '):]), 10, 64)
			if ttl := strings.Contains(line, "/ttl"); err != nil || ttl != (id > 0) || id < 0 {
				t.Errorf("%v: the lease of %s", err, line)
			}
		}
		if before != "" && got != before {
			t.Errorf("leases differ from run to run:\n%s\n%s", before, got)
		}
		before = got
	}
	target = into(t, migrate.DataDir)
	if r, _, err = run(t, migrate.Options{DataDir: dir, Target: target, TTL: migrate.Lease}); err != nil || r.Verified != r.Written.Keys {
		t.Errorf("%v %+v", err, r)
	}
	target.Members = append(target.Members, target.Self)
	target.Members[1].ID++
	target.Path += "2"
	if _, _, err = run(t, migrate.Options{DataDir: dir, Target: target, TTL: migrate.Lease}); err == nil || !strings.Contains(err.Error(), "--to-snapshot") {
		t.Errorf("leases on several members: %v", err)
	}
}

// transformers builds the program of testdata/transformer and gives it names.
func transformers(t *testing.T) func(name string) string {
	t.Helper()
	dir := t.TempDir()
	built := filepath.Join(dir, "built")
	if out, err := exec.Command("go", "build", "-o", built, "./testdata/transformer").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.Symlink(built, path); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
		return path
	}
}

func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "transformer.sh")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestTransformer holds programs that do as they should.
func TestTransformer(t *testing.T) {
	program, dir := transformers(t), unpacked(t, "snapshots")
	want := wanted(t, "snapshots")
	for name, fits := range map[string]func(got string) bool{
		program("same"): func(got string) bool { return got == want },
		program("upper"): func(got string) bool {
			return strings.Count(got, "\n") == strings.Count(want, "\n") && strings.Contains(got, `"/v3/R0/FILE" "two" 9`)
		},
		program("two"):              func(got string) bool { return strings.Count(got, "\n") == 2*strings.Count(want, "\n") },
		program("nothing"):          func(got string) bool { return got == "" },
		script(t, "cat >/dev/null"): func(got string) bool { return got == "" },
		// key /k, value v, create_revision 3, mod_revision 4, version 1
		script(t, `cat >/dev/null; printf '\015\0\0\0\0\0\0\0\012\002/k\020\003\030\004\040\001\052\001v'`): func(got string) bool { return got == "\"/k\" \"v\" 3 4 1 0\n" },
		script(t, `tr '}' '\n' | grep -c '"key"' >/dev/null`):                                               func(got string) bool { return got == "" },
	} {
		target := into(t, migrate.Snapshot)
		r, said, err := run(t, migrate.Options{DataDir: dir, Target: target, Transformer: name})
		if err != nil || said != "finished transforming keys\n" {
			t.Errorf("%s: %v %q", name, err, said)
			continue
		}
		if got, _ := held(t, target.Path); !fits(got) || r.Verified != int64(strings.Count(got, "\n")) {
			t.Errorf("%s: got\n%s", name, got)
		}
	}
}

// TestTransformerFails holds that programs that do not do as they should leave nothing, and what is said of them.
func TestTransformerFails(t *testing.T) {
	program, dir := transformers(t), unpacked(t, "plain")
	before := tree(t, dir)
	for name, reason := range map[string]string{
		program("crash"):    "ended with exit status 2",
		program("cut"):      "it ends 10 bytes after a length of 100",
		program("huge"):     "are the length 1099511627776",
		program("key"):      `key "/one" comes twice, at mod_revision`,
		program("revision"): "both have mod_revision 7",
		program("version"):  "has version 0; it has to be at least 1",
		script(t, "cat"):    "every key-value has to begin with its length as 8 bytes",
		script(t, "cat >/dev/null; echo warning: nothing to do"):                      "are the length",
		script(t, "cat >/dev/null; printf abc"):                                       "it ends within a length",
		script(t, `cat >/dev/null; printf '\003\0\0\0\0\0\0\0abc'`):                   "is no mvccpb.KeyValue",
		script(t, "cat >/dev/null; exit 3"):                                           "ended with exit status 3",
		script(t, "cat >/dev/null; kill -9 $$"):                                       "ended with signal: killed",
		script(t, "echo $$ > "+filepath.Join(t.TempDir(), "x")+"; sleep 1000 & wait"): "it neither read nor wrote anything for 1s and was killed",
		filepath.Join(t.TempDir(), "missing"):                                         "it cannot be started",
	} {
		for _, kind := range []migrate.Kind{migrate.Snapshot, migrate.InPlace} {
			target := into(t, kind)
			patience := 5 * time.Minute // for a program that the machine gives no time
			if strings.Contains(reason, "for 1s") {
				patience = time.Second
			}
			_, said, err := run(t, migrate.Options{DataDir: dir, Target: target, Transformer: name, Patience: patience})
			var failed *migrate.TransformError
			if !errors.As(err, &failed) || !strings.Contains(err.Error(), reason) || said != "failed to transform keys\n" {
				t.Errorf("%s: want an error that says %q, got %v; said %q", name, reason, err, said)
			}
			if entries, _ := os.ReadDir(filepath.Dir(target.Path)); len(entries) > 0 || tree(t, dir) != before {
				t.Errorf("%s: something was left: %v", name, entries)
			}
		}
	}
	target := into(t, migrate.Snapshot)
	r, _, err := run(t, migrate.Options{DataDir: dir, Target: target, Transformer: program("key"), SkipClash: true})
	if err != nil || r.Written.Keys != 1 || r.Skipped.Clashes != r.Read.Keys-1 {
		t.Errorf("clashes that are passed over: %v %+v", err, r)
	}
}

// TestTransformerChildren holds that what a transformer has started ends with it when it hangs.
func TestTransformerChildren(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	hang := script(t, "sleep 1000 & echo $! > "+pid+"; wait")
	var text []byte
	for patience := 2 * time.Second; len(text) == 0 && patience < 5*time.Minute; patience *= 8 { // it has to begin within that
		_, _, err := run(t, migrate.Options{DataDir: unpacked(t, "plain"), Target: into(t, migrate.Snapshot), Transformer: hang, Patience: patience})
		if err == nil {
			t.Fatal("it did not fail")
		}
		text, _ = os.ReadFile(pid)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	deadline, tick := time.After(2*time.Minute), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for alive(child) {
		select {
		case <-deadline:
			t.Fatalf("process %d still runs", child)
		case <-tick.C:
		}
	}
}

// alive says whether a process runs; one that nobody waited for does not.
func alive(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// TestStopped holds that a migration that is stopped leaves nothing.
func TestStopped(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	target, why := into(t, migrate.DataDir), errors.New("enough")
	o := migrate.Options{DataDir: unpacked(t, "plain"), Target: target, Transformer: script(t, "sleep 1000"), Progress: func(p migrate.Progress) {
		if p.Stage == migrate.Transforming {
			cancel(why)
		}
	}}
	if _, err := migrate.Run(ctx, o); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(target.Path)); len(entries) > 0 {
		t.Errorf("something was left: %v", entries)
	}
}

// TestNothing holds what is said of a member without keys.
func TestNothing(t *testing.T) {
	dir := cutTo(t, unpacked(t, "plain"), 4)
	target := into(t, migrate.DataDir)
	r, said, err := run(t, migrate.Options{DataDir: dir, Target: target})
	if err != nil || said != "using default transformer\nno v2 keys to migrate\n" || r.Written.Keys != 0 {
		t.Errorf("%v %q %+v", err, said, r)
	}
	if entries, _ := os.ReadDir(filepath.Dir(target.Path)); len(entries) > 0 {
		t.Errorf("something was made: %v", entries)
	}
}
