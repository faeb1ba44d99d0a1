package main

import (
	"slices"
	"strings"
)

// valued are the flags of go test, and of the build, whose value may be an argument of its own.
var valued = []string{
	"bench", "benchtime", "blockprofile", "blockprofilerate", "count", "coverpkg", "coverprofile", "covermode", "cpu", "cpuprofile", "exec", "fuzz",
	"fuzztime", "fuzzminimizetime", "list", "memprofile", "memprofilerate", "mutexprofile", "mutexprofilefraction", "o", "outputdir", "parallel",
	"run", "shuffle", "skip", "timeout", "trace", "vet", "C", "p", "asmflags", "buildmode", "compiler", "gccgoflags", "gcflags", "installsuffix",
	"ldflags", "mod", "modfile", "overlay", "pgo", "pkgdir", "tags", "toolexec",
}

// chosen are those that say what runs and how often, which is another thing the second time.
var chosen = []string{"run", "count", "v", "json", "failfast", "list", "C"}

// arguments are those of one go test.
type arguments struct {
	flags    []string // without those that are chosen
	packages []string
	rest     []string // -args and what follows
	verbose  bool
}

func parse(args []string) (a arguments) {
	for i := 0; i < len(args); i++ {
		word := args[i]
		if word == "-args" || word == "--args" {
			a.rest = args[i:]
			break
		}
		if !strings.HasPrefix(word, "-") {
			a.packages = append(a.packages, word)
			continue
		}
		name, _, whole := strings.Cut(strings.TrimPrefix(strings.TrimLeft(word, "-"), "test."), "=")
		both := []string{word}
		if !whole && slices.Contains(valued, name) && i+1 < len(args) {
			i++
			both = append(both, args[i])
		}
		if name == "v" && !strings.HasSuffix(word, "=false") {
			a.verbose = true
		}
		if !slices.Contains(chosen, name) {
			a.flags = append(a.flags, both...)
		}
	}
	return a
}

// alone is the command line that runs one test of one package once.
func (a arguments) alone(pkg, test string) []string {
	return slices.Concat([]string{"test", "-json", "-count=1", "-run", "^" + test + "$"}, a.flags, []string{pkg}, a.rest)
}
