package httpapi

import (
	"encoding/json"
	"expvar"
	"fmt"
	"io"
	"net/http"
	"sort"
	"strings"
)

// varArgs is the variable of package expvar that would show secrets among the arguments.
const varArgs = "cmdline"

// serveArgs writes the command line in the form of net/http/pprof.
func (f *Front) serveArgs(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, strings.Join(f.cfg.Args, "\x00"))
}

// serveVars writes the process's variables and those of the configuration as one JSON object.
func (f *Front) serveVars(w http.ResponseWriter, r *http.Request) {
	if !onlyGet(w, r) {
		return
	}
	args, err := json.Marshal(f.cfg.Args)
	if err != nil {
		panic(fmt.Sprintf("BUG: the command line does not marshal: %v", err))
	}
	lines := []string{fmt.Sprintf("%q: %s", varArgs, args)}
	expvar.Do(func(kv expvar.KeyValue) {
		if f.cfg.Vars[kv.Key] == nil && kv.Key != varArgs {
			lines = append(lines, fmt.Sprintf("%q: %s", kv.Key, kv.Value))
		}
	})
	for name, read := range f.cfg.Vars {
		text, err := json.Marshal(read())
		if err != nil {
			panic(fmt.Sprintf("BUG: variable %s does not marshal: %v", name, err))
		}
		lines = append(lines, fmt.Sprintf("%q: %s", name, text))
	}
	sort.Strings(lines)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = fmt.Fprintf(w, "{\n%s\n}\n", strings.Join(lines, ",\n"))
}
