package server

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// gcPercent lets the heap of a receiver, which is a few MiB, grow to some 20 between collections. By Go's
	// default it is collected some hundred times a second under load, for a tenth of the processor's time.
	gcPercent = 400
	// memoryLimit is where that ends: the process stays below 64 MiB with a thousand deliveries in flight
	// (make bench measures both).
	memoryLimit = 48 << 20
	// limitRoom is what there is beside the heap, and limitPause how often it is looked at what lives.
	limitRoom  = 16 << 20
	limitPause = time.Second
)

// TuneGC sets the collector for a process that is a receiver and nothing else. It respects GOGC and GOMEMLIMIT:
// what is set stays.
func TuneGC() {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(gcPercent)
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
		go keepLimitAboveHeap()
	}
}

// keepLimitAboveHeap raises the limit where more lives than it has room for, such as a thousand large bodies:
// Go would collect without end.
func keepLimitAboveHeap() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for range time.Tick(limitPause) {
		metrics.Read(live)
		debug.SetMemoryLimit(max(memoryLimit, int64(live[0].Value.Uint64())*5/4+limitRoom))
	}
}
