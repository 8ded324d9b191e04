package stripesim

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Report is what an endpoint answered.
type Report struct {
	Shape                     // of the plans
	Completed  int            // the deliveries that were accepted or given up; fewer than Deliveries if they were interrupted
	Accepted   int            // the events of which a delivery was answered with a 2xx
	Statuses   map[int]int    // the responses by status
	Outcomes   map[string]int // the accepted deliveries by the outcome in a response of stripeonce; empty for other receivers
	Unanswered int            // attempts without a response
	Retried    int
	GivenUp    int       // the deliveries that were given up, also those of events of which another one was accepted
	Refused    []Refused // the events of which all deliveries were given up, in that order
	Seconds    float64   // of delivering
	// Median and P99 are the median and the 99th percentile of the time until a response.
	Median, P99 time.Duration
}

// Refused is an event that was never answered with a 2xx. In both forms, it is two.
type Refused struct {
	EventID   string `json:"event_id"`
	EventType string `json:"event_type"`
	Answer    string `json:"answer"` // the last one
}

// results are a Report in the making.
type results struct {
	mu          sync.Mutex
	report      Report
	latencies   []time.Duration
	accepted    map[string]bool    // by the event's id
	givenUp     map[string]Refused // by the event's id
	order       []string           // of givenUp
	misdirected int                // the attempts, while all are
	directed    bool               // another attempt was made
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

func (r *results) done() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report.Completed
}

// add returns the number of misdirected attempts if all so far are.
func (r *results) add(a Attempt) (misdirected int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.accepted == nil {
		r.report.Statuses, r.report.Outcomes = map[int]int{}, map[string]int{}
		r.accepted, r.givenUp = map[string]bool{}, map[string]Refused{}
	}
	if a.Err != nil {
		r.report.Unanswered++
	} else {
		r.report.Statuses[a.Status]++
		r.latencies = append(r.latencies, a.Took)
	}
	if a.Last {
		r.report.Completed++
	} else {
		r.report.Retried++
	}
	id := a.eventID()
	switch {
	case a.OK():
		r.accepted[id] = true
		if outcome := a.Outcome(); outcome != "" {
			r.report.Outcomes[outcome]++
		}
	case a.Last:
		r.report.GivenUp++
		if _, known := r.givenUp[id]; !known {
			r.order = append(r.order, id)
		}
		r.givenUp[id] = Refused{id, a.Event.Type, a.String()}
	}
	r.directed = r.directed || !a.misdirected()
	if r.directed {
		return 0
	}
	r.misdirected++
	return r.misdirected
}

// Report returns the results so far.
func (d *Deliverer) Report() Report {
	r := &d.results
	r.mu.Lock()
	defer r.mu.Unlock()
	report := r.report
	report.Statuses, report.Outcomes = maps.Clone(report.Statuses), maps.Clone(report.Outcomes)
	report.Accepted = len(r.accepted)
	for _, id := range r.order {
		if !r.accepted[id] {
			report.Refused = append(report.Refused, r.givenUp[id])
		}
	}
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
