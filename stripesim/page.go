package stripesim

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// entry is one object of a list.
type entry struct {
	id      string
	created int64
	object  func() object
}

// page responds with a page of a list, newest first, according to the request's filters and cursors.
func page[T any](w http.ResponseWriter, req *http.Request, path, kind string, all []T, of func(T) entry, fits func(T) bool) {
	query := req.URL.Query()
	limit := defaultLimit
	if query.Has("limit") {
		n, err := strconv.Atoi(query.Get("limit"))
		if err != nil || n < 1 || n > maxLimit {
			fail(w, http.StatusBadRequest, apiError{Type: invalidRequest, Code: "parameter_invalid_integer", Param: "limit", Message: "This value must be between 1 and 100 (inclusive)."})
			return
		}
		limit = n
	}
	var entries []entry
	for _, one := range all {
		if e := of(one); fits(one) && createdFits(query, e.created) {
			entries = append(entries, e)
		}
	}
	from, to := 0, len(entries)
	for cursor, set := range map[string]func(int){
		"starting_after": func(i int) { from = i + 1 },
		"ending_before":  func(i int) { from, to = max(0, i-limit), i },
	} {
		if !query.Has(cursor) {
			continue
		}
		i := slices.IndexFunc(entries, func(e entry) bool { return e.id == query.Get(cursor) })
		if i < 0 {
			fail(w, http.StatusBadRequest, apiError{Type: invalidRequest, Code: "resource_missing", Param: cursor, Message: fmt.Sprintf("No such %s: '%s'", kind, query.Get(cursor))})
			return
		}
		set(i)
	}
	more := to-from > limit || query.Has("ending_before") && from > 0
	data := []object{}
	for _, e := range entries[from:min(to, from+limit)] {
		data = append(data, e.object())
	}
	answer(w, http.StatusOK, object{"object": "list", "url": path, "has_more": more, "data": data})
}

// createdFits reads created=… and created[gt|gte|lt|lte]=….
func createdFits(query url.Values, created int64) bool {
	for name, holds := range map[string]func(bound int64) bool{
		"created":      func(bound int64) bool { return created == bound },
		"created[gt]":  func(bound int64) bool { return created > bound },
		"created[gte]": func(bound int64) bool { return created >= bound },
		"created[lt]":  func(bound int64) bool { return created < bound },
		"created[lte]": func(bound int64) bool { return created <= bound },
	} {
		if bound, err := strconv.ParseInt(query.Get(name), 10, 64); err == nil && !holds(bound) {
			return false
		}
	}
	return true
}
