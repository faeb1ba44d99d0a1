package cluster

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/test/compat/proc"
)

// damage changes one value in the store of a stopped member, with all checksums in order, as a fault in the program would.
func damage(t *testing.T, m *Member, value string) {
	t.Helper()
	e, err := storage.Open(filepath.Join(m.Dir, "data", "store"), storage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := e.NewBatch()
	it, err := e.Iter(storage.BucketBounds(storage.BucketKey))
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		if bytes.HasSuffix(it.Value(), []byte(value)) {
			wrong := bytes.Clone(it.Value())
			wrong[len(wrong)-1] ^= 1
			b.Set(bytes.Clone(it.Key()), wrong)
		}
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	if b.Len() == 0 {
		t.Fatalf("%s has no value %q", m.Name, value)
	}
	if err := e.Commit(b, e.Applied()); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// corrupted starts three members and damages one that does not lead, which runs again when it returns.
func corrupted(t *testing.T, flags ...string) (c *Cluster, bad *Member, rest []*Member) {
	t.Helper()
	if kind() != proc.Quorate {
		t.Skip("the damage is done to our store")
	}
	c = start(t, 3, flags...)
	cli := connect(t, c)
	for i := range 20 {
		if _, err := cli.Put(t.Context(), fmt.Sprint("key", i), fmt.Sprint("value", i)); err != nil {
			t.Fatal(err)
		}
	}
	sameHash(t, c)
	leader, others := pick(t, c)
	bad, rest = others[0], []*Member{leader, others[1]}
	if err := bad.Stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	damage(t, bad, "value7")
	return c, bad, rest
}

// readyz is the answer of a member's /readyz.
func readyz(m *Member) int {
	resp, err := http.Get(m.Client + "/readyz")
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

func idOf(t *testing.T, cli *clientv3.Client, m *Member) uint64 {
	t.Helper()
	list, err := cli.MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range list.Members {
		if one.Name == m.Name {
			return one.ID
		}
	}
	t.Fatalf("%s is no member", m.Name)
	return 0
}

func alarms(t *testing.T, cli *clientv3.Client) []*pb.AlarmMember {
	t.Helper()
	resp, err := cli.AlarmList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return resp.Alarms
}

// fenced waits until an alarm names the member, and checks that it serves no data while the others go on.
func fenced(t *testing.T, c *Cluster, bad *Member, rest []*Member) {
	t.Helper()
	cli := connect(t, c, rest[0].Client, rest[1].Client)
	id := idOf(t, cli, bad)
	until(t, "an alarm", func() bool { return len(alarms(t, cli)) > 0 })
	if got := alarms(t, cli); len(got) != 1 || got[0].MemberID != id || got[0].Alarm != pb.AlarmType_CORRUPT {
		t.Fatalf("the alarms are %v, and %s is %x", got, bad.Name, id)
	}
	own := connect(t, c, bad.Client)
	until(t, "the member serves no data", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := own.Get(ctx, "key7", clientv3.WithSerializable())
		return err != nil && strings.Contains(err.Error(), "corrupt cluster")
	})
	until(t, "the member is not ready", func() bool { return readyz(bad) == http.StatusServiceUnavailable })
	for _, m := range rest {
		if _, err := connect(t, c, m.Client).Put(t.Context(), "after", m.Name); err != nil {
			t.Fatalf("%s: %v", m.Name, err)
		}
		if code := readyz(m); code != http.StatusOK {
			t.Fatalf("/readyz of %s says %d", m.Name, code)
		}
	}
}

// heal heals a member by the one command, and checks that it is one of three again.
func heal(t *testing.T, c *Cluster, bad *Member) {
	t.Helper()
	if err := bad.Stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	bin, err := proc.Binary(proc.Quorate)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(bin, "heal", "--data-dir", filepath.Join(bad.Dir, "data")).CombinedOutput()
	if err != nil {
		t.Fatalf("quorate heal: %v\n%s", err, out)
	}
	if err := bad.Start(); err != nil {
		t.Fatal(err)
	}
	cli := connect(t, c)
	until(t, "the alarm is taken back", func() bool { return len(alarms(t, cli)) == 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := bad.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	sameHash(t, c)
	got, err := connect(t, c, bad.Client).Get(t.Context(), "key7", clientv3.WithSerializable())
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "value7" {
		t.Fatalf("the healed member reads %v, %v", got, err)
	}
	if _, err := connect(t, c, bad.Client).Put(t.Context(), "healed", "yes"); err != nil {
		t.Fatal(err)
	}
	until(t, "/readyz", func() bool { return readyz(bad) == http.StatusOK })
}

// TestPeriodicCheckNamesTheDamagedMember compares all data from time to time.
func TestPeriodicCheckNamesTheDamagedMember(t *testing.T) {
	c, bad, rest := corrupted(t, "--corrupt-check-time=500ms")
	if err := bad.Start(); err != nil {
		t.Fatal(err)
	}
	fenced(t, c, bad, rest)
	heal(t, c, bad)
}

// TestCompactionCheckNamesTheDamagedMember needs no flag but a shorter time.
func TestCompactionCheckNamesTheDamagedMember(t *testing.T) {
	c, bad, rest := corrupted(t, "--compact-hash-check-time=500ms")
	if err := bad.Start(); err != nil {
		t.Fatal(err)
	}
	cli := connect(t, c, rest[0].Client)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := bad.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	got, err := cli.Get(t.Context(), "key1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Compact(t.Context(), got.Header.Revision); err != nil {
		t.Fatal(err)
	}
	fenced(t, c, bad, rest)
	heal(t, c, bad)
}

// TestDamagedMemberRefusesToStart when it is to compare its data first.
func TestDamagedMemberRefusesToStart(t *testing.T) {
	c, bad, _ := corrupted(t, "--feature-gates=InitialCorruptCheck=true")
	if err := bad.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-bad.done:
	case <-time.After(3 * time.Minute):
		t.Fatal("it has started")
	}
	if log := bad.LogTail(4000); !strings.Contains(log, "found data inconsistency with peers") {
		t.Fatalf("it does not say why it ended:\n%s", log)
	}
	heal(t, c, bad)
}

// TestHealAfterTheStoreIsLost heals a member whose store is gone altogether, while the others write, and kills it meanwhile.
func TestHealAfterTheStoreIsLost(t *testing.T) {
	c, bad, rest := corrupted(t)
	if out, err := exec.Command("rm", "-r", filepath.Join(bad.Dir, "data", "store")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cli := connect(t, c, rest[0].Client, rest[1].Client)
	value := strings.Repeat("v", 64<<10)
	for i := range 200 {
		if _, err := cli.Put(t.Context(), fmt.Sprint("more", i), value); err != nil {
			t.Fatal(err)
		}
	}
	bin, err := proc.Binary(proc.Quorate)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(bin, "heal", "--data-dir", filepath.Join(bad.Dir, "data")).CombinedOutput(); err != nil {
		t.Fatalf("quorate heal: %v\n%s", err, out)
	}
	for i := range 5 { // wherever it is
		if err := bad.Start(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-time.After(time.Duration(i) * 30 * time.Millisecond):
		case <-bad.done:
			t.Fatal("it has ended")
		}
		bad.Kill()
	}
	heal(t, c, bad)
}
