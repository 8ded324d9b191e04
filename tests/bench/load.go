package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/pook/stripeonce/internal/eventtypes"
	"github.com/pook/stripeonce/internal/signing"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// requests returns signed deliveries of a new account's events as HTTP requests. Each receiver gets the same requests. They
// are prepared in advance, so that signing does not count.
func requests(seed uint64, subscriptions int, w *workload) [][]byte {
	account := stripesim.New(seed, stripesim.Epoch)
	account.Billing = w.billing
	account.Live(stripesim.Life{Subscriptions: subscriptions})
	var list [][]byte
	for _, ev := range account.Events {
		if !slices.ContainsFunc(w.types, func(pattern string) bool { return eventtypes.PatternMatches(pattern, ev.Type) }) {
			continue
		}
		list = append(list, fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\nStripe-Signature: %s\r\n\r\n%s",
			webhookPath, len(ev.Body), signing.Sign(ev.Body, secret), ev.Body))
	}
	return list
}

// eventsOf returns the events of requests.
func eventsOf(requests [][]byte) (events []*webhooks.Event, err error) {
	for _, request := range requests {
		_, body, _ := bytes.Cut(request, []byte("\r\n\r\n"))
		ev, err := webhooks.ParseEvent(body)
		if err != nil {
			return nil, err
		}
		events = append(events, ev)
	}
	return events, nil
}

// send sends every request over a number of connections, each of which waits for its responses. It returns the duration.
func send(addr string, requests [][]byte, connections int) (time.Duration, error) {
	var wg sync.WaitGroup
	errs := make(chan error, connections)
	began := time.Now()
	for i := range connections {
		wg.Go(func() { errs <- sendEvery(addr, requests, i, connections) })
	}
	wg.Wait()
	took := time.Since(began)
	for range connections {
		if err := <-errs; err != nil {
			return 0, err
		}
	}
	return took, nil
}

// sendEvery sends every step-th request, beginning with first.
func sendEvery(addr string, requests [][]byte, first, step int) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	answers := bufio.NewReader(conn)
	for i := first; i < len(requests); i += step {
		if _, err := conn.Write(requests[i]); err != nil {
			return err
		}
		if err := readAnswer(answers); err != nil {
			return err
		}
	}
	return nil
}

// readAnswer reads a response with little work, since the load shares the machine with the receiver.
func readAnswer(from *bufio.Reader) error {
	line, err := from.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.Contains(line, []byte(" 200 ")) {
		return fmt.Errorf("a delivery was answered %s", line)
	}
	length := 0
	for {
		line, err := from.ReadSlice('\n')
		if err != nil {
			return err
		}
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(": "))
		if len(name) == 0 {
			_, err := from.Discard(length)
			return err
		}
		if bytes.Equal(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		}
	}
}
