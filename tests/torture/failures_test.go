package torture

import (
	"bufio"
	"context"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/stripesim"
)

// failed is what the world knows of an event's failures.
type failed struct {
	ev         *stripesim.Event
	answers    int // how often it was answered 500
	unanswered int // how often a delivery of it got no answer, and may have failed
}

// failureOf is called with the lock held.
func (w *world) failureOf(ev *stripesim.Event) *failed {
	f := w.failed[ev.ID]
	if f == nil {
		f = &failed{ev: ev}
		w.failed[ev.ID] = f
	}
	return f
}

func (w *world) unanswered(ev *stripesim.Event, _ error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failureOf(ev).unanswered++
}

// judgeFailures looks at the failure records: every 500 has its own, with the payload, and nothing else has one.
func (w *world) judgeFailures(pool *pgxpool.Pool) {
	w.t.Helper()
	said := w.said()
	w.mu.Lock()
	var list []judge.Failed
	for id, f := range w.failed {
		list = append(list, f.want(said[id], w.away))
		delete(said, id)
	}
	w.mu.Unlock()
	for id, logged := range said { // a handler has failed, and no delivery was answered 500
		list = append(list, judge.Failed{EventID: id, AtLeast: logged.failures, AtMost: logged.failures})
	}
	findings, err := judge.Failures(context.Background(), pool, list)
	w.complain(findings, err)
}

// want is what the event's failure record must be. Each failed attempt is answered 500 to at least one delivery, to the
// duplicates that were in flight in the same process, too. Where the handler has told of each failure, the record
// counts exactly these.
//
// While PostgreSQL is out of reach, a record may be written whose confirmation is lost, and be written once more. Or it
// cannot be written at all; then the receiver must say so in its log, at level ERROR.
func (f *failed) want(logged *inLogs, away bool) judge.Failed {
	want := judge.Failed{EventID: f.ev.ID, AtLeast: min(1, f.answers), AtMost: f.answers + f.unanswered, Payload: f.ev.Body}
	if logged != nil && logged.failures > 0 {
		want.AtLeast, want.AtMost = logged.failures, logged.failures
	}
	if away {
		want.AtMost, want.Payload = math.MaxInt32, nil
		if logged != nil && logged.unrecorded > 0 {
			want.AtLeast = 0
		}
	}
	return want
}

// inLogs is what the receivers' logs say of an event.
type inLogs struct {
	failures   int // how often a handler said that it was going to fail
	unrecorded int // how often a failure record could not be written
}

// onPurpose is what a handler logs before it fails.
const onPurpose = "the handler fails on purpose"

// said reads the logs. A process writes a line before it answers, so the lines of all replies are there.
func (w *world) said() map[string]*inLogs {
	w.t.Helper()
	said := map[string]*inLogs{}
	of := func(line string) *inLogs {
		_, rest, _ := strings.Cut(line, "event_id=")
		id, _, _ := strings.Cut(rest, " ")
		if said[id] == nil {
			said[id] = &inLogs{}
		}
		return said[id]
	}
	w.eachLine(func(line string) {
		switch {
		case strings.Contains(line, onPurpose):
			of(line).failures++
		case strings.Contains(line, "level=ERROR") && strings.Contains(line, "record could not be written"):
			of(line).unrecorded++
		}
	})
	return said
}

// eachLine goes through what the receivers have logged.
func (w *world) eachLine(do func(line string)) {
	w.t.Helper()
	w.mu.Lock()
	logs := slices.Clone(w.logs)
	w.mu.Unlock()
	for _, path := range logs {
		file, err := os.Open(path)
		if err != nil {
			w.t.Fatal(err)
		}
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 1<<20) // a panic's stack is one line
		for lines.Scan() {
			do(lines.Text())
		}
		_ = file.Close()
		if err := lines.Err(); err != nil {
			w.t.Fatal(err)
		}
	}
}
