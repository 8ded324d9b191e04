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

// Output writes a command's results, as text or as one JSON object a line.
type Output struct {
	JSON bool

	out, err io.Writer
}

// NewOutput returns a command's output and adds the flag --json.
func NewOutput(cmd *cobra.Command) *Output {
	o := &Output{}
	cmd.Flags().BoolVar(&o.JSON, "json", false, "print JSON, one object per line")
	return o
}

// Of sets the command's streams. Call it when the command runs.
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

// Printf writes text. It writes nothing if the output is JSON.
func (o *Output) Printf(format string, args ...any) {
	if !o.JSON {
		fmt.Fprintf(o.out, format, args...)
	}
}

// Checked is a writer that keeps the first error, such as that of a full disk, for the command's end.
type Checked struct {
	out io.Writer
	err error
}

// NewChecked returns the standard output of a command, checked.
func NewChecked(cmd *cobra.Command) *Checked { return &Checked{out: cmd.OutOrStdout()} }

func (c *Checked) Write(text []byte) (int, error) {
	n, err := c.out.Write(text)
	if c.err == nil && err != nil {
		c.err = err
	}
	return n, err
}

// Err returns the first error.
func (c *Checked) Err() error {
	if c.err != nil {
		return fmt.Errorf("standard output: %w", c.err)
	}
	return nil
}

// Hintf writes a hint to standard error.
func (o *Output) Hintf(format string, args ...any) { fmt.Fprintf(o.err, format, args...) }

func isTerminal(w io.Writer) bool {
	file, ok := fileOf(w)
	return ok && term.IsTerminal(int(file.Fd()))
}

// fileOf returns the file that a writer writes to, if it is one.
func fileOf(w io.Writer) (*os.File, bool) {
	if checked, ok := w.(*Checked); ok {
		return fileOf(checked.out)
	}
	file, ok := w.(*os.File)
	return file, ok
}

// The colors of a terminal.
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
	// Least is the minimum width to which the column may be shortened on a narrow terminal. 0: it is not shortened.
	Least int
	// Tail keeps the end of a shortened text instead of its beginning.
	Tail bool
}

// Table writes aligned rows. On a terminal it fits them to the width and uses colors, unless NO_COLOR is set
// (https://no-color.org).
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
	colors := isTerminal(o.out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
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
			if colors && cell.Color != "" {
				text = "\x1b[" + cell.Color + "m" + text + "\x1b[0m"
			}
			line.WriteString(text + padding)
		}
		fmt.Fprintln(o.out, strings.TrimRight(line.String(), " "))
	}
}

// width returns the terminal's width, or 0 if w is not a terminal.
func width(w io.Writer) int {
	file, ok := fileOf(w)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// narrow reduces the widths of columns that may be shortened, the last one first.
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

// Time formats a time in the local zone, with the zone's offset from UTC ("Z": it is UTC).
func Time(at time.Time) string { return at.Local().Format("2006-01-02 15:04:05Z07:00") }

// Ago formats the duration since a time, of at least one second.
func Ago(at time.Time) string { return Short(max(time.Since(at).Truncate(time.Second), time.Second)) }

// OneLine returns a text as one line, with control characters replaced.
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
