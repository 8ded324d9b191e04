package torture

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/server"
	"github.com/pook/stripeonce/internal/wrong"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// The environment of a receiver's process, which runs this test's program.
const (
	envReceiver = "TORTURE_RECEIVER" // its kind: one of kinds, or of package wrong
	envURL      = "TORTURE_DATABASE_URL"
	envAddr     = "TORTURE_ADDR"
	envAPI      = "TORTURE_API"
)

const (
	standard  = "stripeonce"
	batchable = "stripeonce, with Batchable handlers"
)

// kinds has the handlers and the configuration of each kind of receiver.
var kinds = map[string]struct {
	register  func(h *webhooks.Handlers, logger *slog.Logger)
	configure func(*webhooks.Config)
}{
	standard:          {register: registerStandard},
	batchable:         {register: registerBatchable},
	busy:              {register: registerBusy},
	oneSlowType:       {register: registerSlowType},
	stuckAtFirst:      {register: registerStuck, configure: func(c *webhooks.Config) { c.Timeout = 2 * time.Second }},
	failing:           {register: registerFailing},
	noHandler:         {register: func(*webhooks.Handlers, *slog.Logger) {}},
	otherMode:         {register: registerStandard, configure: func(c *webhooks.Config) { c.Mode = webhooks.ModeLive }},
	slowHandler:       {register: registerSlow},
	projectionAlone:   {register: registerProjection, configure: func(c *webhooks.Config) { c.MaxBatchSize = 1 }},
	projectionInBatch: {register: registerProjection, configure: func(c *webhooks.Config) { c.ConcurrentBatches = 1 }},
}

// mirrored are the types that receivers of the kinds standard and batchable mirror.
var mirrored = append(stripesim.BillingTypes(), mirror.Entitlements...)

// registerStandard registers the projections, and a handler with an effect that is not idempotent.
func registerStandard(h *webhooks.Handlers, logger *slog.Logger) {
	subscriptions.Register(h, &subscriptions.Config{Logger: logger})
	mirror.Register(h, &mirror.Config{Types: mirrored, Logger: logger})
	webhooks.On(h, "*", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *struct{}) error {
		_, err := tx.Exec(ctx, judge.Effect, ev.ID)
		return err
	})
}

// registerBatchable registers handlers like registerStandard's, whose events share transactions.
func registerBatchable(h *webhooks.Handlers, logger *slog.Logger) {
	subscriptions.Register(h, &subscriptions.Config{Logger: logger, BatchOnChange: true, OnChange: func(ctx context.Context, tx pgx.Tx, _ subscriptions.Change) error {
		_, err := tx.Exec(ctx, `SELECT $1::int`, 1)
		return err
	}})
	mirror.Register(h, &mirror.Config{Types: mirrored, Logger: logger})
	webhooks.On(h, "*", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *struct{}) error {
		_, err := tx.Exec(ctx, judge.Effect, ev.ID)
		return err
	}, webhooks.Batchable())
}

// runReceiver runs a receiver in this process.
func runReceiver(kind string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	pool, err := pgxpool.New(ctx, os.Getenv(envURL))
	if err != nil {
		return err
	}
	defer pool.Close()
	listener, err := net.Listen("tcp", os.Getenv(envAddr))
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	if _, known := kinds[kind]; !known {
		handler, err := wrong.Handler(kind, pool)
		if err != nil {
			return err
		}
		return http.Serve(listener, handler)
	}
	receiver, err := newReceiver(kind, pool, logger, os.Getenv(envAPI))
	if err != nil {
		return err
	}
	return server.New(receiver, logger).Serve(ctx, listener)
}

func newReceiver(kind string, pool *pgxpool.Pool, logger *slog.Logger, api string) (*webhooks.Receiver, error) {
	h := webhooks.NewHandlers()
	kinds[kind].register(h, logger)
	config := &webhooks.Config{Secrets: []string{hooktest.Secret}, Logger: logger, APIKey: "sk_test_of_the_torture", APIBase: api, ListRate: 1e6}
	if configure := kinds[kind].configure; configure != nil {
		configure(config)
	}
	return webhooks.New(pool, h, config)
}

// process is a receiver's process.
type process struct {
	t     *testing.T
	kind  string
	addr  string
	cmd   *exec.Cmd
	log   string // the log file
	ended chan struct{}
}

// start runs a receiver of a kind, and returns when it listens.
func (w *world) start(kind, databaseURL, addr string) *process {
	w.t.Helper()
	log := w.newLog()
	defer log.Close()
	p := &process{t: w.t, kind: kind, log: log.Name(), ended: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), envReceiver+"="+kind, envURL+"="+databaseURL, envAddr+"="+addr, envAPI+"="+w.api.URL)
	p.cmd.Stderr = log // a file and not a pipe, so that lines logged before a response are complete
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	found := make(chan string, 1)
	go func() {
		if lines.Scan() {
			found <- lines.Text()
		}
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	w.t.Cleanup(func() { p.kill() })
	select {
	case p.addr = <-found:
	case <-p.ended:
		w.t.Fatalf("the receiver ended:\n%s", p.text())
	case <-time.After(waitLimit):
		w.t.Fatal("the receiver does not start")
	}
	return p
}

// newLog creates the log file of a process.
func (w *world) newLog() *os.File {
	w.t.Helper()
	file, err := os.CreateTemp(w.logDir, "receiver-*.log")
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.logs = append(w.logs, file.Name())
	return file
}

// text returns the end of the process's log.
func (p *process) text() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-1<<20):])
}

func (p *process) url() string { return "http://" + p.addr + server.WebhookPath }

// kill kills the process with SIGKILL.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// terminate sends SIGTERM. The process must finish deliveries in flight and exit with 0.
func (p *process) terminate() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(waitLimit):
		p.t.Fatalf("after SIGTERM the receiver does not end:\n%s", p.text())
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.t.Errorf("after SIGTERM the receiver ends with %d:\n%s", code, p.text())
	}
}
