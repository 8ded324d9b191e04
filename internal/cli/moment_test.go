package cli

import (
	"testing"
	"time"
)

func TestMoment(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		"2026-11-24T11:00:00Z":      time.Date(2026, 11, 24, 11, 0, 0, 0, time.UTC),
		"2026-11-24T11:00:00+02:00": time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC),
		"2026-11-24 11:00:05":       time.Date(2026, 11, 24, 11, 0, 5, 0, time.Local),
		"2026-11-24T11:00":          time.Date(2026, 11, 24, 11, 0, 0, 0, time.Local),
		"2026-11-24":                time.Date(2026, 11, 24, 0, 0, 0, 0, time.Local),
	} {
		var m Moment
		if err := m.Set(text); err != nil || !m.Equal(want) {
			t.Errorf("%s is %s, %v, want %s", text, m.Time, err, want)
		}
	}
	var m Moment
	before := time.Now().Add(-30 * 24 * time.Hour)
	if err := m.Set("30d"); err != nil || m.Before(before.Add(-time.Minute)) || m.After(before.Add(time.Minute)) {
		t.Errorf("30d is %s, %v", m.Time, err)
	}
	for _, text := range []string{"", "yesterday", "-3h", "11:00"} {
		if err := m.Set(text); err == nil {
			t.Errorf("%q is taken for %s", text, m.Time)
		}
	}
}
