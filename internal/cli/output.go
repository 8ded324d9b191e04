package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Output writes what a command has found out: for people, or with JSON one object a line.
type Output struct {
	JSON bool

	out, err io.Writer
}

// NewOutput is the output of a command, and adds --json to its flags.
func NewOutput(cmd *cobra.Command) *Output {
	o := &Output{}
	cmd.Flags().BoolVar(&o.JSON, "json", false, "print one JSON object a line")
	return o
}

// Of takes the command's streams. Call it when the command runs.
func (o *Output) Of(cmd *cobra.Command) *Output {
	o.out, o.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
	return o
}

// Line writes one line of JSON.
func (o *Output) Line(value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	_, err = o.out.Write(append(text, '\n'))
	return err
}

// Printf writes for people, and nothing with JSON.
func (o *Output) Printf(format string, args ...any) {
	if !o.JSON {
		fmt.Fprintf(o.out, format, args...)
	}
}

// Hintf writes to standard error what is no part of the output.
func (o *Output) Hintf(format string, args ...any) { fmt.Fprintf(o.err, format, args...) }

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// The colours of a terminal.
const (
	Green  = "32"
	Yellow = "33"
	Red    = "31"
	Faint  = "2"
)

// Cell is one field of a table.
type Cell struct {
	Text  string
	Color string // empty: none
}

// Column is one column of a table.
type Column struct {
	Title string
	// Least is how narrow the column may become where the terminal is: it is cut, with an ellipsis. 0: it
	// is never cut.
	Least int
	// Tail keeps the end of a text that is cut, and not its beginning.
	Tail bool
}

// Table writes aligned rows. On a terminal it keeps to the width and uses colours, unless NO_COLOR is set
// (https://no-color.org); elsewhere it cuts nothing.
func (o *Output) Table(columns []Column, rows [][]Cell) {
	widths := make([]int, len(columns))
	for i, c := range columns {
		widths[i] = len(c.Title)
		for _, row := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].Text))
		}
	}
	width := width(o.out)
	if width > 0 {
		narrow(columns, widths, width)
	}
	colours := isTerminal(o.out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	title := make([]Cell, len(columns))
	for i, c := range columns {
		title[i] = Cell{c.Title, Faint}
	}
	for _, row := range append([][]Cell{title}, rows...) {
		var line strings.Builder
		for i, cell := range row {
			text := cut(cell.Text, widths[i])
			if columns[i].Tail {
				text = cutTail(cell.Text, widths[i])
			}
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+2)
			if colours && cell.Color != "" {
				text = "\x1b[" + cell.Color + "m" + text + "\x1b[0m"
			}
			line.WriteString(text + padding)
		}
		fmt.Fprintln(o.out, strings.TrimRight(line.String(), " "))
	}
}

// width is the terminal's, 0 if it is none.
func width(w io.Writer) int {
	file, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// narrow takes from the columns that may be cut, the last one first.
func narrow(columns []Column, widths []int, width int) {
	over := -width
	for _, w := range widths {
		over += w + 2
	}
	for i := len(columns) - 1; i >= 0 && over > 0; i-- {
		if columns[i].Least > 0 {
			take := min(over, max(0, widths[i]-columns[i].Least))
			widths[i] -= take
			over -= take
		}
	}
}

func cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:width-1]) + "…"
}

func cutTail(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	return "…" + string(runes[len(runes)-width+1:])
}

// Time is a time as people read it, in the local zone.
func Time(at time.Time) string { return at.Local().Format("2006-01-02 15:04:05") }

// Ago is how long ago a time is, in whole seconds at least.
func Ago(at time.Time) string { return Short(max(time.Since(at).Truncate(time.Second), time.Second)) }

// OneLine puts a text into one line, and shows what would steer a terminal.
func OneLine(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0:
			return utf8.RuneError
		}
		return r
	}, text)
}
