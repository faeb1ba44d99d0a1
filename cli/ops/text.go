package ops

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

func hex(id uint64) string { return strconv.FormatUint(id, 16) }

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// plain is an error in as few words as say it: gRPC and net wrap the cause in several layers.
func plain(err error) string {
	if err == nil {
		return ""
	}
	var lines []string
	for _, line := range strings.Split(err.Error(), "\n") {
		if endpoint, _, ok := strings.Cut(line, ": "); ok && strings.Contains(endpoint, "://") {
			line = endpoint + ": " + cause(line)
		} else {
			line = cause(line)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}

func cause(line string) string {
	for _, known := range []string{"connection refused", "no such host", "no route to host", "network is unreachable", "connection reset by peer",
		"tls: first record does not look like a TLS handshake", "certificate has expired", "unknown authority"} {
		if strings.Contains(line, known) {
			return known
		}
	}
	if strings.Contains(line, "deadline exceeded") || strings.Contains(line, "i/o timeout") {
		return "no answer in time"
	}
	if _, text, ok := strings.Cut(line, " desc = "); ok {
		return text
	}
	return line
}

// size writes bytes for people.
func size(n float64) string {
	for _, u := range []struct {
		least float64
		name  string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if math.Abs(n) >= u.least {
			return strconv.FormatFloat(n/u.least, 'f', 1, 64) + " " + u.name
		}
	}
	return strconv.FormatFloat(n, 'f', 0, 64) + " B"
}

// grouped writes 1234567 as 1,234,567.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	start := 0
	if n < 0 {
		start = 1
	}
	for i := len(s) - 3; i > start; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// seconds writes a short time for people.
func seconds(s float64) string {
	switch {
	case s <= 0:
		return "0"
	case s < 0.001:
		return strconv.FormatFloat(s*1e6, 'f', 0, 64) + " us"
	case s < 0.01:
		return strconv.FormatFloat(s*1e3, 'f', 1, 64) + " ms"
	case s < 1:
		return strconv.FormatFloat(s*1e3, 'f', 0, 64) + " ms"
	}
	return strconv.FormatFloat(s, 'f', 1, 64) + " s"
}

// span writes a long time for people.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + span(-d)
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d s", int(d.Seconds()))
}

func percent(part, whole float64) string {
	if whole <= 0 {
		return "-"
	}
	return strconv.FormatFloat(100*part/whole, 'f', 1, 64) + "%"
}

// safe is text of the store that a terminal can be given: what is not printable is escaped, and a long text is cut.
func safe(b []byte, most int) string {
	var out strings.Builder
	n := 0
	for len(b) > 0 {
		if n == most {
			out.WriteString("...")
			break
		}
		r, width := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && width == 1:
			fmt.Fprintf(&out, `\x%02x`, b[0])
		case !unicode.IsPrint(r):
			out.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		default:
			out.WriteRune(r)
		}
		b = b[width:]
		n++
	}
	return out.String()
}

// plural is the number and the word for it.
func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

var errInterrupted = errors.New("interrupted")
