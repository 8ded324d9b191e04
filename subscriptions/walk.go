package subscriptions

import (
	"maps"
)

// maxReadings bounds how many readings of a set with repeated steps are tried.
const maxReadings = 256

// verdict says what is known of the end of a walk.
type verdict int

const (
	noWalk   verdict = iota // no walk takes these steps: one is missing
	manyEnds                // it may end in more than one state
	oneEnd
)

// walkEnd returns the state in which a walk over all steps ends. Steps that are alike can be one change
// made several times or several events of one change, so each is read as taken once, twice, up to as
// often as it is there; the end is certain if all readings that are a walk agree on it. A closed walk
// may begin, and so end, anywhere.
func walkEnd(steps []step) (end string, v verdict) {
	times := map[step]int{}
	states := map[string]bool{}
	for _, s := range steps {
		states[s.to] = true
		if s.moves() {
			s.creation = false
			times[s]++
		}
	}
	if len(times) == 0 {
		if len(states) == 1 {
			return steps[0].to, oneEnd
		}
		return "", noWalk
	}
	if !connected(times, states) {
		return "", noWalk
	}
	readings := allReadings(times)
	if readings == nil {
		return "", manyEnds
	}
	for _, reading := range readings {
		switch one, found := readingEnd(reading); {
		case found == manyEnds, found == oneEnd && v == oneEnd && one != end:
			return "", manyEnds
		case found == oneEnd:
			end, v = one, oneEnd
		}
	}
	return end, v
}

// allReadings lists how often each step may have been taken; nil if these are too many to try.
func allReadings(times map[step]int) []map[step]int {
	readings := []map[step]int{{}}
	for s, most := range times {
		if len(readings)*most > maxReadings {
			return nil
		}
		var longer []map[step]int
		for _, reading := range readings {
			for n := 1; n <= most; n++ {
				next := maps.Clone(reading)
				next[s] = n
				longer = append(longer, next)
			}
		}
		readings = longer
	}
	return readings
}

// readingEnd finds the state where a walk that takes each step so often ends, by arrivals and departures.
func readingEnd(reading map[step]int) (end string, v verdict) {
	surplus := map[string]int{} // arrivals less departures
	for s, n := range reading {
		surplus[s.to] += n
		surplus[s.from] -= n
	}
	ends, starts := 0, 0
	for state, n := range surplus {
		switch n {
		case 0:
		case 1:
			end = state
			ends++
		case -1:
			starts++
		default:
			return "", noWalk
		}
	}
	switch {
	case ends == 0 && starts == 0:
		return "", manyEnds // it is closed
	case ends == 1 && starts == 1:
		return end, oneEnd
	default:
		return "", noWalk
	}
}

// connected is true if the steps hang together, whichever way they lead, and touch every state.
func connected(times map[step]int, states map[string]bool) bool {
	neighbours := map[string][]string{}
	for s := range times {
		neighbours[s.from] = append(neighbours[s.from], s.to)
		neighbours[s.to] = append(neighbours[s.to], s.from)
	}
	for state := range states {
		if neighbours[state] == nil {
			return false
		}
	}
	reached := map[string]bool{}
	var visit func(string)
	visit = func(state string) {
		if reached[state] {
			return
		}
		reached[state] = true
		for _, next := range neighbours[state] {
			visit(next)
		}
	}
	for s := range times {
		visit(s.from)
		break
	}
	return len(reached) == len(neighbours)
}
