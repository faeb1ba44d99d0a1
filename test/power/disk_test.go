package power

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/test/cluster"
	"quorate.dev/quorate/test/power/lossyfs"
)

// says waits until the log of a member holds a text.
func (s *site) says(m *cluster.Member, text string) {
	s.t.Helper()
	s.until(fmt.Sprintf("%s says %q", m.Name, text), func() bool { return strings.Contains(m.LogTail(1<<20), text) })
}

// lineWith is the first line of a member's log that holds a text.
func lineWith(m *cluster.Member, text string) string {
	for line := range strings.Lines(m.LogTail(1 << 20)) {
		if strings.Contains(line, text) {
			return line
		}
	}
	return ""
}

// TestFullDisk lets the disk of a single member run full. It must say so, acknowledge nothing that it cannot keep, and go on with
// everything when there is room again.
func TestFullDisk(t *testing.T) {
	s := build(t, random(t), 1)
	s.up()
	d, m := s.disks[0], s.Members[0]
	for round := range 3 {
		stop := s.load(4, 100_000)
		s.await(20)
		d.Limit(d.Used() + s.rng.Int64N(3<<20))
		s.until("the disk is full", func() bool { return d.Refused() > round })
		s.says(m, "no space left on device")
		s.until("the member ends", func() bool { return m.PID() == 0 })
		stop()
		loss := d.Cut(s.luck())
		t.Logf("round %d, %d bytes used: %v", round, d.Used(), loss)
		must(t, os.Truncate(filepath.Join(m.Dir, "log"), 0))
		d.Limit(0)
		s.up()
		s.keeps()
	}
	s.judge()
}

// TestFailingSync has one fsync fail: what the kernel holds is not to be trusted then, so the member must end, and must be right
// after the power failed too.
func TestFailingSync(t *testing.T) {
	s := build(t, random(t), 1, "--snapshot-count=100")
	s.up()
	d, m := s.disks[0], s.Members[0]
	for _, kinds := range []lossyfs.Kind{lossyfs.Writes, lossyfs.Syncs} {
		stop := s.load(4, 50_000)
		s.await(50)
		d.Fail(kinds, syscall.EIO)
		s.says(m, "input/output error")
		s.until("the member ends", func() bool { return m.PID() == 0 })
		stop()
		d.Fail(0, 0)
		t.Logf("%v", d.Cut(s.luck()))
		must(t, os.Truncate(filepath.Join(m.Dir, "log"), 0))
		s.up()
		s.keeps()
	}
	s.judge()
}

// TestSmallDisk is TestFullDisk on ext4 of 64 MB in a file, mounted through a loop device: a real file system that runs full.
func TestSmallDisk(t *testing.T) {
	if os.Getenv("POWER_NO_LOOP") != "" {
		t.Skip("POWER_NO_LOOP is set")
	}
	rng := random(t)
	s := build(t, rng, 1)
	m := s.Members[0]
	image, dir := filepath.Join(t.TempDir(), "image"), filepath.Join(m.Dir, "small")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 64<<20))
	must(t, os.MkdirAll(dir, 0o700))
	run(t, "mkfs.ext4", "-q", "-F", image)
	run(t, "mount", "-o", "loop", image, dir)
	t.Cleanup(func() {
		m.Kill()
		run(t, "umount", dir)
	})
	m.Flags = []string{"--data-dir=" + filepath.Join(dir, "data")}
	s.up()
	stop := s.load(4, 10_000)
	s.await(20)
	filler, err := os.Create(filepath.Join(dir, "filler"))
	must(t, err)
	for size := 1 << 20; size > 0; {
		if _, err := filler.Write(make([]byte, size)); err != nil {
			size /= 16
		}
	}
	must(t, filler.Close())
	s.says(m, "no space left on device")
	s.until("the member ends", func() bool { return m.PID() == 0 })
	stop()
	must(t, os.Remove(filler.Name()))
	s.up()
	s.judge()
}

func run(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s\nset POWER_NO_LOOP=1 where /dev/loop-control is known to be missing; mkfs.ext4, mount and umount are needed", command, err, out)
	}
}

// TestHangingLeader lets the disk of the leader hang. The leader must give up the leadership, clients must go on, and the
// member must follow when its disk goes on.
func TestHangingLeader(t *testing.T) {
	s := build(t, random(t), 3)
	s.up()
	stop := s.load(6, 1000)
	s.await(50)
	var old *cluster.Member
	s.until("the members agree on a leader", func() bool {
		leader, err := s.Leader(t.Context())
		old = leader
		return err == nil
	})
	d := s.disks[slices.Index(s.Members, old)]
	d.Hang(lossyfs.All)
	began := time.Now()
	var fresh *cluster.Member
	s.until("another member leads", func() bool {
		leader, err := s.Leader(t.Context())
		fresh = leader
		return err == nil && leader != old
	})
	t.Logf("%s hangs, %s leads after %v; an election timeout is a second, a stall is %d of it", old.Name, fresh.Name,
		time.Since(began).Round(time.Millisecond), limits.StallElections)
	// By its own clock, in which a tick that comes late counts once.
	s.says(old, "this leader hands the leadership over")
	if limit := fmt.Sprintf(`"for":%q`, time.Duration(limits.StallElections)*time.Second); !strings.Contains(lineWith(old, "this leader hands the leadership over"), limit) {
		t.Errorf("not %s: %s", limit, lineWith(old, "this leader hands the leadership over"))
	}
	s.says(old, "the leadership of this member is handed over")
	s.await(40) // with the disk still hanging, through any member
	if d.Hanging() == 0 {
		t.Error("nothing waits for the disk that hangs")
	}
	d.GoOn()
	s.says(old, "this member does not stall any more")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, old.Ready(ctx))
	s.await(50)
	stop()
	for _, m := range s.Members {
		if m.PID() == 0 {
			t.Errorf("%s has ended", m.Name)
		}
	}
	s.judge()
}

// TestHangingFollower lets the disk of a follower hang: that harms nobody else.
func TestHangingFollower(t *testing.T) {
	s := build(t, random(t), 3)
	s.up()
	var leader *cluster.Member
	s.until("the members agree on a leader", func() (ok bool) {
		var err error
		leader, err = s.Leader(t.Context())
		return err == nil
	})
	at := slices.Index(s.Members, leader)
	slow := (at + 1) % 3
	stop := s.loadAt(4, 1000, leader.Client, s.Members[(at+2)%3].Client)
	s.await(50)
	before, err := leader.Status(t.Context())
	must(t, err)
	s.disks[slow].Hang(lossyfs.All)
	s.says(s.Members[slow], "this member stalls")
	s.await(200)
	after, err := leader.Status(t.Context())
	must(t, err)
	if after.RaftTerm != before.RaftTerm || after.Leader != before.Leader {
		t.Errorf("the leader was %x in term %d and is %x in term %d", before.Leader, before.RaftTerm, after.Leader, after.RaftTerm)
	}
	s.disks[slow].GoOn()
	s.says(s.Members[slow], "this member does not stall any more")
	stop()
	s.judge()
}
