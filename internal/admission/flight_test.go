package admission

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// lead joins the key, and expects to lead.
func lead(t *testing.T, f *Flights[string], key string) *Call[string] {
	t.Helper()
	call, leads := f.Join(key)
	if !leads {
		t.Fatalf("%s: does not lead", key)
	}
	return call
}

func TestFlightsFollowersTakeTheResult(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f Flights[string]
		call := lead(t, &f, "a")
		results := make(chan string, 3)
		for range cap(results) {
			go func() {
				followed, leads := f.Join("a")
				if leads {
					t.Error("a follower leads")
				}
				<-followed.Done()
				results <- followed.Result()
			}()
		}
		synctest.Wait()
		if n := f.Followers("a"); len(results) > 0 || n != cap(results) {
			t.Fatalf("%d follow, and %d do not wait", n, len(results))
		}
		f.Finish("a", call, "result")
		for range cap(results) {
			if got := <-results; got != "result" {
				t.Errorf("a follower has %q", got)
			}
		}
		if len(f.calls) > 0 || f.Followers("a") > 0 {
			t.Errorf("a finished call is kept: %v", f.calls)
		}
	})
}

func TestFlightsKeysAreApart(t *testing.T) {
	t.Parallel()
	var f Flights[string]
	a, b := lead(t, &f, "a"), lead(t, &f, "b")
	if call, leads := f.Join("a"); call != a || leads {
		t.Error("the call of another key displaces the first")
	}
	f.Finish("a", a, "of a")
	select {
	case <-b.Done():
		t.Error("the call of another key is finished")
	default:
	}
	f.Finish("b", b, "of b")
	if a.Result() != "of a" || b.Result() != "of b" {
		t.Errorf("results: %q, %q", a.Result(), b.Result())
	}
	lead(t, &f, "a")
}

// A follower that has the result and joins again leads: the key is free before Done is closed.
func TestFlightsKeyIsFreeBeforeDone(t *testing.T) {
	t.Parallel()
	var f Flights[string]
	call := lead(t, &f, "a")
	f.mu.Lock() // Finish cannot free the key
	finished := make(chan struct{})
	go func() {
		f.Finish("a", call, "result")
		close(finished)
	}()
	for range 1000 {
		runtime.Gosched()
		select {
		case <-call.Done():
			t.Fatal("Done is closed while the key is taken")
		default:
		}
	}
	f.mu.Unlock()
	<-call.Done()
	lead(t, &f, "a")
	<-finished
}

// One caller leads at a time, and each leads in the end, since a follower joins again until it has led.
func TestFlightsOneLeaderAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f Flights[int]
		var leaders, led atomic.Int32
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				for {
					call, leads := f.Join("a")
					if leads {
						if leaders.Add(1) != 1 {
							t.Error("two callers lead")
						}
						time.Sleep(time.Millisecond)
						leaders.Add(-1)
						led.Add(1)
						f.Finish("a", call, i)
						return
					}
					<-call.Done()
				}
			})
		}
		wg.Wait()
		if n := led.Load(); n != 50 {
			t.Errorf("%d of 50 have led", n)
		}
	})
}
