package console

import (
	"fmt"
	"slices"
	"time"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/webhooks"
)

// The chart's dimensions, in the units of its view box.
const (
	chartWidth, chartHeight = 720.0, 180.0
	chartLeft, chartBottom  = 44.0, 24.0
	chartTop                = 10.0
	chartGap                = 0.15 // of a bar's width
	chartLines              = 3
	chartLabels             = 6
)

// outcomes are those of the ledger. Each bar stacks them with first failures and duplicates.
var (
	outcomes = []string{"processed", "stale", "ignored", "parked"}
	stacks   = append(slices.Clone(outcomes), "failed", "duplicate")
)

// chart has a bar for each span of time, stacked by outcome.
type chart struct {
	Width, Height float64
	Left          float64
	Bars          []bar
	Lines         []line
	Labels        []label
	Summary       string // for screen readers
}

type bar struct {
	X, Y, Width, Height float64
	Class, Title        string
}

type line struct {
	Y    float64
	Text string
}

type label struct {
	X    float64
	Text string
}

// withDuplicates adds the duplicates, which are not in PostgreSQL.
func withDuplicates(activity []db.LedgerActivityRow, duplicates map[time.Time]uint64) []db.LedgerActivityRow {
	for at, n := range duplicates {
		activity = append(activity, db.LedgerActivityRow{Span: at, Outcome: string(webhooks.OutcomeDuplicate), Events: int64(n)})
	}
	return activity
}

func newChart(activity []db.LedgerActivityRow, since, until time.Time, width time.Duration) *chart {
	c := &chart{Width: chartWidth, Height: chartHeight, Left: chartLeft}
	counts := map[int64]map[string]int64{} // by the span's start, in seconds
	var most, total int64
	for _, row := range activity {
		at := row.Span.Unix()
		if counts[at] == nil {
			counts[at] = map[string]int64{}
		}
		counts[at][row.Outcome] += row.Events
		total += row.Events
		sum := int64(0)
		for _, n := range counts[at] {
			sum += n
		}
		most = max(most, sum)
	}
	top := ceiling(most)
	first := since.Truncate(width)
	places := int(until.Sub(first)/width) + 1
	place := (chartWidth - chartLeft) / float64(places)
	high := chartHeight - chartBottom - chartTop
	for i := range places {
		at := first.Add(time.Duration(i) * width)
		x, y := chartLeft+place*float64(i), chartHeight-chartBottom
		for _, outcome := range stacks {
			n := counts[at.Unix()][outcome]
			if n == 0 {
				continue
			}
			h := high * float64(n) / float64(top)
			y -= h
			c.Bars = append(c.Bars, bar{x + place*chartGap/2, y, place * (1 - chartGap), h, outcome,
				fmt.Sprintf("%s UTC: %s %s", at.UTC().Format("2 Jan 15:04"), count(n), outcome)})
		}
		if i%max(places/chartLabels, 1) == 0 && i < places-places/(2*chartLabels) {
			c.Labels = append(c.Labels, label{x, axisTime(at.UTC(), width)})
		}
	}
	for i := range chartLines + 1 {
		value := top * int64(i) / chartLines
		c.Lines = append(c.Lines, line{chartHeight - chartBottom - high*float64(value)/float64(top), count(value)})
	}
	c.Summary = fmt.Sprintf("%s deliveries from %s to %s UTC, at most %s in one bar", count(total), since.UTC().Format("2 Jan 15:04"), until.UTC().Format("2 Jan 15:04"), count(most))
	return c
}

func axisTime(at time.Time, width time.Duration) string {
	if width >= time.Hour {
		return at.Format("2 Jan")
	}
	return at.Format("15:04")
}

// ceiling rounds up to a number that chartLines divides.
func ceiling(n int64) int64 {
	for step := int64(1); ; step *= 10 {
		for _, factor := range []int64{1, 2, 5} {
			if top := step * factor * chartLines; top >= n {
				return top
			}
		}
	}
}
