package render

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
)

// Text writes the simple format.
type Text struct {
	w, err  *bufio.Writer
	printer *Printer
}

// Line writes what fmt.Println does.
func (t *Text) Line(args ...any) { fmt.Fprintln(t.w, args...) }

// Printf writes formatted text.
func (t *Text) Printf(format string, args ...any) { fmt.Fprintf(t.w, format, args...) }

// Warnf writes formatted text to stderr.
func (t *Text) Warnf(format string, args ...any) { fmt.Fprintf(t.err, format, args...) }

// Rows writes the cells of each row with commas between them.
func (t *Text) Rows(rows *Rows) {
	for _, cells := range rows.Cells {
		t.Line(strings.Join(cells, ", "))
	}
}

// KV writes a key and its value on a line each.
func (t *Text) KV(kv *mvccpb.KeyValue) {
	if !t.printer.ValueOnly {
		t.bytes(kv.GetKey(), cyan)
	}
	value := kv.GetValue()
	if t.printer.Decode != nil {
		if text, ok, err := t.printer.Decode(value); ok && err == nil {
			value = []byte(strings.TrimSuffix(text, "\n"))
		}
	}
	t.bytes(value, "")
}

// event writes the type of an event.
func (t *Text) event(e *mvccpb.Event) {
	color := green
	if e.GetType() == mvccpb.Event_DELETE {
		color = red
	}
	name := e.GetType().String()
	if t.printer.Color {
		name = color + name + reset
	}
	t.Line(name)
}

// bytes writes a line of arbitrary bytes without copying them.
func (t *Text) bytes(b []byte, color string) {
	switch {
	case t.printer.Hex:
		t.w.WriteString(EscapeHex(b))
	case t.printer.Color && color != "":
		t.w.WriteString(color)
		t.w.Write(b)
		t.w.WriteString(reset)
	default:
		t.w.Write(b)
	}
	t.w.WriteByte('\n')
}

// EscapeHex writes every byte as \x and two digits.
func EscapeHex(b []byte) string {
	digits := hex.EncodeToString(b)
	out := make([]byte, 0, 2*len(digits))
	for i := 0; i < len(digits); i += 2 {
		out = append(out, '\\', 'x', digits[i], digits[i+1])
	}
	return string(out)
}

// Lines writes the fields format: a quoted name, a colon and a value on each line.
type Lines struct {
	w   *bufio.Writer
	hex bool
}

// Field writes a value as fmt.Println does.
func (l *Lines) Field(name string, value any) { fmt.Fprintf(l.w, "%q : %v\n", name, value) }

// Quoted writes a value in double quotes.
func (l *Lines) Quoted(name, value string) { fmt.Fprintf(l.w, "%q : %q\n", name, value) }

// Blank ends a record.
func (l *Lines) Blank() { l.w.WriteByte('\n') }

// ID writes an id of a member or cluster: decimal, or hexadecimal with --hex.
func (l *Lines) ID(name string, id uint64) {
	if l.hex {
		l.Field(name, types.ID(id))
		return
	}
	l.Field(name, id)
}

// Lease writes an id of a lease: decimal, or 16 hexadecimal digits with --hex.
func (l *Lines) Lease(name string, id int64) {
	if l.hex {
		l.Field(name, fmt.Sprintf("%016x", id))
		return
	}
	l.Field(name, id)
}

// Header writes a response's header. A revision of 0 is that of a response that has none.
func (l *Lines) Header(h *pb.ResponseHeader) {
	l.ID("ClusterID", h.GetClusterId())
	l.ID("MemberID", h.GetMemberId())
	if h.GetRevision() > 0 {
		l.Field("Revision", h.GetRevision())
	}
	l.Field("RaftTerm", h.GetRaftTerm())
}

// KV writes a key with everything that is known about it.
func (l *Lines) KV(prefix string, kv *mvccpb.KeyValue) {
	l.Quoted(prefix+"Key", string(kv.GetKey()))
	l.Field(prefix+"CreateRevision", kv.GetCreateRevision())
	l.Field(prefix+"ModRevision", kv.GetModRevision())
	l.Field(prefix+"Version", kv.GetVersion())
	l.Quoted(prefix+"Value", string(kv.GetValue()))
	l.Lease(prefix+"Lease", kv.GetLease())
}

// Colours of a terminal.
const (
	bold  = "\x1b[1m"
	red   = "\x1b[31m"
	green = "\x1b[32m"
	cyan  = "\x1b[36m"
	reset = "\x1b[0m"
)

// aligned writes a table without a frame: columns as wide as their widest cell, the header in bold, bad rows in red. Columns
// that are empty in every row are left out.
func (p *Printer) aligned(all *Rows) error {
	r := all.filled()
	widths := make([]int, len(r.Header))
	for i, h := range r.Header {
		widths[i] = utf8.RuneCountInString(h)
	}
	for _, cells := range r.Cells {
		for i, c := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	w := bufio.NewWriter(p.Out)
	p.row(w, r.Header, widths, bold, strings.ToUpper)
	for n, cells := range r.Cells {
		color := ""
		if r.Bad != nil && r.Bad(n) {
			color = red
		}
		p.row(w, cells, widths, color, func(s string) string { return s })
	}
	return w.Flush()
}

// filled leaves out the columns in which no row says anything.
func (r *Rows) filled() *Rows {
	out := &Rows{Cells: make([][]string, len(r.Cells)), Bad: r.Bad}
	for i, h := range r.Header {
		if len(r.Cells) > 0 && !slices.ContainsFunc(r.Cells, func(cells []string) bool { return cells[i] != "" }) {
			continue
		}
		out.Header = append(out.Header, h)
		for n, cells := range r.Cells {
			out.Cells[n] = append(out.Cells[n], cells[i])
		}
	}
	return out
}

func (p *Printer) row(w *bufio.Writer, cells []string, widths []int, color string, as func(string) string) {
	var line strings.Builder
	for i, c := range cells {
		line.WriteString(as(c))
		if i < len(cells)-1 {
			line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+2))
		}
	}
	text := strings.TrimRight(line.String(), " ")
	if p.Color && color != "" {
		text = color + text + reset
	}
	w.WriteString(text + "\n")
}
