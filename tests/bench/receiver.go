package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/server"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

const (
	secret      = "whsec_bench"
	webhookPath = server.WebhookPath
	// The environment of a receiver's process, which is this program once more.
	envReceiver = "BENCH_RECEIVER"
	envURL      = "BENCH_DATABASE_URL"
	// envProfile is where a profile goes, such as /tmp/profile-, to which the receiver's name is added.
	envProfile = "BENCH_PROFILE"
)

// The receivers that are compared.
const (
	byHand = "by hand"
	ours   = "stripeonce"
)

// runReceiver is a receiver's process.
func runReceiver(kind string) error {
	stopProfile, err := startProfile(kind)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	go func() {
		<-ctx.Done()
		stopProfile()
		os.Exit(0)
	}()
	pool, err := pgxpool.New(context.Background(), os.Getenv(envURL))
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	if kind == byHand {
		byHand := &http.Server{Handler: handwritten(pool, secret), ReadHeaderTimeout: time.Minute}
		return byHand.Serve(listener)
	}
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	h := webhooks.NewHandlers()
	subscriptions.Register(h, &subscriptions.Config{Logger: logger})
	r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: []string{secret}, Logger: logger})
	if err != nil {
		return err
	}
	return server.New(r, logger).Serve(context.Background(), listener)
}

// startProfile writes a profile of the processor's time, if one is wanted.
func startProfile(kind string) (stop func(), err error) {
	prefix := os.Getenv(envProfile)
	if prefix == "" {
		return func() {}, nil
	}
	file, err := os.Create(prefix + strings.ReplaceAll(kind, " ", "-"))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = file.Close()
	}, nil
}

// receiver is a receiver's process as the bench sees it.
type receiver struct {
	addr string
	cmd  *exec.Cmd
}

func startReceiver(kind, databaseURL string) (*receiver, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), envReceiver+"="+kind, envURL+"="+databaseURL)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("the receiver %s does not start: %w", kind, err)
	}
	return &receiver{strings.TrimSpace(line), cmd}, nil
}

func (r *receiver) stop() {
	_ = r.cmd.Process.Signal(os.Interrupt)
	_ = r.cmd.Wait()
}

// ticks is Linux's USER_HZ, in which /proc counts.
const ticks = 100

// cpu is the processor time that the process has used.
func (r *receiver) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(r.cmd.Process.Pid), "stat"))
	if err != nil {
		return 0, err
	}
	// The fields after the name in parentheses, of which utime is the 12th and stime the 13th.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return time.Duration(user+system) * time.Second / ticks, err
}
