package server

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// gcPercent lets a receiver's heap of a few MiB grow to about 20 MiB between collections. With Go's default, there are
	// about a hundred collections a second under load, which take a tenth of the processor's time.
	gcPercent = 400
	// memoryLimit bounds that growth: the process stays below 64 MiB with a thousand deliveries in flight (make bench
	// measures both).
	memoryLimit = 48 << 20
	// limitRoom is how much the heap may grow, in addition to an eighth of the live heap, before the limit causes a
	// collection.
	limitRoom = 2 << 20
	// limitPause is the interval between adjustments of the limit.
	limitPause = time.Second
)

// TuneGC tunes the garbage collector for a process that only runs a receiver. It does not override GOGC and GOMEMLIMIT.
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

// keepLimitAboveHeap raises the limit if the process needs more memory, such as for a thousand large bodies or the stacks of
// idle connections. Otherwise Go would collect continuously.
func keepLimitAboveHeap() {
	for range time.Tick(limitPause) {
		debug.SetMemoryLimit(limitFor(readMemory()))
	}
}

// memory is the process's memory in bytes: the live heap, and all memory outside of the heap, such as stacks.
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
