package admission

import (
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

func TestBudgetReader(t *testing.T) {
	t.Parallel()
	b := NewBudget(10)
	first, second := b.Reader(strings.NewReader("123456")), b.Reader(strings.NewReader("7890"))
	defer second.Release()
	for want, r := range map[string]*BudgetReader{"123456": first, "7890": second} { // exactly the budget
		if got, err := io.ReadAll(r); string(got) != want || err != nil {
			t.Fatalf("%q: read %q, %v", want, got, err)
		}
	}
	third := b.Reader(strings.NewReader("x"))
	if n, err := third.Read(make([]byte, 8)); n != 1 || !errors.Is(err, ErrBudget) {
		t.Fatalf("one byte too many: %d, %v", n, err)
	}
	third.Release()
	first.Release()
	first.Release()
	if used := b.used.Load(); used != 4 {
		t.Fatalf("the budget has %d bytes in use, want 4", used)
	}
	fourth := b.Reader(strings.NewReader("123456"))
	if _, err := io.ReadAll(fourth); err != nil {
		t.Fatalf("the bytes of the first are free again: %v", err)
	}
}

// The bytes add up over many reads, and Release gives back all of them.
func TestBudgetCountsEveryRead(t *testing.T) {
	t.Parallel()
	b := NewBudget(5)
	r := b.Reader(iotest.OneByteReader(strings.NewReader("123456")))
	if got, err := io.ReadAll(r); string(got) != "123456" || !errors.Is(err, ErrBudget) {
		t.Errorf("read %q, %v", got, err)
	}
	if used := b.used.Load(); used != 6 {
		t.Errorf("the budget has %d bytes in use, want 6", used)
	}
	r.Release()
	if used := b.used.Load(); used != 0 {
		t.Errorf("the budget has %d bytes in use after Release", used)
	}
}

func TestBudgetReaderPassesErrorsOn(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	r := NewBudget(1).Reader(iotest.ErrReader(broken))
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, broken) {
		t.Errorf("read %d, %v", n, err)
	}
}

func TestBudgetOfManyReaders(t *testing.T) {
	t.Parallel()
	b := NewBudget(64)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 100 {
				r := b.Reader(strings.NewReader("12345678"))
				if _, err := io.ReadAll(r); err != nil && !errors.Is(err, ErrBudget) {
					t.Error(err)
				}
				r.Release()
			}
		})
	}
	wg.Wait()
	if used := b.used.Load(); used != 0 {
		t.Errorf("the budget has %d bytes in use at the end", used)
	}
}
