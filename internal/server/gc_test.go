package server

import (
	"sync"
	"testing"
)

const stack = 16 << 10

//go:noinline
func touch(on *[stack]byte) { on[0]++ }

// The limit leaves room above the live heap and other memory, and is never less than memoryLimit.
func TestMemoryLimit(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct{ live, other, want int64 }{{4, 8, 48}, {32, 4, 48}, {200, 10, 237}, {8, 100, 111}} {
		if got := limitFor(memory{uint64(c.live) * mib, uint64(c.other) * mib}); got != c.want*mib {
			t.Errorf("with %d MiB of live heap and %d of other memory the limit is %d MiB, want %d", c.live, c.other, got/mib, c.want)
		}
	}
	release, ready := make(chan struct{}), &sync.WaitGroup{}
	const goroutines = 1000
	for range goroutines {
		ready.Add(1)
		go func() {
			var on [stack]byte
			touch(&on)
			ready.Done()
			<-release
			touch(&on)
		}()
	}
	ready.Wait()
	if m := readMemory(); m.other < goroutines*stack {
		t.Errorf("with the stacks of %d goroutines, other memory is %d bytes", goroutines, m.other)
	}
	close(release)
}
