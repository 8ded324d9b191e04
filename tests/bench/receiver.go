package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	"github.com/pook/stripeonce/webhooks"
)

const (
	secret      = "whsec_bench"
	webhookPath = server.WebhookPath
	// The environment of a receiver's process, which runs this program.
	envReceiver = "BENCH_RECEIVER"
	envWorkload = "BENCH_WORKLOAD"
	envURL      = "BENCH_DATABASE_URL"
	// envProfile is the path prefix of a profile, such as /tmp/profile-. The receiver's name is appended.
	envProfile = "BENCH_PROFILE"
)

// The receivers that are compared.
const (
	byHand  = "by hand"
	ours    = "stripeonce"
	batched = "stripeonce, Batchable" // its handlers are
)

// runReceiver is a receiver's process.
func runReceiver(kind string) error {
	w := workloadNamed(os.Getenv(envWorkload))
	stopProfile, err := startProfile(kind + "-" + w.name)
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
	server.TuneGC() // for both, as a setting of the process
	if kind == byHand {
		byHand := &http.Server{Handler: handwritten(pool, secret, w.byHand), ReadHeaderTimeout: time.Minute}
		return byHand.Serve(listener)
	}
	r, err := newOwn(pool, w, kind == batched)
	if err != nil {
		return err
	}
	return server.New(r, quiet).Serve(context.Background(), listener)
}

// quiet is a logger that formats its output and discards it.
var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func newOwn(pool *pgxpool.Pool, w *workload, batch bool) (*webhooks.Receiver, error) {
	h := webhooks.NewHandlers()
	w.register(h, batch)
	return webhooks.New(pool, h, &webhooks.Config{Secrets: []string{secret}, Logger: quiet})
}

// startProfile writes a CPU profile, if envProfile is set.
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

// receiver is a receiver's process.
type receiver struct {
	addr string
	cmd  *exec.Cmd
}

func startReceiver(kind string, w *workload, databaseURL string, connections int) (*receiver, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), envReceiver+"="+kind, envWorkload+"="+w.name, fmt.Sprintf("%s=%s&pool_max_conns=%d", envURL, databaseURL, connections))
	return start(kind, cmd)
}

// start starts a receiver's process, which prints its address.
func start(kind string, cmd *exec.Cmd) (*receiver, error) {
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

// ticks is Linux's USER_HZ, the unit of times in /proc.
const ticks = 100

// cpuOf returns a process's processor time.
func cpuOf(pid int) (time.Duration, error) {
	fields, err := statOf(pid)
	if err != nil {
		return 0, err
	}
	return ticksOf(fields[utime : utime+2])
}

// cpuOfServer returns the processor time of a PostgreSQL server's processes, including those that have ended. It looks again
// if one ends meanwhile, such as autovacuum's: its time is then the server's.
func cpuOfServer(postmaster int) (total time.Duration, err error) {
	for range 10 {
		if total, err = cpuOfProcesses(postmaster); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return total, err
}

func cpuOfProcesses(postmaster int) (time.Duration, error) {
	fields, err := statOf(postmaster)
	if err != nil {
		return 0, err
	}
	total, err := ticksOf(fields[utime : utime+4])
	if err != nil {
		return 0, err
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", postmaster, postmaster))
	if err != nil {
		return 0, err
	}
	for _, child := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(child)
		if err != nil {
			return 0, err
		}
		used, err := cpuOf(pid)
		if err != nil {
			return 0, err
		}
		total += used
	}
	return total, nil
}

// utime is the index of the first processor time: the process's own in user and system mode, then those of its ended
// children.
const utime = 11

// statOf returns the fields of a process's stat after the name in parentheses.
func statOf(pid int) ([]string, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:])), nil
}

func ticksOf(fields []string) (time.Duration, error) {
	var sum int
	for _, field := range fields {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return time.Duration(sum) * time.Second / ticks, nil
}
