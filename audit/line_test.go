package audit_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"quorate.dev/quorate/audit"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
)

var begin = time.Date(2026, 3, 4, 5, 6, 7, 89_012_345, time.FixedZone("", 3600))

// memory is a file in memory. It is read after Close of its log.
type memory struct {
	bytes.Buffer
	closed int
}

func (m *memory) Close() error { m.closed++; return nil }

// written records what fill makes and returns the lines.
func written(t testing.TB, fill ...func(*audit.Entry)) []string {
	t.Helper()
	out := new(memory)
	l, err := audit.Start(audit.Options{Out: out, Clock: clock.NewManual(begin)})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fill {
		e := l.Entry()
		f(e)
		l.Record(e)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out.closed != 1 {
		t.Errorf("the file was closed %d times", out.closed)
	}
	return strings.SplitAfter(strings.TrimSuffix(out.String(), "\n"), "\n")
}

// TestLines shows the forms of lines that docs/SECURITY.md promises.
func TestLines(t *testing.T) {
	const at = `{"time":"2026-03-04T04:06:07.089012Z",`
	for _, c := range []struct {
		fill func(*audit.Entry)
		want string
	}{
		{func(e *audit.Entry) {
			e.Method = "/etcdserverpb.KV/Put"
			e.Caller = audit.Caller{User: "alice", By: audit.Token, Remote: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 4711}}
			e.Outcome = audit.Outcome{Code: "OK", Took: 1234567 * time.Nanosecond, Revision: 42}
			e.Object.Lease = 0x694d7e
			e.Range(audit.Put, []byte("registry/pods/a"), nil)
		}, `"event":"call","method":"/etcdserverpb.KV/Put","user":"alice","identified":"token","remote":"10.0.0.7:4711",` +
			`"decision":"allowed","code":"OK","latency_us":1234,"revision":42,"lease":"694d7e","ranges":[{"action":"put","key":"registry/pods/a"}]}`},
		{func(e *audit.Entry) {
			e.Event, e.Method, e.Object = audit.Create, "/etcdserverpb.Watch/Watch", audit.Object{HasWatch: true, Watch: 7}
			e.Caller = audit.Caller{User: "bob", By: audit.Certificate, Remote: &net.UnixAddr{Name: "/run/q.sock", Net: "unix"}}
			e.Outcome = audit.Outcome{Denied: true, Code: "PermissionDenied", Error: "etcdserver: permission denied"}
			e.Range(audit.Get, []byte{0}, []byte{0})
		}, `"event":"create","method":"/etcdserverpb.Watch/Watch","user":"bob","identified":"certificate","remote":"/run/q.sock","decision":"denied","code":"PermissionDenied",` +
			`"error":"etcdserver: permission denied","latency_us":0,"watch_id":7,"ranges":[{"action":"read","key_base64":"AA==","range_end_base64":"AA=="}]}`},
		{func(e *audit.Entry) {
			e.Method = "/etcdserverpb.Auth/RoleGrantPermission"
			e.Object = audit.Object{Member: 0x8e9e05c52164694d, Compact: 12}
			e.TargetUser([]byte(`a"b\c`))
			e.TargetRole([]byte("ops"))
			e.Outcome.Code = "OK"
			e.Caller.Remote = &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 1}
			e.Range(audit.Both, []byte("a"), []byte("b"))
			e.Range(audit.Delete, []byte("z"), nil)
			e.More(3)
		}, `"event":"call","method":"/etcdserverpb.Auth/RoleGrantPermission","identified":"none","remote":"[fe80::1%eth0]:1","decision":"allowed","code":"OK","latency_us":0,` +
			`"target_user":"a\"b\\c","target_role":"ops","target_member":"8e9e05c52164694d","compact_revision":12,` +
			`"ranges":[{"action":"readwrite","key":"a","range_end":"b"},{"action":"delete","key":"z"}],"more_ranges":3}`},
	} {
		if got := written(t, c.fill); len(got) != 1 || got[0] != at+c.want {
			t.Errorf("wrote %s\nwant  %s", strings.Join(got, ""), at+c.want)
		}
	}
}

// TestEntryIsBounded: a request names as many and as long keys as it likes, a line does not.
func TestEntryIsBounded(t *testing.T) {
	long := bytes.Repeat([]byte("ä"), 1<<20)
	lines := written(t,
		func(e *audit.Entry) { // too many
			for i := range limits.AuditRanges + 5 {
				if full := e.Full(); full != (i >= limits.AuditRanges) {
					t.Errorf("full is %t after %d ranges", full, i)
				}
				e.Range(audit.Get, fmt.Append(nil, i), nil)
			}
		},
		func(e *audit.Entry) { // too long, cut within a character
			e.Range(audit.Get, append([]byte("x"), long...), long)
			e.Caller.User = string(long)
			e.TargetUser(long)
			e.Outcome.Error = string(long)
		},
		func(e *audit.Entry) { // too much of it
			for range limits.AuditRanges {
				e.Range(audit.Get, long, long)
			}
		})
	if len(lines) != 3 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, line := range lines {
		got := decode(t, line)
		kept, whole := limits.AuditKeyBytes, 2<<20
		switch i {
		case 0:
			if len(got.Ranges) != limits.AuditRanges || got.MoreRanges != 5 {
				t.Errorf("%d ranges and %d more", len(got.Ranges), got.MoreRanges)
			}
		case 1:
			r := got.Ranges[0]
			if want := "x" + string(long[:kept-2]); r.Key == nil || *r.Key != want || r.KeyLength != whole+1 {
				t.Errorf("key %v of %d bytes", r.Key, r.KeyLength)
			}
			if want := string(long[:kept]); r.RangeEnd == nil || *r.RangeEnd != want || r.RangeEndLength != whole {
				t.Errorf("range end %v of %d bytes", r.RangeEnd, r.RangeEndLength)
			}
			if want := string(long[:limits.AuditTextBytes]); got.User == nil || *got.User != want || got.UserLength != whole {
				t.Errorf("user %v of %d bytes", got.User, got.UserLength)
			}
			if want := string(long[:limits.AuditTextBytes]); got.TargetUser != want || got.TargetUserLength != whole || *got.Error != want {
				t.Errorf("target user %s of %d bytes, error %v", got.TargetUser, got.TargetUserLength, got.Error)
			}
		case 2:
			if n := limits.AuditEntryBytes / (2 * kept); len(got.Ranges) != n || got.MoreRanges != limits.AuditRanges-n {
				t.Errorf("%d ranges and %d more", len(got.Ranges), got.MoreRanges)
			}
		}
		if most := 3*limits.AuditEntryBytes + 8*limits.AuditTextBytes; len(line) > most {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

// shape is a line as its readers see it.
type shape struct {
	Time, Event, Method string
	User                *string
	UserBase64          *string `json:"user_base64"`
	UserLength          int     `json:"user_length"`
	Identified, Remote  string
	Decision, Code      string
	TargetUser          string `json:"target_user"`
	TargetUserLength    int    `json:"target_user_length"`
	Error               *string
	ErrorBase64         *string `json:"error_base64"`
	LatencyMicros       int64   `json:"latency_us"`
	Ranges              []rangeShape
	MoreRanges          int `json:"more_ranges"`
	Lost                int
}

type rangeShape struct {
	Action         string
	Key            *string
	KeyBase64      *string `json:"key_base64"`
	KeyLength      int     `json:"key_length"`
	RangeEnd       *string `json:"range_end"`
	RangeEndBase64 *string `json:"range_end_base64"`
	RangeEndLength int     `json:"range_end_length"`
}

func decode(t testing.TB, line string) (s shape) {
	t.Helper()
	if err := json.Unmarshal([]byte(line), &s); err != nil {
		t.Fatalf("%v in the line %q", err, line)
	}
	return s
}

// said is what a pair of fields, text and base64, says.
func said(t testing.TB, text, base *string) string {
	t.Helper()
	switch {
	case text != nil && base != nil:
		t.Fatalf("both %q and %q", *text, *base)
	case text != nil:
		return *text
	case base != nil:
		b, err := base64.StdEncoding.DecodeString(*base)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return ""
}

// FuzzLine: whatever bytes a client sends, the line is one JSON object that says them.
func FuzzLine(f *testing.F) {
	f.Add([]byte("a"), []byte{}, "alice", "", uint8(1), 3)
	f.Add([]byte("\x00\xff\"\\\n"), []byte("\xc3"), "\xf0\x9f\x98", `","event":"lost","lost":7,"x":"`, uint8(2), 20)
	f.Add([]byte("\u2028\u007f\ufffd"), bytes.Repeat([]byte("é\x01"), 400), strings.Repeat("€", 100), "</script>\r", uint8(3), 0)
	f.Fuzz(func(t *testing.T, key, end []byte, user, text string, action uint8, ranges int) {
		ranges %= 2 * limits.AuditRanges
		lines := written(t, func(e *audit.Entry) {
			e.Event, e.Caller.By = audit.Event(action%5), audit.Means(action%3)
			e.Caller.User, e.Outcome.Error, e.Outcome.Denied = user, text, action%2 == 0
			for range ranges {
				e.Range(audit.Action(action%4), key, end)
			}
		})
		if len(lines) != 1 {
			t.Fatalf("%d lines: %q", len(lines), lines)
		}
		for i := range len(lines[0]) {
			if lines[0][i] < ' ' || lines[0][i] == 0x7f {
				t.Fatalf("a control character at %d of %q", i, lines[0])
			}
		}
		got := decode(t, lines[0])
		same := func(what, got string, whole int, want string, most int) {
			t.Helper()
			if len(want) <= most {
				if got != want || whole != 0 {
					t.Errorf("%s %q of %d bytes, recorded was %q", what, got, whole, want)
				}
				return
			}
			// A cut character at the end may be missing.
			if !strings.HasPrefix(want, got) || len(got) > most || len(got) < most-3 || whole != len(want) {
				t.Errorf("%s %q of %d bytes, recorded was %q", what, got, whole, want)
			}
		}
		same("user", said(t, got.User, got.UserBase64), got.UserLength, user, limits.AuditTextBytes)
		if len(text) <= limits.AuditTextBytes {
			same("error", said(t, got.Error, got.ErrorBase64), 0, text, limits.AuditTextBytes)
		}
		if (got.Decision == "denied") != (action%2 == 0) || got.Lost != 0 {
			t.Errorf("line %s", lines[0])
		}
		if len(got.Ranges)+got.MoreRanges != max(0, ranges) {
			t.Errorf("%d ranges and %d more of %d", len(got.Ranges), got.MoreRanges, ranges)
		}
		for _, r := range got.Ranges {
			same("key", said(t, r.Key, r.KeyBase64), r.KeyLength, string(key), limits.AuditKeyBytes)
			same("range end", said(t, r.RangeEnd, r.RangeEndBase64), r.RangeEndLength, string(end), limits.AuditKeyBytes)
		}
	})
}
