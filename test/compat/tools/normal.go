package tools

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// rule is one thing that two runs of one tool against one server do not have in common.
type rule struct {
	find    *regexp.Regexp
	replace string
	why     string
}

// rules are applied in their order, to standard output and error alike.
var rules = []rule{
	{re(`"ts":"[0-9T:.+Z-]+"`), `"ts":"TS"`, "the time of a log line"},
	{re(`(?m)^\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d{4})\t`), "TS\t", "the same in the format for people"},
	{re(`(?m)^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d `), "TS ", "the same in the format of Go's log"},
	{re(`"caller":"[^"]+"`), `"caller":"CALLER"`, "file and line of the program's source"},
	{re(`(?m)^(TS\t[a-z]+\t)[a-z0-9@._/-]+\.go:\d+\t`), "${1}CALLER\t", "the same in the format for people"},
	{re(`(?m)^TS\tinfo\tbbolt\t.*\n`), "", "what the library of etcd's engine says about opening its file"},
	{re(`("took": ")[0-9.]+[µm]?s`), "${1}DURATION", "defrag of a directory"},
	{re(`("wal-dir": "[^"]*?)(/member/wal|/wal)"`), `$1/WAL"`, "the layout of a data directory: row restore-layout of docs/COMPAT.md"},
	{re(`("snap-dir": "[^"]*?)(/member/snap|/store)"`), `$1/STORE"`, "the same"},
	{re(`etcd-endpoints://0x[0-9a-f]+/`), "etcd-endpoints://0xPTR/", "an address in memory"},
	{re(`LocalAddr: '127\.0\.0\.1:\d+'`), "LocalAddr: '127.0.0.1:PORT'", "the port that the system gave the client"},
	{re(`"stacktrace":"[^"]*"`), `"stacktrace":"STACK"`, "lines of the program's source"},
	{re(`(took = )[0-9.]+[µm]?s`), "${1}DURATION", "endpoint health"},
	{re(`("took":")[0-9.]+[µm]?s`), "${1}DURATION", "endpoint health as JSON, snapshot save"},
	{re(`("Took" : )[0-9.]+[µm]?s`), "${1}DURATION", "endpoint health as fields"},
	{re(`(\]\. took )[0-9.]+[µm]?s`), "${1}DURATION", "defrag"},
	{re(`("took":")(less than a second|now|\d+ seconds? ago)"`), `${1}DURATION"`, "snapshot save"},
	{re(`remaining\(\d+s\)`), "remaining(SECONDS)", "what is left of a lease's time"},
	{re(`("ttl":)\d+(,"granted-ttl":)`), "${1}SECONDS${2}", "the same as JSON"},
	{re(`(?m)^("TTL" : )\d+(\n"GrantedTTL")`), "${1}SECONDS${2}", "the same as fields"},
	{re(`("dbSize(InUse)?":)\d+`), "${1}BYTES", "endpoint status as JSON: the engine's sizes"},
	{re(`(?m)^("DBSize(InUse)?" : )\d+$`), "${1}BYTES", "the same as fields"},
	{re(`("raft(Applied)?Index":)\d+`), "${1}INDEX", "how many entries a start writes"},
	{re(`(?m)^("Raft(Applied)?Index" : )\d+$`), "${1}INDEX", "the same as fields"},
	{re(`(?m)^((?:http://)?127\.0\.0\.1:\S+, [0-9a-f]+, [0-9.]+, [0-9.]+, )[^,]+, [^,]+, [^,]+(, [^,]+, \w+, \w+, \d+, )\d+, \d+,`),
		"${1}SIZE, SIZE, PERCENT${2}INDEX, INDEX,", "endpoint status: the same"},
	{re(`("size":")[0-9.]+ [kM]?B"`), `${1}SIZE"`, "snapshot save: size of the engine's file"},
	{re(`rpc error: code = Unavailable desc = (last )?connection error: desc = \\?"transport: Error while dialing: dial tcp ([0-9.:]+): connect: connection refused\\?"`),
		"DIAL ERROR $2", "which of two equal texts comes depends on when the dialler gave up"},
	{re(`(?s)\ngoroutine \d+ \[running\]:\n.*`), "\nGOROUTINES", "stacks of a tool that died"},
	{re(`cluster_id:(\S+) {1,2}member_id:(\S+) {1,2}revision:(\S+) {1,2}raft_term:`), "cluster_id:$1 member_id:$2 revision:$3 raft_term:", "protobuf prints one blank or two, by a hash of the program"},
	{re(`(memberID:\d+) {1,2}(alarm:)`), "$1 $2", "the same"},
	{re(`\{\{\{\} \[\] \[\] 0x[0-9a-f]+\}`), "{{{} [] [] 0xPTR}", "an address in memory"},
	{re(`code = (DeadlineExceeded|Canceled) desc = (context deadline exceeded|stream terminated by RST_STREAM with error code: CANCEL)`),
		"TIME IS OVER", "the client's timer and the server's race; whoever is first words the log line"},
	{re(`used : [0-9.]+ MB`), "used : MEGABYTES", "check datascale"},
}

func re(text string) *regexp.Regexp { return regexp.MustCompile(text) }

// clusterRules are for clusters of several members, too: how many elections they have held is chance.
var clusterRules = []rule{
	{re(`("raft_?[tT]erm":)\d+`), "${1}TERM", "JSON"},
	{re(`(?m)^("RaftTerm" : )\d+`), "${1}TERM", "fields"},
	{re(`(?m)^((?:http://)?127\.0\.0\.1:.*, \w+, \w+, )\d+(, INDEX, INDEX,)`), "${1}TERM$2", "endpoint status"},
}

// normal replaces what differs between runs. It keeps the names it gave for as long as one script runs.
type normal struct {
	literal *strings.Replacer
	rules   []rule
	ids     map[uint64]string
}

func newNormal(b Bench) *normal {
	pairs, all := []string{b.Dir, "$DIR"}, rules
	if len(b.Servers) > 1 {
		all = append(slices.Clone(rules), clusterRules...)
	}
	for i, s := range b.Servers {
		pairs = append(pairs, s.Addr, fmt.Sprintf("127.0.0.1:PORT%d", i+1)) // PORT1 is as wide as a port
	}
	if b.TLS != "" {
		pairs = append(pairs, b.TLS, "127.0.0.1:PORTS")
	}
	return &normal{strings.NewReplacer(pairs...), all, map[uint64]string{}}
}

func (n *normal) entry(e *Entry) {
	e.Stdout, e.Stderr = n.text(e.Stdout), n.text(e.Stderr)
	if e.Step.Sorted {
		e.Stdout = initialCluster.ReplaceAllStringFunc(e.Stdout, func(found string) string {
			m := initialCluster.FindStringSubmatch(found)
			members := strings.Split(m[2], ",")
			sort.Strings(members)
			return m[1] + strings.Join(members, ",")
		})
		lines := strings.SplitAfter(e.Stdout, "\n")
		sort.Strings(lines)
		e.Stdout = strings.Join(lines, "")
	}
	if e.Step.Progress {
		e.Stderr = fmt.Sprintln(e.Stderr != "")
	}
	if e.Step.Volatile {
		e.Stdout, e.Stderr = fmt.Sprint(e.Stdout != ""), fmt.Sprint(e.Stderr != "")
	}
}

func (n *normal) text(s string) string {
	s = n.literal.Replace(s)
	for _, r := range n.rules {
		s = r.find.ReplaceAllString(s, r.replace)
	}
	s = encoded.ReplaceAllStringFunc(s, n.inside)
	s = n.hexIDs(s)
	s = n.decimalIDs(s)
	return tables(s)
}

var initialCluster = re(`(ETCD_INITIAL_CLUSTER=")([^"]*)`)

var (
	hexID     = re(`( *)\b([0-9a-f]{13,16})\b`)
	decimalID = re(`\b[1-9][0-9]{16,19}\b`)
)

// hexIDs names ids in hexadecimal by the order in which they appear. Those of leases and of members that joined are made of the
// time. %16x fills up with blanks what a small id leaves free; the name is as wide as the widest.
func (n *normal) hexIDs(s string) string {
	return hexID.ReplaceAllStringFunc(s, func(found string) string {
		m := hexID.FindStringSubmatch(found)
		id, err := strconv.ParseUint(m[2], 16, 64)
		if err != nil {
			return found
		}
		blanks := m[1]
		if missing := 16 - len(m[2]); missing > 0 && len(blanks) > missing {
			blanks = blanks[missing:]
		}
		return blanks + n.name(id)
	})
}

// encoded is base64 in JSON that is long enough for an id.
var encoded = re(`"[A-Za-z0-9+/]{19,}={0,2}"`)

// inside names ids in the keys of locks and elections where JSON shows them in base64.
func (n *normal) inside(quoted string) string {
	text, err := base64.StdEncoding.DecodeString(strings.Trim(quoted, `"`))
	if err != nil || !hexID.Match(text) {
		return quoted
	}
	return fmt.Sprintf(`"BASE64(%s)"`, n.hexIDs(string(text)))
}

// decimalIDs does the same with decimal numbers that are too large for anything but an id.
func (n *normal) decimalIDs(s string) string {
	return decimalID.ReplaceAllStringFunc(s, func(found string) string {
		id, err := strconv.ParseUint(found, 10, 64)
		if err != nil {
			return found
		}
		return n.name(id)
	})
}

func (n *normal) name(id uint64) string {
	if n.ids[id] == "" {
		n.ids[id] = fmt.Sprintf("ID%014d", len(n.ids)+1)
	}
	return n.ids[id]
}

// volatileColumns of tables: their values, as described at rules. What is in them is as wide as it is, and makes the others move.
var volatileColumns = []string{"TOOK", "DB SIZE", "IN USE", "PERCENTAGE NOT IN USE", "RAFT TERM", "RAFT INDEX", "RAFT APPLIED INDEX"}

// tables removes the values of volatile columns, and all padding of tables that have one.
func tables(s string) string {
	if !strings.HasPrefix(s, "┌") {
		return s
	}
	lines := strings.Split(s, "\n")
	if len(lines) < 2 || !slices.ContainsFunc(cells(lines[1]), func(c string) bool { return slices.Contains(volatileColumns, c) }) {
		return s
	}
	header := cells(lines[1])
	for i, line := range lines {
		if !strings.HasPrefix(line, "│") {
			lines[i] = re(`─+`).ReplaceAllString(line, "─")
			continue
		}
		row := cells(line)
		for j := range row {
			if i > 1 && j < len(header) && slices.Contains(volatileColumns, header[j]) && row[j] != "" {
				row[j] = "VALUE"
			}
		}
		lines[i] = strings.Join(row, "│")
	}
	return strings.Join(lines, "\n")
}

func cells(line string) []string {
	row := strings.Split(line, "│")
	for i := range row {
		row[i] = strings.TrimSpace(row[i])
	}
	return row
}

// wire prints an encoded message field by field, so that ids in it are found. What is no message is printed as it is.
func wire(b []byte) string {
	if text, ok := message(b, ""); ok {
		return text
	}
	return string(b)
}

func message(b []byte, indent string) (string, bool) {
	var text strings.Builder
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return "", false
		}
		b = b[n:]
		switch typ {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return "", false
			}
			b = b[n:]
			fmt.Fprintf(&text, "%s%d: %d\n", indent, num, v)
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return "", false
			}
			b = b[n:]
			if inner, ok := message(v, indent+"  "); ok && len(v) > 0 && !(utf8.Valid(v) && v[0] >= ' ') {
				fmt.Fprintf(&text, "%s%d: {\n%s%s}\n", indent, num, inner, indent)
			} else {
				fmt.Fprintf(&text, "%s%d: %q\n", indent, num, v)
			}
		default:
			return "", false
		}
	}
	return text.String(), true
}
