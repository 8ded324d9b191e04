package admission

import (
	"errors"
	"io"
	"sync/atomic"
)

// ErrBudget reports that the bodies in flight take up more memory than the Budget allows.
var ErrBudget = errors.New("the bodies of the deliveries in flight take up too much memory (webhooks.Config.MaxBufferBytes)")

// Budget bounds the bytes of all bodies that are being received or processed. It is safe for concurrent use.
type Budget struct {
	used atomic.Int64
	max  int64
}

// NewBudget returns a Budget of max bytes.
func NewBudget(max int64) *Budget { return &Budget{max: max} }

// Reader returns a reader of r that spends the budget. The caller releases it when the bytes are no longer in memory.
func (b *Budget) Reader(r io.Reader) *BudgetReader { return &BudgetReader{from: r, budget: b} }

// BudgetReader is a reader that counts its bytes against a Budget. It is for one goroutine at a time.
type BudgetReader struct {
	from   io.Reader
	budget *Budget
	spent  int64
}

// Read reads from the reader below. It returns ErrBudget if the bytes of all readers together exceed the budget, even
// if other readers have spent it. The bytes of a failed Read count until Release.
func (r *BudgetReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	r.spent += int64(n)
	if r.budget.used.Add(int64(n)) > r.budget.max {
		return n, ErrBudget
	}
	return n, err
}

// Release gives back the bytes that were read. A second call gives back nothing.
func (r *BudgetReader) Release() {
	r.budget.used.Add(-r.spent)
	r.spent = 0
}
