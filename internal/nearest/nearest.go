// Package nearest finds the most similar word.
package nearest

import "slices"

// Of returns the candidate with the smallest distance to a word, or "" if no distance is less than limit. Among equal
// distances, the first candidate wins.
func Of(word string, candidates []string, limit int) string {
	nearest := ""
	for _, candidate := range candidates {
		if d := distance(word, candidate); d < limit {
			nearest, limit = candidate, d
		}
	}
	return nearest
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = slices.Min([]int{change, row[j] + 1, row[j+1] + 1})
		}
	}
	return row[len(b)]
}
