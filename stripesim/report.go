package stripesim

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Report is what an endpoint answered.
type Report struct {
	Shape
	Statuses   map[int]int    // the responses by status
	Outcomes   map[string]int // the accepted deliveries by the outcome in a response of stripeonce
	Unanswered int            // attempts without a response
	Retried    int
	Refused    []Refused // the deliveries that were given up
	Seconds    float64   // of delivering
	// Median and P99 are the median and the 99th percentile of the time until a response.
	Median, P99 time.Duration
}

// results are a Report in the making.
type results struct {
	mu        sync.Mutex
	report    Report
	latencies []time.Duration
}

func (r *results) begin(shape Shape) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Shape = r.report.Add(shape)
}

func (r *results) end(took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Seconds += took.Seconds()
}

func (r *results) add(a Attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.report.Statuses == nil {
		r.report.Statuses, r.report.Outcomes = map[int]int{}, map[string]int{}
	}
	if a.Err != nil {
		r.report.Unanswered++
	} else {
		r.report.Statuses[a.Status]++
		r.latencies = append(r.latencies, a.Took)
	}
	switch {
	case a.OK():
		r.report.Outcomes[a.Outcome()]++
	case a.Last:
		r.report.Refused = append(r.report.Refused, refused(a))
	default:
		r.report.Retried++
	}
}

// Report returns the results so far.
func (d *Deliverer) Report() Report {
	r := &d.results
	r.mu.Lock()
	defer r.mu.Unlock()
	report := r.report
	report.Statuses, report.Outcomes = maps.Clone(report.Statuses), maps.Clone(report.Outcomes)
	report.Refused = slices.Clone(report.Refused)
	slices.Sort(r.latencies)
	report.Median, report.P99 = quantile(r.latencies, 0.5), quantile(r.latencies, 0.99)
	return report
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(q*float64(len(sorted)-1))]
}
