package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/webhooks"
)

const (
	memoryRounds = 3
	starts       = 11
)

// memory measures the receiver's memory with a thousand deliveries in flight, which a lock on the ledger blocks.
func (b *stand) memory() error {
	url, err := b.database(ours)
	if err != nil {
		return err
	}
	r, err := startReceiver(ours, projectionOnly, url, *connections)
	if err != nil {
		return err
	}
	defer r.stop()
	var held []float64
	for round := range memoryRounds {
		mib, err := b.hold(r, url, requests(uint64(4000+round), webhooks.DefaultMaxInFlight, projectionOnly)[:webhooks.DefaultMaxInFlight])
		if err != nil {
			return fmt.Errorf("memory: %w", err)
		}
		held = append(held, mib)
	}
	progress("memory with %d in flight, MiB: %.1f", webhooks.DefaultMaxInFlight, held)
	b.rows = append(b.rows, row{
		fmt.Sprintf("receiver's memory with %d deliveries in flight, MiB, the greatest of %d rounds", webhooks.DefaultMaxInFlight, memoryRounds), "",
		fmt.Sprintf("%.0f", slices.Max(held)), "", fmt.Sprintf("%.0f to %.0f", slices.Min(held), slices.Max(held)), "≤ 64, aim 40",
	})
	return nil
}

// hold returns the receiver's resident memory, in MiB, while all deliveries are blocked.
func (b *stand) hold(r *receiver, url string, list [][]byte) (mib float64, err error) {
	conn, err := pgx.Connect(b.ctx, url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(b.ctx))
	if _, err := conn.Exec(b.ctx, "BEGIN; LOCK TABLE stripe_webhook_events"); err != nil {
		return 0, err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := send(r.addr, list, len(list))
		sent <- err
	}()
	for began := time.Now(); time.Since(began) < 2*time.Second; time.Sleep(10 * time.Millisecond) { // well below the receiver's timeout
		now, err := residentOf(r.cmd.Process.Pid)
		if err != nil {
			return 0, err
		}
		mib = max(mib, now)
	}
	if _, err := conn.Exec(b.ctx, "COMMIT"); err != nil {
		return 0, err
	}
	return mib, <-sent
}

// residentOf returns a process's resident memory in MiB.
func residentOf(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, found := strings.CutPrefix(line, "VmRSS:"); found {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			return float64(kib) / 1024, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmRSS", pid)
}

// start measures the time from the start of the program's process until it reports ready.
func (b *stand) start() error {
	dir, err := os.MkdirTemp("", "stripeonce-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program := filepath.Join(dir, "stripeonce")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, "./cmd/stripeonce").CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	url, err := b.database(ours)
	if err != nil {
		return err
	}
	var took []float64
	for range starts {
		one, err := startOnce(program, url)
		if err != nil {
			return err
		}
		took = append(took, one)
	}
	progress("from start to ready, ms: %.1f", took)
	b.rows = append(b.rows, row{
		fmt.Sprintf("`serve` from start to ready, ms, median of %d", starts), "", fmt.Sprintf("%.0f", median(took)), "",
		fmt.Sprintf("%.0f to %.0f", slices.Min(took), slices.Max(took)), "≤ 200, aim 50",
	})
	return nil
}

func startOnce(program, url string) (ms float64, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	addr := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return 0, err
	}
	cmd := exec.Command(program, "serve", "--addr", addr)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+url, "STRIPE_WEBHOOK_SECRET="+secret)
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Signal(os.Interrupt) }()
	err = awaitReady(addr)
	return float64(time.Since(began).Microseconds()) / 1000, err
}

// awaitReady waits until a server reports ready.
func awaitReady(addr string) error {
	for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(time.Millisecond) {
		resp, err := http.Get("http://" + addr + "/readyz")
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("%s does not become ready", addr)
}
