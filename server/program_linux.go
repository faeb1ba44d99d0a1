package server

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// releaseProgram takes the pages of the program file that only the start needed out of this process's resident memory. They
// are clean pages of a file, so the kernel fetches again what is used again; without this, an idle server shows the whole
// program as resident memory, several times what it holds in data. It is advice: when it cannot be given, nothing is lost. A
// kernel that keeps the file in large folios (6.18 maps a whole one at a touch) shows more of it again soon.
func releaseProgram() {
	own, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer maps.Close()
	for _, m := range cleanMappings(maps, own) {
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, m.from, m.to-m.from, syscall.MADV_DONTNEED)
	}
}

// mapping is a range of addresses.
type mapping struct{ from, to uintptr }

// cleanMappings reads /proc/self/smaps and returns the mappings of file that cannot be written and never were: those of which
// no page differs from the file. A linker's relocations make pages of a read-only mapping differ, and what is given back of
// those would be lost.
func cleanMappings(smaps io.Reader, file string) []mapping {
	var clean []mapping
	var now mapping
	var proofs int // of the mapping that is being read: "Anonymous" and "Swap" are both there and zero
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) < 3:
		case strings.Contains(f[0], "-"):
			now, proofs = readOnly(f, file), 0
		case f[0] == "Anonymous:" || f[0] == "Swap:":
			if f[1] == "0" {
				proofs++
			}
			if proofs == 2 && now != (mapping{}) {
				clean = append(clean, now)
				now = mapping{}
			}
		}
	}
	return clean
}

// readOnly reads the first line of a mapping; the result is zero unless it is a private mapping of file without write access.
func readOnly(f []string, file string) mapping {
	if len(f) != 6 || f[5] != file || (f[1] != "r--p" && f[1] != "r-xp") {
		return mapping{}
	}
	low, high, _ := strings.Cut(f[0], "-")
	from, err1 := strconv.ParseUint(low, 16, 64)
	to, err2 := strconv.ParseUint(high, 16, 64)
	if err1 != nil || err2 != nil || to <= from {
		return mapping{}
	}
	return mapping{uintptr(from), uintptr(to)}
}
