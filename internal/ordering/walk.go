package ordering

import (
	"maps"
)

// maxReadings bounds how many readings of a set with repeated steps are examined.
const maxReadings = 256

// ends is the number of states in which a walk over given steps can end.
type ends int

const (
	noWalk   ends = iota // no walk takes these steps: one is missing
	manyEnds             // the walk may end in more than one state
	oneEnd
)

// walkEnd returns the state in which a walk over all steps ends. Equal steps can be one change made several times, or
// several events of one change. So walkEnd examines every reading: each step taken once, twice, up to as often as it
// occurs. The end is certain if all readings that form a walk agree on it. A closed walk may begin, and so end, in any of
// its states.
func walkEnd(steps []step) (end string, n ends) {
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
		case found == manyEnds, found == oneEnd && n == oneEnd && one != end:
			return "", manyEnds
		case found == oneEnd:
			end, n = one, oneEnd
		}
	}
	return end, n
}

// allReadings lists how often each step may have been taken. It returns nil if there are more than maxReadings.
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

// readingEnd returns the state in which a walk ends that takes each step as often as given. It compares each state's
// arrivals and departures.
func readingEnd(reading map[step]int) (end string, n ends) {
	surplus := map[string]int{} // arrivals less departures
	for s, n := range reading {
		surplus[s.to] += n
		surplus[s.from] -= n
	}
	ending, starting := 0, 0
	for state, n := range surplus {
		switch n {
		case 0:
		case 1:
			end = state
			ending++
		case -1:
			starting++
		default:
			return "", noWalk
		}
	}
	switch {
	case ending == 0 && starting == 0:
		return "", manyEnds // a closed walk
	case ending == 1 && starting == 1:
		return end, oneEnd
	default:
		return "", noWalk
	}
}

// connected reports whether the steps form one connected graph, in any direction, that contains every state.
func connected(times map[step]int, states map[string]bool) bool {
	neighbors := map[string][]string{}
	for s := range times {
		neighbors[s.from] = append(neighbors[s.from], s.to)
		neighbors[s.to] = append(neighbors[s.to], s.from)
	}
	for state := range states {
		if neighbors[state] == nil {
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
		for _, next := range neighbors[state] {
			visit(next)
		}
	}
	for s := range times {
		visit(s.from)
		break
	}
	return len(reached) == len(neighbors)
}
