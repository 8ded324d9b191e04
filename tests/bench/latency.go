package main

import (
	"bufio"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// latencyConnections is how many deliveries sendAtRate can have in flight. Beyond it a delivery is late, which counts.
const latencyConnections = 128

// sendAtRate sends requests at random times (a Poisson process) with a mean rate per second, whether earlier ones have
// been answered or not. It returns the 99th percentile of the time from when a request was due to its response.
func sendAtRate(addr string, requests [][]byte, rate float64) (p99 time.Duration, err error) {
	due := make([]time.Duration, len(requests))
	random, at := rand.New(rand.NewPCG(1, uint64(len(requests)))), 0.0
	for i := range due {
		at += random.ExpFloat64() / rate
		due[i] = time.Duration(at * float64(time.Second))
	}
	took := make([]time.Duration, len(requests))
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, latencyConnections)
	began := time.Now()
	sendDue := func() error {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		answers := bufio.NewReader(conn)
		for i := int(next.Add(1)) - 1; i < len(requests); i = int(next.Add(1)) - 1 {
			time.Sleep(due[i] - time.Since(began))
			if _, err := conn.Write(requests[i]); err != nil {
				return err
			}
			if err := readAnswer(answers); err != nil {
				return err
			}
			took[i] = time.Since(began) - due[i]
		}
		return nil
	}
	for range latencyConnections {
		wg.Go(func() { errs <- sendDue() })
	}
	wg.Wait()
	for range latencyConnections {
		if err := <-errs; err != nil {
			return 0, err
		}
	}
	slices.Sort(took)
	return took[len(took)*99/100], nil
}
