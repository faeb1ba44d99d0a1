package migrate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/internal/etcdwal"
	"quorate.dev/quorate/migrate"
	"quorate.dev/quorate/wire"
)

// made makes a data directory with a log of these entries, from index 1 on.
func made(t *testing.T, data ...[]byte) string {
	t.Helper()
	var entries []*raftpb.Entry
	for i, d := range data {
		entries = append(entries, &raftpb.Entry{Type: raftpb.EntryNormal.Enum(), Term: proto.Uint64(1), Index: proto.Uint64(uint64(i + 1)), Data: d})
	}
	return logged(t, entries)
}

func logged(t *testing.T, entries []*raftpb.Entry) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"snap", "wal"} {
		if err := os.MkdirAll(filepath.Join(dir, "member", name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w, err := etcdwal.Create(filepath.Join(dir, "member", "wal"), 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Entries(entries); err != nil {
		t.Fatal(err)
	}
	w.State(&raftpb.HardState{Term: proto.Uint64(1), Vote: proto.Uint64(1), Commit: proto.Uint64(uint64(len(entries)))})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// cutTo is a directory with the first entries of another one's log.
func cutTo(t *testing.T, dir string, n int) string {
	t.Helper()
	l, err := etcdwal.Open(filepath.Join(dir, "member", "wal"))
	if err != nil {
		t.Fatal(err)
	}
	var entries []*raftpb.Entry
	err = l.Entries(context.Background(), 0, func(e *raftpb.Entry) error {
		if len(entries) < n {
			entries = append(entries, e)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return logged(t, entries)
}

// legacy is a request as etcd 2 wrote it: bare, with all fields.
func legacy(method, path, value string) []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 77)
	for i, s := range []string{method, path, value} {
		b = protowire.AppendString(protowire.AppendTag(b, protowire.Number(i+2), protowire.BytesType), s)
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, 5, protowire.VarintType), 0)
	b = protowire.AppendString(protowire.AppendTag(b, 6, protowire.BytesType), "")
	return protowire.AppendVarint(protowire.AppendTag(b, 9, protowire.VarintType), 0)
}

// inside is a request as etcd 3 wrote it.
func inside(field protowire.Number, body []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), body)
}

// TestEntries holds that entries of etcd 2 and 3 are understood side by side.
func TestEntries(t *testing.T) {
	dir := made(t, legacy("PUT", "/1/old", "by etcd 2"), nil, inside(2, legacy("PUT", "/1/new", "by etcd 3")), inside(4, []byte("\n\x01k")),
		legacy("POST", "/1/q", "in order"), legacy("DELETE", "/1/none", ""), legacy("SYNC", "", ""), inside(2, legacy("QGET", "/1", "")), legacy("PUT", "/1/old", "again"))
	target := into(t, migrate.Snapshot)
	r, _, err := run(t, migrate.Options{DataDir: dir, Target: target})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := held(t, target.Path)
	want := "\"/new\" \"by etcd 3\" 2 2 1 0\n\"/q/00000000000000000003\" \"in order\" 3 3 1 0\n\"/old\" \"again\" 4 4 1 0\n"
	if got != want || r.Source.RaftIndex != 9 || r.Source.V2Index != 4 {
		t.Errorf("%+v got\n%s", r.Source, got)
	}
}

// TestRefused holds which directories are refused, and that each reason says where.
func TestRefused(t *testing.T) {
	walOf := func(dir string) string {
		files, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
		if err != nil || len(files) == 0 {
			t.Fatal(err, files)
		}
		return files[len(files)-1]
	}
	change := func(path string, f func(b []byte) []byte) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flip := func(b []byte, at int) []byte { b[at] ^= 1; return b }
	end := func(b []byte) int { return len(bytes.TrimRight(b, "\x00")) }
	snapOf := func(dir string) string {
		files, _ := etcdwal.Snaps(filepath.Join(dir, "member", "snap"))
		return files[0].Path
	}
	held := []*os.File{}
	lock := func(path string) {
		f, err := os.Open(path)
		if err == nil {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		}
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, f)
	}
	resnap := func(dir string, f func(s *raftpb.Snapshot)) {
		path := snapOf(dir)
		s, err := etcdwal.ReadSnap(path)
		if err != nil {
			t.Fatal(err)
		}
		f(s)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := etcdwal.WriteSnap(filepath.Dir(path), s); err != nil {
			t.Fatal(err)
		}
	}
	replace := func(old, new string) func(dir string) {
		return func(dir string) {
			resnap(dir, func(s *raftpb.Snapshot) {
				if !bytes.Contains(s.GetData(), []byte(old)) {
					t.Fatalf("there is no %s in %s", old, s.GetData())
				}
				s.Data = bytes.Replace(s.GetData(), []byte(old), []byte(new), 1)
			})
		}
	}
	for _, c := range []struct {
		fixture, reason string
		spoil           func(dir string)
	}{
		{"plain", "the file is locked by a running process", func(dir string) { lock(walOf(dir)) }},
		{"plain", "is open in another process", func(dir string) { lock(filepath.Join(dir, "member", "snap", "db")) }},
		{"plain", ".wal is damaged at offset", func(dir string) { change(walOf(dir), func(b []byte) []byte { return b[:end(b)-300] }) }},
		{"plain", ".wal is damaged at offset", func(dir string) { change(walOf(dir), func(b []byte) []byte { return flip(b, 900) }) }},
		{"plain", "there is no segment of a log", func(dir string) { os.Remove(walOf(dir)) }},
		{"snapshots", "its checksum is", func(dir string) { change(snapOf(dir), func(b []byte) []byte { return flip(b, len(b)/2) }) }},
		{"snapshots", ".snap is damaged at offset 0", func(dir string) { change(snapOf(dir), func(b []byte) []byte { return b[:len(b)-7] }) }},
		{"snapshots", "it is empty", func(dir string) { change(snapOf(dir), func(b []byte) []byte { return nil }) }},
		{"snapshots", "of version 3, and etcd 2 and 3 write version 2", replace(`"CurrentVersion":2`, `"CurrentVersion":3`)},
		{"snapshots", "the cluster had version 3.5.0", replace(`"Value":"3.4.0"`, `"Value":"3.5.0"`)},
		{"snapshots", "cannot be decoded", replace(`"CurrentVersion":2}`, `"CurrentVersion":2`)},
		{"snapshots", "the end of the log is missing", func(dir string) {
			resnap(dir, func(s *raftpb.Snapshot) { s.Metadata.Index = proto.Uint64(10_000) })
		}},
		{"snapshots", "they are not of one member", func(dir string) {
			resnap(dir, func(s *raftpb.Snapshot) { s.Metadata.Term = proto.Uint64(9) })
		}},
		{"plain", "is damaged at offset", func(dir string) {
			change(filepath.Join(dir, "member", "snap", "db"), func(b []byte) []byte { return b[:len(b)/2] })
		}},
		{"plain", "it has no directory member/snap", func(dir string) { os.RemoveAll(filepath.Join(dir, "member", "snap")) }},
		{"plain", "directory of a proxy", func(dir string) { os.Rename(filepath.Join(dir, "member"), filepath.Join(dir, "proxy")) }},
		{"plain", "data directory of Quorate", func(dir string) { os.Rename(filepath.Join(dir, "member"), filepath.Join(dir, "store")) }},
		{"plain", "etcd 2.0.0", func(dir string) {
			os.Rename(filepath.Join(dir, "member", "snap"), filepath.Join(dir, "snap"))
			os.Rename(filepath.Join(dir, "member", "wal"), filepath.Join(dir, "wal"))
		}},
		{"plain", "it is no data directory of etcd", func(dir string) { os.RemoveAll(filepath.Join(dir, "member")) }},
	} {
		dir := unpacked(t, c.fixture)
		c.spoil(dir)
		before := tree(t, dir)
		for _, kind := range []migrate.Kind{migrate.DataDir, migrate.InPlace} {
			target := into(t, kind)
			_, _, err := run(t, migrate.Options{DataDir: dir, Target: target})
			var refused *migrate.RefusedError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.reason) || !strings.Contains(err.Error(), dir) || refused.Do == "" {
				t.Errorf("want an error that says %q, got %v", c.reason, err)
			}
			if entries, _ := os.ReadDir(filepath.Dir(target.Path)); len(entries) > 0 || tree(t, dir) != before {
				t.Errorf("%s: something was written: %v", c.reason, entries)
			}
		}
	}
	for _, f := range held {
		f.Close()
	}
	for reason, entry := range map[string][]byte{
		"entry 1 of the log: it holds a request (field 1300) that etcd 3.5": inside(protowire.Number(wire.FieldClusterVersionSet), []byte("\n\x053.5.0")),
		`with the method "MODE"`:               inside(2, legacy("MODE", "", "shared")),
		"the cluster was set to version 3.6.0": inside(2, legacy("PUT", "/0/version", "3.6.0")),
		"are allowed":                          inside(2, legacy("PUT", "/1"+strings.Repeat("/a", 1000), "x")),
		"entry 1 of the log: wire":             {0xff, 0xff},
	} {
		_, _, err := run(t, migrate.Options{DataDir: made(t, entry), Target: into(t, migrate.Snapshot)})
		if err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("want an error that says %q, got %v", reason, err)
		}
	}
}

// TestTargets holds where nothing is made.
func TestTargets(t *testing.T) {
	dir := unpacked(t, "plain")
	there := filepath.Join(t.TempDir(), "there")
	if err := os.WriteFile(there, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []migrate.Kind{migrate.DataDir, migrate.Snapshot} {
		for path, reason := range map[string]string{
			there: "there", dir: "lies in the source", filepath.Join(dir, "member", "x"): "lies in the source", filepath.Join(link, "x"): "lies in the source",
			filepath.Join(there, "x", "y"): "there is no directory",
		} {
			target := into(t, kind)
			target.Path = path
			if _, _, err := run(t, migrate.Options{DataDir: dir, Target: target}); err == nil || !strings.Contains(err.Error(), reason) {
				t.Errorf("%s %s: %v", kind, path, err)
			}
		}
	}
	if b, err := os.ReadFile(there); err != nil || string(b) != "mine" {
		t.Errorf("a file was changed: %v %q", err, b)
	}
}

// TestJudge holds when members have converged.
func TestJudge(t *testing.T) {
	at := func(name string, index uint64) migrate.State {
		return migrate.State{Where: "http://" + name, Name: name, Cluster: 5, ID: uint64(name[len(name)-1]), Index: index}
	}
	for _, c := range []struct {
		states []migrate.State
		find   string // "" when they have converged
	}{
		{[]migrate.State{at("m1", 7), at("m2", 8), at("m3", 7)}, ""},
		{[]migrate.State{at("m1", 7)}, ""},
		{[]migrate.State{at("m1", 7), at("m2", 9), at("m3", 8)}, "member m1 (http://m1) is behind by 2: its raft index is 7, and that of member m2 (http://m2) is 9"},
		{[]migrate.State{at("m1", 7), {Where: "http://m2", Problem: "no answer"}}, "http://m2: no answer"},
		{[]migrate.State{at("m1", 7), {Where: "http://m2", Cluster: 6, Index: 7}}, "http://m2 belongs to cluster 6"},
		{[]migrate.State{at("m1", 7), at("m1", 7)}, "are the same member"},
		{nil, "none"},
	} {
		v := migrate.Judge(c.states)
		if v.Converged != (c.find == "") || (v.Do == "") != v.Converged {
			t.Errorf("%v: %+v", c.states, v)
		}
		if all := strings.Join(v.Findings, "\n"); !v.Converged && c.states != nil && !strings.Contains(all, c.find) {
			t.Errorf("%v: want %q in %s", c.states, c.find, all)
		}
	}
	long, short := unpacked(t, "plain"), ""
	short = cutTo(t, long, 9)
	var states []migrate.State
	for _, dir := range []string{long, short} {
		src, err := migrate.Open(context.Background(), dir, "")
		if err != nil {
			t.Fatal(err)
		}
		p := src.Position()
		states = append(states, migrate.State{Where: dir, Index: p.Last, Stopped: p})
		src.Close()
	}
	if v := migrate.Judge(states); v.Converged || !strings.Contains(fmt.Sprint(v.Findings), short+" is behind by") {
		t.Errorf("%+v", v)
	}
}

// TestDirectoryTTL holds that the time of a directory counts for what is in it, and for nothing behind it.
func TestDirectoryTTL(t *testing.T) {
	ends := protowire.AppendVarint(protowire.AppendTag(protowire.AppendVarint(protowire.AppendTag(nil, 5, protowire.VarintType), 1), 9, protowire.VarintType), 4e18)
	dir := made(t, append(legacy("PUT", "/1/a", ""), ends...), legacy("PUT", "/1/a/b/c", "x"), legacy("PUT", "/1/a-b", "x"), legacy("PUT", "/1/z", "x"))
	r, _, err := run(t, migrate.Options{DataDir: dir, Target: into(t, migrate.Snapshot), TTL: migrate.Lease})
	if err != nil || r.Read.InTTL != 1 || r.Written.WithTTL != 1 || r.Written.Keys != 3 {
		t.Errorf("%v %+v", err, r)
	}
}
