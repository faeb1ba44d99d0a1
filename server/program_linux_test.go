package server

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestCleanMappings checks which mappings are given back: of the program file, without write access, and with no page that
// differs from the file, such as one that a linker relocated. Giving one of those back would zero what it holds.
func TestCleanMappings(t *testing.T) {
	const own, zero = "/usr/bin/quorate", "Anonymous: 0 kB\nSwap: 0 kB\n"
	for text, want := range map[string]int{
		"1000-2000 r-xp 0 fe:00 42 " + own + "\nSize: 4 kB\n" + zero:                                             1,
		"1000-2000 r--p 0 fe:00 42 " + own + "\n" + zero:                                                         1,
		"1000-2000 r--p 0 fe:00 42 " + own + "\nAnonymous: 4 kB\nSwap: 0 kB\n":                                   0,
		"1000-2000 r--p 0 fe:00 42 " + own + "\nAnonymous: 0 kB\nSwap: 4 kB\n":                                   0,
		"1000-2000 r--p 0 fe:00 42 " + own + "\n":                                                                0,
		"1000-2000 rw-p 0 fe:00 42 " + own + "\n" + zero:                                                         0,
		"1000-2000 r--s 0 fe:00 42 " + own + "\n" + zero:                                                         0,
		"1000-2000 r-xp 0 fe:00 42 /lib/libc.so\n" + zero:                                                        0,
		"1000-2000 r-xp 0 fe:00 42 " + own + " (deleted)\n" + zero:                                               0,
		"1000-2000 rw-p 0 00:00 0\n" + zero:                                                                      0,
		"2000-1000 r-xp 0 fe:00 42 " + own + "\n" + zero:                                                         0,
		"zz-2000 r-xp 0 fe:00 42 " + own + "\n" + zero:                                                           0,
		"1000-2000 r--p 0 fe:00 42 " + own + "\nAnonymous: 4 kB\n2000-3000 r-xp 0 fe:00 42 " + own + "\n" + zero: 1,
		"": 0,
	} {
		if got := cleanMappings(strings.NewReader(text), own); len(got) != want {
			t.Errorf("%q: %v, want %d", text, got, want)
		}
	}
}

// relocated holds what a linker may have to fill in: pointers to functions and to data.
var relocated = map[string]func(string) string{"upper": strings.ToUpper, "lower": strings.ToLower, "trim": strings.TrimSpace}

// TestReleaseProgram checks that pages of the program leave the resident memory, and that the program goes on.
func TestReleaseProgram(t *testing.T) {
	touched := residentFile(t)
	releaseProgram()
	if relocated["upper"]("a")+relocated["lower"]("B")+relocated["trim"](" c ") != "Abc" {
		t.Error("functions are not what they were")
	}
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
