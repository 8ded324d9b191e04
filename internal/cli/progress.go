package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// redraw is how often a progress line is drawn anew at most.
const redraw = 100 * time.Millisecond

const barWidth = 24

// Progress is a line on standard error that says how far long work is, if standard error is a terminal.
type Progress struct {
	out   io.Writer // nil: no terminal
	drawn time.Time
	shown bool
}

// NewProgress is the progress of a command.
func NewProgress(cmd *cobra.Command) *Progress {
	if out := cmd.ErrOrStderr(); isTerminal(out) {
		return &Progress{out: out}
	}
	return &Progress{}
}

// Show draws the line: a bar, if share (0 to 1) is known and not negative, and a text.
func (p *Progress) Show(share float64, format string, args ...any) {
	if p.out == nil || time.Since(p.drawn) < redraw {
		return
	}
	p.drawn, p.shown = time.Now(), true
	bar := ""
	if share >= 0 {
		full := int(min(share, 1) * barWidth)
		bar = "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "] "
	}
	line := bar + fmt.Sprintf(format, args...)
	if width := width(p.out); width > 0 {
		line = cut(line, width-1)
	}
	fmt.Fprintf(p.out, "\r\x1b[K%s", line)
}

// Clear takes the line away, before anything else is written.
func (p *Progress) Clear() {
	if p.shown {
		fmt.Fprintf(p.out, "\r\x1b[K")
		p.shown = false
	}
}
