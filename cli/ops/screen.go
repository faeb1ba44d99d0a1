package ops

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"quorate.dev/quorate/cli"
)

// Colours of a terminal.
const (
	red    = "31"
	yellow = "33"
	green  = "32"
	cyan   = "36"
	bold   = "1"
	faint  = "2"
)

// screen writes text for people, with colours where there are any.
type screen struct {
	b     strings.Builder
	color bool
}

func newScreen(s *cli.Session) *screen { return &screen{color: s.Process.Colored(s.Process.Stdout)} }

// paint is text in a colour.
func (s *screen) paint(color, text string) string {
	if !s.color || color == "" || text == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

func (s *screen) printf(format string, args ...any) { fmt.Fprintf(&s.b, format, args...) }

// cell is text in a table.
type cell struct {
	text  string
	color string
	right bool
}

func left(text string) cell   { return cell{text: text} }
func number(text string) cell { return cell{text: text, right: true} }

// table writes aligned columns, indented by two spaces. The first row is the heading.
func (s *screen) table(rows [][]cell) {
	var widths []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	for n, row := range rows {
		line := " "
		for i, c := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text))
			color := c.color
			if n == 0 {
				color = faint
			}
			switch {
			case c.right:
				line += " " + pad + s.paint(color, c.text)
			case i == len(row)-1:
				line += " " + s.paint(color, c.text)
			default:
				line += " " + s.paint(color, c.text) + pad
			}
			if i < len(row)-1 {
				line += " "
			}
		}
		s.b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}

// wrap breaks text into lines of at most width, all but the first behind an indent.
func wrap(text string, width int, indent string) string {
	var out strings.Builder
	column := 0
	for _, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case column == 0:
		case column+1+n > width:
			out.WriteString("\n" + indent)
			column = 0
		default:
			out.WriteByte(' ')
			column++
		}
		out.WriteString(word)
		column += n
	}
	return out.String()
}

func (s *screen) flush(w io.Writer) error {
	_, err := io.WriteString(w, s.b.String())
	s.b.Reset()
	return err
}
