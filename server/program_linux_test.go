package server

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestProgramPages checks which mappings are given back: those of the program file that cannot be written, and no other.
func TestProgramPages(t *testing.T) {
	for line, want := range map[string][2]uintptr{
		"00400000-01234000 r-xp 00000000 fe:00 42 /usr/bin/quorate": {0x400000, 0x1234000},
		"01234000-02000000 r--p 00e34000 fe:00 42 /usr/bin/quorate": {0x1234000, 0x2000000},
		"02000000-02100000 rw-p 01c00000 fe:00 42 /usr/bin/quorate": {},
		"7f0000000000-7f0000100000 r-xp 00000000 fe:00 9 /lib/libc": {},
		"7f0000000000-7f0000100000 rw-p 00000000 00:00 0":           {},
		"zz-01 r-xp 00000000 fe:00 42 /usr/bin/quorate":             {},
		"02-01 r-xp 00000000 fe:00 42 /usr/bin/quorate":             {},
		"": {},
	} {
		from, to, ok := programPages(line, "/usr/bin/quorate")
		if got := [2]uintptr{from, to}; got != want || ok != (want != [2]uintptr{}) {
			t.Errorf("%q: %x, %t, want %x", line, got, ok, want)
		}
	}
}

// TestReleaseProgram checks that pages of the program leave the resident memory, and that the program goes on.
func TestReleaseProgram(t *testing.T) {
	touched := residentFile(t)
	releaseProgram()
	left := residentFile(t)
	if left >= touched*3/4 {
		t.Errorf("%d KiB of files were resident, and %d are after they were given back", touched, left)
	}
}

// residentFile is the resident memory of this process that is pages of files, KiB.
func residentFile(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "RssFile:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
