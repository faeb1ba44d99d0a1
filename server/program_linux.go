package server

import (
	"bufio"
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
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		if from, to, ok := programPages(lines.Text(), own); ok {
			_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED)
		}
	}
}

// programPages reads a line of /proc/self/maps; ok says that it is a mapping of file that cannot be written, so that giving
// its pages back loses nothing.
func programPages(line, file string) (from, to uintptr, ok bool) {
	f := strings.Fields(line)
	if len(f) < 6 || f[5] != file || !strings.HasPrefix(f[1], "r-") {
		return 0, 0, false
	}
	low, high, found := strings.Cut(f[0], "-")
	a, err1 := strconv.ParseUint(low, 16, 64)
	b, err2 := strconv.ParseUint(high, 16, 64)
	if !found || err1 != nil || err2 != nil || b <= a {
		return 0, 0, false
	}
	return uintptr(a), uintptr(b), true
}
