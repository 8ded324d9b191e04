package cli

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

func TestDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"72h": 72 * time.Hour, "30d": 30 * day, "1d12h": 36 * time.Hour, "90m": 90 * time.Minute, "0d": 0, "1h30m": 90 * time.Minute,
	} {
		var d Duration
		if err := d.Set(text); err != nil || time.Duration(d) != want {
			t.Errorf("%s is %s, %v, want %s", text, time.Duration(d), err, want)
		}
	}
	for _, text := range []string{"", "d", "-1h", "-1d", "3 weeks", "1.5d", "1d-2h", "99999999d", "1dd", "soon"} {
		var d Duration
		if err := d.Set(text); err == nil || !strings.Contains(err.Error(), "72h, 30d") {
			t.Errorf("%q is %s, %v", text, time.Duration(d), err)
		}
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0ms", 16 * time.Millisecond: "16ms", 59 * time.Second: "59s", 119 * time.Second: "119s", 3 * time.Minute: "3m",
		119 * time.Minute: "119m", 3 * time.Hour: "3h", 47 * time.Hour: "47h", 9 * day: "9d",
	} {
		if got := Short(d); got != want {
			t.Errorf("%s is %s, want %s", d, got, want)
		}
	}
}

// On a narrow terminal, columns with a minimum width are shortened, the last one first. Elsewhere nothing is shortened.
func TestTable(t *testing.T) {
	t.Parallel()
	columns := []Column{{Title: "ID"}, {Title: "TYPE", Least: 6}, {Title: "ERROR", Least: 8}}
	widths := []int{10, 20, 40}
	narrow(columns, widths, 60)
	if widths[0] != 10 || widths[1] != 20 || widths[2] != 24 {
		t.Errorf("at 60 they are %v", widths)
	}
	narrow(columns, widths, 10)
	if widths[0] != 10 || widths[1] != 6 || widths[2] != 8 {
		t.Errorf("at 10 they are %v", widths)
	}
	if got := cut("größer als", 5); got != "größ…" || utf8.RuneCountInString(got) != 5 {
		t.Errorf("cut it is %s", got)
	}
	if got := cutTail("größer als", 5); got != "… als" {
		t.Errorf("with its end kept it is %s", got)
	}
	var out strings.Builder
	cmd := &cobra.Command{}
	cmd.SetOut(&out)
	o := NewOutput(cmd).Of(cmd)
	o.Table(columns, [][]Cell{{{Text: "evt_1"}, {Text: "a.b"}, {Text: strings.Repeat("x", 300), Color: Red}}})
	if want := "ID     TYPE  ERROR\nevt_1  a.b   " + strings.Repeat("x", 300) + "\n"; out.String() != want {
		t.Errorf("piped it is\n%s", out.String())
	}
}

// Text from Stripe or an error cannot contain control sequences.
func TestOneLine(t *testing.T) {
	t.Parallel()
	if got := OneLine("a\nb\x1b[31mc\u009b2Jd\x00ü"); got != "a b�[31mc�2Jd�ü" {
		t.Errorf("it is %q", got)
	}
}
