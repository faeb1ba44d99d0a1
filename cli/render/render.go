// Package render writes what a verb found out in the format that was asked for: simple lines, JSON, fields, tables or raw
// protobuf, byte for byte as etcdctl 3.7 does.
//
// It is not where anything is fetched or decided; it knows no flags and no connections.
//
// How data passes: a verb makes a Result, mostly through the function named after the request (Get, Put, MemberList ...). A
// Result holds the message and how it looks in each format; a Printer picks one and writes it in one go.
//
// Invariants: a format that a Result does not have is an UnsupportedError and writes nothing; nothing is written twice.
package render

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/tw"
	"google.golang.org/protobuf/proto"
)

// Format is an output format by the name that --write-out takes.
type Format string

// The formats.
const (
	Simple   Format = "simple"
	Fields   Format = "fields"
	JSON     Format = "json"
	Protobuf Format = "protobuf"
	Table    Format = "table"
)

// Result is what a verb found out, and how it looks in each format. A nil member means that the format is not supported.
type Result struct {
	JSON   any          // what encoding/json makes of it
	Hex    any          // the same for --hex; nil where that makes no difference
	Proto  any          // a proto.Message; anything else is refused by its type
	Text   func(*Text)  // lines of the simple format
	Fields func(*Lines) // lines of the fields format
	Rows   *Rows        // table
}

// Rows is a table: one header, and as many cells in every row.
type Rows struct {
	Header []string
	Cells  [][]string
	// Bad says whether a row of a table on a terminal is drawn as one that needs attention; nil for none.
	Bad func(row int) bool
}

// UnsupportedError says that a result has no form in a format.
type UnsupportedError struct{ text string }

// Error is etcdctl's text.
func (e *UnsupportedError) Error() string { return e.text }

// Printer writes results in one format.
type Printer struct {
	Format    Format
	Hex       bool // byte strings as \x.., ids as hexadecimal
	ValueOnly bool // simple format: values without their keys
	Pretty    bool // simple format on a terminal: aligned tables instead of comma separated lines
	Color     bool // simple format on a terminal: colours
	// Decode makes readable text of values in the simple format; nil, and ok false, leave them as they are.
	Decode   func(value []byte) (text string, ok bool, err error)
	Out, Err io.Writer
}

// New makes a printer; false when there is no such format.
func New(format string, hex bool, out, errs io.Writer) (*Printer, bool) {
	p := &Printer{Format: Format(format), Hex: hex, Out: out, Err: errs}
	switch p.Format {
	case Simple, Fields, JSON, Protobuf, Table:
		return p, true
	}
	return nil, false
}

// Print writes a result. The error is an UnsupportedError, or one of writing.
func (p *Printer) Print(r Result) error {
	switch p.Format {
	case JSON:
		return p.json(r)
	case Protobuf:
		return p.protobuf(r)
	case Fields:
		if r.Fields == nil {
			return p.unsupported()
		}
		w := bufio.NewWriter(p.Out)
		r.Fields(&Lines{w: w, hex: p.Hex})
		return w.Flush()
	case Table:
		if r.Rows == nil {
			return p.unsupported()
		}
		return WriteTable(p.Out, r.Rows.Header, r.Rows.Cells)
	}
	if p.Pretty && r.Rows != nil {
		return p.aligned(r.Rows)
	}
	t := &Text{w: bufio.NewWriter(p.Out), err: bufio.NewWriter(p.Err), printer: p}
	r.Text(t)
	if err := t.err.Flush(); err != nil {
		return err
	}
	return t.w.Flush()
}

func (p *Printer) unsupported() error {
	return &UnsupportedError{string(p.Format) + " not supported as output format"}
}

func (p *Printer) json(r Result) error {
	v := r.JSON
	if p.Hex && r.Hex != nil {
		v = r.Hex
	}
	b, err := json.Marshal(v)
	if err != nil {
		fmt.Fprintf(p.Err, "%v\n", err)
		return nil
	}
	_, err = p.Out.Write(append(b, '\n'))
	return err
}

func (p *Printer) protobuf(r Result) error {
	if r.Proto == nil {
		return p.unsupported()
	}
	m, ok := r.Proto.(proto.Message)
	if !ok {
		return &UnsupportedError{fmt.Sprintf("marshal unsupported for type %T (%v)", r.Proto, r.Proto)}
	}
	b, err := proto.Marshal(m)
	if err != nil {
		fmt.Fprintf(p.Err, "%v\n", err)
		return nil
	}
	_, err = p.Out.Write(b)
	return err
}

// WriteTable draws a table with a frame, cells aligned to the right.
func WriteTable(w io.Writer, header []string, rows [][]string) error {
	cfg := tablewriter.NewConfigBuilder().WithRowAlignment(tw.AlignRight)
	table := tablewriter.NewTable(w, tablewriter.WithConfig(cfg.Build()))
	table.Header(header)
	for _, row := range rows {
		if err := table.Append(row); err != nil {
			return err
		}
	}
	return table.Render()
}
