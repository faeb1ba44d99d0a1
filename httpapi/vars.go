package httpapi

import (
	"encoding/json"
	"expvar"
	"fmt"
	"net/http"
	"sort"
	"strings"
)

// serveVars writes the process's variables and those of the configuration as one JSON object.
func (f *Front) serveVars(w http.ResponseWriter, r *http.Request) {
	if !onlyGet(w, r) {
		return
	}
	var lines []string
	expvar.Do(func(kv expvar.KeyValue) {
		if f.cfg.Vars[kv.Key] == nil {
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
