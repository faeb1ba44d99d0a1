package audit

import (
	"encoding/base64"
	"net"
	"net/netip"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"quorate.dev/quorate/limits"
)

// timeLayout is RFC 3339 with microseconds; times are written in UTC.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// appendLost appends the line that says how many entries are missing.
func appendLost(dst []byte, at time.Time, lost uint64) []byte {
	dst = append(dst, `{"time":"`...)
	dst = at.UTC().AppendFormat(dst, timeLayout)
	dst = append(dst, `","event":"lost","lost":`...)
	dst = strconv.AppendUint(dst, lost, 10)
	return append(dst, "}\n"...)
}

// append appends the line of the entry.
func (e *Entry) append(dst []byte) []byte {
	dst = append(dst, `{"time":"`...)
	dst = e.Time.UTC().AppendFormat(dst, timeLayout)
	dst = append(dst, `","event":"`...)
	dst = append(dst, eventNames[e.Event]...)
	dst = append(dst, '"')
	dst = appendText(dst, "method", e.Method)
	dst = e.Caller.append(dst)
	dst = e.Outcome.append(dst)
	dst = e.appendTargets(dst)
	dst = e.appendRanges(dst)
	return append(dst, "}\n"...)
}

func (c *Caller) append(dst []byte) []byte {
	dst = appendSome(dst, "user", c.User)
	dst = appendText(dst, "identified", meansNames[c.By])
	switch addr := c.Remote.(type) {
	case nil:
	case *net.TCPAddr: // costs no memory, unlike String
		at := addr.AddrPort()
		dst = append(dst, `,"remote":"`...)
		dst = netip.AddrPortFrom(at.Addr().Unmap(), at.Port()).AppendTo(dst)
		dst = append(dst, '"')
	default:
		dst = appendText(dst, "remote", addr.String())
	}
	return dst
}

func (o *Outcome) append(dst []byte) []byte {
	decision := "allowed"
	if o.Denied {
		decision = "denied"
	}
	dst = appendText(dst, "decision", decision)
	dst = appendText(dst, "code", o.Code)
	dst = appendSome(dst, "error", o.Error)
	dst = appendNumber(dst, "latency_us", o.Took.Microseconds())
	if o.Revision != 0 {
		dst = appendNumber(dst, "revision", o.Revision)
	}
	return dst
}

func (e *Entry) appendTargets(dst []byte) []byte {
	if e.user.whole > 0 {
		dst = appendBytes(dst, "target_user", e.text(e.user), e.user.whole)
	}
	if e.role.whole > 0 {
		dst = appendBytes(dst, "target_role", e.text(e.role), e.role.whole)
	}
	o := &e.Object
	if o.Lease != 0 {
		dst = appendHex(dst, "lease", uint64(o.Lease))
	}
	if o.Member != 0 {
		dst = appendHex(dst, "target_member", o.Member)
	}
	if o.Compact != 0 {
		dst = appendNumber(dst, "compact_revision", o.Compact)
	}
	if o.HasWatch {
		dst = appendNumber(dst, "watch_id", o.Watch)
	}
	return dst
}

func (e *Entry) appendRanges(dst []byte) []byte {
	if e.count > 0 {
		dst = append(dst, `,"ranges":[`...)
		for i := range e.spans[:e.count] {
			if i > 0 {
				dst = append(dst, ',')
			}
			s := &e.spans[i]
			dst = append(dst, `{"action":"`...)
			dst = append(dst, actionNames[s.action]...)
			dst = append(dst, '"')
			dst = appendBytes(dst, "key", e.text(s.key), s.key.whole)
			if s.end.whole > 0 {
				dst = appendBytes(dst, "range_end", e.text(s.end), s.end.whole)
			}
			dst = append(dst, '}')
		}
		dst = append(dst, ']')
	}
	if e.more > 0 {
		dst = appendNumber(dst, "more_ranges", int64(e.more))
	}
	return dst
}

func appendNumber(dst []byte, name string, n int64) []byte {
	dst = append(append(append(dst, `,"`...), name...), `":`...)
	return strconv.AppendInt(dst, n, 10)
}

func appendHex(dst []byte, name string, n uint64) []byte {
	dst = append(append(append(dst, `,"`...), name...), `":"`...)
	return append(strconv.AppendUint(dst, n, 16), '"')
}

// appendSome is appendText for what is left out when it is empty.
func appendSome(dst []byte, name, s string) []byte {
	if s == "" {
		return dst
	}
	return appendText(dst, name, s)
}

// appendText writes a field that shows at most limits.AuditTextBytes of s.
func appendText(dst []byte, name, s string) []byte {
	return appendBytes(dst, name, s[:min(len(s), limits.AuditTextBytes)], len(s))
}

// appendBytes writes a field of any bytes: as text when all of it can be read, else in base64 under name_base64. When these are
// only the beginning, name_length tells how many bytes there were.
func appendBytes[T []byte | string](dst []byte, name string, b T, whole int) []byte {
	dst = append(append(dst, `,"`...), name...)
	// A cut may have gone through a character; that alone does not make it unreadable.
	if shown := len(b) - broken(b, whole); readable(b[:shown]) {
		dst = append(dst, `":"`...)
		for i := range shown {
			c := b[i]
			if c == '"' || c == '\\' {
				dst = append(dst, '\\')
			}
			dst = append(dst, c)
		}
	} else {
		dst = append(dst, `_base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, []byte(b))
	}
	dst = append(dst, '"')
	if len(b) < whole {
		dst = append(append(append(dst, `,"`...), name...), "_length"...)
		dst = append(dst, `":`...)
		dst = strconv.AppendInt(dst, int64(whole), 10)
	}
	return dst
}

// broken is how many bytes at the end of something cut are the beginning of a character.
func broken[T []byte | string](b T, whole int) int {
	if len(b) == whole {
		return 0
	}
	for n := 1; n <= min(len(b), utf8.UTFMax-1); n++ {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRuneInString(string(tail)) {
				return 0
			}
			return n
		}
	}
	return 0
}

// readable reports whether b is UTF-8 of nothing but printable characters, so that no more than quotes need an escape.
func readable[T []byte | string](b T) bool {
	for i := 0; i < len(b); {
		if c := b[i]; c < utf8.RuneSelf {
			if c < ' ' || c > '~' {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(string(b[i:min(len(b), i+utf8.UTFMax)]))
		if r == utf8.RuneError && n == 1 || !unicode.IsPrint(r) {
			return false
		}
		i += n
	}
	return true
}
