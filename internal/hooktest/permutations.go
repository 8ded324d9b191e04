package hooktest

import "slices"

// Permutations calls visit with every order of n elements.
func Permutations(n int, visit func(order []int)) {
	order := make([]int, 0, n)
	var extend func(left []int)
	extend = func(left []int) {
		if len(left) == 0 {
			visit(order)
			return
		}
		for i := range left {
			order = append(order, left[i])
			extend(slices.Delete(slices.Clone(left), i, i+1))
			order = order[:len(order)-1]
		}
	}
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	extend(all)
}
