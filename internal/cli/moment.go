package cli

import (
	"fmt"
	"time"
)

// Moment is a flag for a moment: a time such as 2026-11-24T11:00:00Z, or how long ago it was, such as 72h or 30d. Without a zone a time
// is local. The zero value is no moment.
type Moment struct{ time.Time }

// layouts are the forms of a time, with and without a zone.
var layouts = []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly}

func (m *Moment) String() string {
	if m.IsZero() {
		return ""
	}
	return m.Format(time.RFC3339)
}

// Set reads the flag's value.
func (m *Moment) Set(text string) error {
	var ago Duration
	if ago.Set(text) == nil {
		m.Time = time.Now().Add(-time.Duration(ago))
		return nil
	}
	for _, layout := range layouts {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			m.Time = at
			return nil
		}
	}
	return fmt.Errorf("%q is neither a time nor a duration: use one such as 2026-11-24T11:00:00Z, 2026-11-24T11:00 (local), 72h or 30d", text)
}

// Type is the flag's type in help texts.
func (m *Moment) Type() string { return "time" }
