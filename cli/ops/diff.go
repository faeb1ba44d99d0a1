package ops

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"sigs.k8s.io/yaml"

	"quorate.dev/quorate/cli/kube"
)

// Bounds of a comparison.
const (
	diffCells   = 4 << 20 // of the table of a comparison; larger texts are shown as replaced where they differ
	diffContext = 2       // lines around a change
	hexShown    = 16      // bytes of binary values
)

// readable is a value as lines of text, and what it is. What cannot be shown as text has no lines.
func readable(value []byte) (lines []string, kind string) {
	text, ok, err := kube.Decode(value)
	switch {
	case ok && err != nil:
		return nil, "Kubernetes object: " + err.Error()
	case ok:
		version, name, _ := kube.Kind(value)
		return splitLines(withoutManaged(text)), version + " " + name
	case json.Valid(value) && len(value) > 0 && (value[0] == '{' || value[0] == '['):
		var out bytes.Buffer
		if json.Indent(&out, value, "", "  ") == nil {
			return splitLines(out.String()), "JSON"
		}
	}
	if utf8.Valid(value) && !bytes.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' && r != '\r' }) {
		return splitLines(string(value)), "text"
	}
	return nil, "binary"
}

func splitLines(text string) []string {
	if text == "" {
		return []string{}
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// withoutManaged leaves out who manages which field, as kubectl does.
func withoutManaged(text string) string {
	var object map[string]any
	if yaml.Unmarshal([]byte(text), &object) != nil {
		return text
	}
	meta, ok := object["metadata"].(map[string]any)
	if !ok || meta["managedFields"] == nil {
		return text
	}
	delete(meta, "managedFields")
	out, err := yaml.Marshal(object)
	if err != nil {
		return text
	}
	return string(out)
}

// compare shows how b differs from a, as lines that begin with "+", "-" or " ". A nil a is a value that was not there.
func compare(a, b []byte) []string {
	if a != nil && bytes.Equal(a, b) {
		return []string{" (the same value)"}
	}
	after, _ := readable(b)
	if after == nil {
		return binaryDiff(a, b)
	}
	var before []string
	if a != nil {
		if before, _ = readable(a); before == nil {
			return append(binaryDiff(a, nil), signed("+", after)...)
		}
	}
	return around(lineDiff(before, after))
}

func signed(sign string, lines []string) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = sign + line
	}
	return out
}

// binaryDiff says where values that are no text differ.
func binaryDiff(a, b []byte) []string {
	describe := func(v []byte, from int) string {
		end := min(len(v), from+hexShown)
		more := ""
		if end < len(v) {
			more = " ..."
		}
		return fmt.Sprintf("%d bytes, at %d: % x%s", len(v), from, v[min(from, end):end], more)
	}
	at := 0
	for at < len(a) && at < len(b) && a[at] == b[at] {
		at++
	}
	var out []string
	if a != nil {
		out = append(out, "-"+describe(a, at))
	}
	if b != nil {
		out = append(out, "+"+describe(b, at))
	}
	return out
}

// lineDiff is a shortest list of removed and added lines, with those that stay.
func lineDiff(a, b []string) []string {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	out := signed(" ", a[:head])
	out = append(out, middle(a[head:len(a)-tail], b[head:len(b)-tail])...)
	return append(out, signed(" ", a[len(a)-tail:])...)
}

// middle compares what is between the equal begin and the equal end, by the longest common subsequence.
func middle(a, b []string) (out []string) {
	if len(a) == 0 || len(b) == 0 || (len(a)+1)*(len(b)+1) > diffCells {
		return append(signed("-", a), signed("+", b)...)
	}
	width := len(b) + 1
	common := make([]int32, (len(a)+1)*width)
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i*width+j] = common[(i+1)*width+j+1] + 1
			} else {
				common[i*width+j] = max(common[(i+1)*width+j], common[i*width+j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		switch {
		case a[i] == b[j]:
			out = append(out, " "+a[i])
			i, j = i+1, j+1
		case common[(i+1)*width+j] >= common[i*width+j+1]:
			out = append(out, "-"+a[i])
			i++
		default:
			out = append(out, "+"+b[j])
			j++
		}
	}
	out = append(out, signed("-", a[i:])...)
	return append(out, signed("+", b[j:])...)
}

// around leaves out lines that stay, far from a change.
func around(lines []string) (out []string) {
	near := make([]bool, len(lines))
	for i, line := range lines {
		if line[0] == ' ' {
			continue
		}
		for k := max(0, i-diffContext); k <= min(len(lines)-1, i+diffContext); k++ {
			near[k] = true
		}
	}
	skipped := 0
	note := func() {
		if skipped > 0 {
			out = append(out, fmt.Sprintf("@ %d lines as before", skipped))
		}
		skipped = 0
	}
	for i, line := range lines {
		if !near[i] {
			skipped++
			continue
		}
		note()
		out = append(out, line)
	}
	note()
	return out
}
