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
	"github.com/pook/stripeonce/stripesim"
)

// failed has the observed failures of an event.
type failed struct {
	ev         *stripesim.Event
	answers    int // deliveries answered 500
	unanswered int // deliveries without a response, which may have failed
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

// judgeFailures checks that every event answered 500 has a failure record with its payload, and that no other event has one.
func (w *world) judgeFailures(pool *pgxpool.Pool) {
	w.t.Helper()
	logs := w.logged()
	w.mu.Lock()
	var list []judge.Failed
	for id, f := range w.failed {
		list = append(list, f.want(logs[id], w.away))
		delete(logs, id)
	}
	w.mu.Unlock()
	for id, logged := range logs { // a handler has failed, and no delivery was answered 500
		list = append(list, judge.Failed{EventID: id, AtLeast: logged.failures, AtMost: logged.failures})
	}
	findings, err := judge.Failures(context.Background(), pool, list)
	w.complain(findings, err)
}

// want returns the expected failure record of an event. Each failed attempt answers 500 to one delivery, and to duplicates
// in flight in the same process. If the handler has logged each failure, the record has exactly that number of attempts.
//
// While PostgreSQL is unreachable, a record may be written twice, if the first confirmation is lost. If it cannot be
// written at all, the receiver must log that at level ERROR.
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

// inLogs counts the log lines of an event.
type inLogs struct {
	failures   int // a handler is going to fail
	unrecorded int // a failure record could not be written
}

// onPurpose is what a handler logs before it fails.
const onPurpose = "the handler fails on purpose"

// logged reads the logs. A process logs before it responds, so the lines of all replies are complete.
func (w *world) logged() map[string]*inLogs {
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
		case strings.Contains(line, "level=ERROR") && strings.Contains(line, "could not record a failed event"):
			of(line).unrecorded++
		}
	})
	return said
}

// eachLine calls do with each line that the receivers have logged.
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
