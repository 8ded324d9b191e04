package engine

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// maxSecondIDs bounds Position.Second. If more objects were created in one second, their rows are compared again.
const maxSecondIDs = 1000

// Position is how far a comparison is: the last object of Stripe's list that it has completed. The zero value is the beginning.
type Position struct {
	Account string `json:"account,omitempty"`
	ID      string `json:"id"`
	// Created is when Stripe created the object. Zero: not known.
	Created time.Time `json:"created,omitzero"`
	// Second are the completed objects of the second of Created: their rows are not to be compared again.
	Second []string `json:"second,omitempty"`
}

// String returns the position as ParsePosition reads it: acct_1/sub_1, or sub_1 for the receiver's own account.
func (p Position) String() string {
	if p.Account == "" {
		return p.ID
	}
	return p.Account + "/" + p.ID
}

// ParsePosition reads a position, which then has only the account and the id.
func ParsePosition(text string) Position {
	if account, id, ok := strings.Cut(text, "/"); ok {
		return Position{Account: account, ID: id}
	}
	return Position{ID: text}
}

// position returns the walk's position after a page whose last object has this id.
func (w *walk[T]) position(id string) Position {
	p := Position{Account: w.account, ID: id, Created: w.upper}
	if len(w.boundary) <= maxSecondIDs {
		p.Second = slices.DeleteFunc(slices.Sorted(maps.Keys(w.boundary)), func(id string) bool { return w.left[id] })
	}
	return p
}
