package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// Duration is a flag that also takes days: 72h, 30d, 1d12h.
type Duration time.Duration

func (d *Duration) String() string {
	if *d == 0 {
		return ""
	}
	return Short(time.Duration(*d))
}

// Set reads the flag's value.
func (d *Duration) Set(text string) error {
	days, rest, has := strings.Cut(text, "d")
	if !has {
		days, rest = "0", text
	}
	n, err := strconv.ParseUint(days, 10, 16)
	value := time.Duration(n) * day
	if err == nil && rest != "" {
		var more time.Duration
		more, err = time.ParseDuration(rest)
		value += more
	}
	if err != nil || text == "" || strings.Contains(text, "-") {
		return fmt.Errorf("%q is not a duration: use one such as 72h, 30d or 90m", text)
	}
	*d = Duration(value)
	return nil
}

// Type returns the type's name for the help text.
func (d *Duration) Type() string { return "duration" }

// Short formats a duration in one unit: 45s, 12m, 3h, 8d.
func Short(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Second:
		return strconv.Itoa(int(d/time.Millisecond)) + "ms"
	case d < 2*time.Minute:
		return strconv.Itoa(int(d/time.Second)) + "s"
	case d < 2*time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + "m"
	case d < 2*day:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	default:
		return strconv.Itoa(int(d/day)) + "d"
	}
}
