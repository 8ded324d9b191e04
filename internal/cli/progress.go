package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// redraw is the minimum interval between updates of a progress line.
const redraw = 100 * time.Millisecond

const barWidth = 24

// Progress is a progress line on standard error, if that is a terminal.
type Progress struct {
	out   io.Writer // nil: no terminal
	drawn time.Time
	shown bool
}

// NewProgress returns the progress line of a command.
func NewProgress(cmd *cobra.Command) *Progress {
	if out := cmd.ErrOrStderr(); isTerminal(out) {
		return &Progress{out: out}
	}
	return &Progress{}
}

// Terminal reports whether the line is shown.
func (p *Progress) Terminal() bool { return p.out != nil }

// Show draws the line: a bar, unless share (0 to 1) is negative, and a text.
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

// Clear removes the line. Call it before writing anything else.
func (p *Progress) Clear() {
	if p.shown {
		fmt.Fprintf(p.out, "\r\x1b[K")
		p.shown = false
	}
}
