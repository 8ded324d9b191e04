// Package nearest finds the word that was probably meant.
package nearest

import "slices"

// Of returns the candidate with the smallest distance to a word, if that is less than limit, else "". Of several the
// first counts.
func Of(word string, candidates []string, limit int) string {
	nearest := ""
	for _, candidate := range candidates {
		if d := distance(word, candidate); d < limit {
			nearest, limit = candidate, d
		}
	}
	return nearest
}

// distance is Levenshtein's: how many letters to change, add or take away.
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
