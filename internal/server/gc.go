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
	// limitRoom is what the heap may grow by, beside an eighth of what lives, before the limit has it collected.
	limitRoom = 2 << 20
	// limitPause is how often it is looked at what lives.
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

// keepLimitAboveHeap raises the limit where there is more than it has room for, such as a thousand large bodies, or
// the stacks of as many idle connections: Go would collect without end.
func keepLimitAboveHeap() {
	for range time.Tick(limitPause) {
		debug.SetMemoryLimit(limitFor(readMemory()))
	}
}

// memory is what the process has, in bytes: the heap that lives, and all that is no heap, such as stacks.
type memory struct{ live, other uint64 }

func readMemory() memory {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/released:bytes"}, {Name: "/memory/classes/heap/unused:bytes"},
	}
	metrics.Read(samples)
	m := memory{live: samples[0].Value.Uint64(), other: samples[1].Value.Uint64()}
	for _, heap := range samples[2:] {
		m.other -= heap.Value.Uint64()
	}
	return m
}

func limitFor(m memory) int64 { return max(memoryLimit, int64(m.live+m.live/8+m.other)+limitRoom) }
