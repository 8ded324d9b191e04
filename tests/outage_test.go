package tests

import (
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/commands"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// outage is a host with an effect that is not idempotent, and its command tree.
type outage struct {
	*hooktest.Host
	projection *subscriptions.Projection
	apiURL     string
	broken     atomic.Bool
}

func (o *outage) handle(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *map[string]any) error {
	if o.broken.Load() {
		return errors.New("the deploy of Tuesday")
	}
	_, err := tx.Exec(ctx, judge.Effect, ev.ID)
	return err
}

// run runs a command of the host's own program.
func (o *outage) run(t *testing.T, args ...string) (code int, stdout string) {
	t.Helper()
	root := &cobra.Command{Use: "host"}
	root.AddCommand(commands.New(&commands.Config{Logger: hooktest.NoLog(), Open: func(context.Context, bool) (*commands.Host, error) {
		return &commands.Host{Pool: o.Pool, Receiver: o.Receiver, Projection: o.projection, APIKey: "sk_test_1", APIBase: o.apiURL}, nil
	}}))
	var out strings.Builder
	root.SetOut(&out)
	root.SetErr(os.Stderr)
	root.SetArgs(append([]string{"stripe"}, args...))
	return commands.Execute(t.Context(), root), out.String()
}

// Three days: on the first everything works, on the second the receiver is down, on the third a deploy has broken the
// handlers, and Stripe gives up. Two commands repair the rows, and no event takes effect twice.
func TestOutage(t *testing.T) {
	t.Parallel()
	account := stripesim.New(5, time.Now().Add(-80*time.Hour))
	api := stripesim.NewAPI(account)
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	o := &outage{apiURL: server.URL}
	h := webhooks.NewHandlers()
	o.projection = subscriptions.Register(h, nil)
	webhooks.On(h, "*", o.handle)
	o.Host = hooktest.New(t, h, func(c *webhooks.Config) { c.APIKey, c.APIBase = "sk_test_1", server.URL })
	pgtest.Exec(t, o.Pool, judge.EffectsTable)

	for range 20 {
		account.Subscribe(stripesim.VersionBasil)
	}
	day := func() (from int) {
		from = len(account.Events)
		for hour := range 24 {
			account.Wait(time.Hour)
			for i, sub := range account.Subscriptions {
				if (i+hour)%7 == 0 {
					sub.Step((i*13 + hour*31) % 100)
				}
			}
		}
		return from
	}
	day()
	good := len(account.Events)
	for _, ev := range account.Events {
		o.Expect(t, ev.Body, 200, webhooks.OutcomeProcessed)
	}
	day()
	broken := day()
	o.broken.Store(true)
	for _, ev := range account.Events[broken:] {
		o.Expect(t, ev.Body, 500, "")
		o.Expect(t, ev.Body, 500, "")
	}
	lost, failing := broken-good, len(account.Events)-broken
	if lost < 20 || failing < 20 {
		t.Fatalf("only %d events are lost and %d are failing", lost, failing)
	}

	// While the handlers are broken, reconcile repairs nothing and loses nothing.
	if code, out := o.run(t, "reconcile", "--since", "4d", "--json"); code != 1 || !strings.Contains(out, `"applied":0`) {
		t.Errorf("with broken handlers reconcile exits %d: %s", code, out)
	}
	o.broken.Store(false)
	if code, out := o.run(t, "replay", "--all-failed"); code != 0 {
		t.Errorf("replay exits %d: %s", code, out)
	}
	if code, out := o.run(t, "reconcile", "--since", "4d"); code != 0 || !strings.Contains(out, " 0 missing") {
		t.Errorf("reconcile exits %d: %s", code, out)
	}
	for _, ev := range account.Events { // Stripe's last attempts, and a resend of every event
		o.Expect(t, ev.Body, 200, webhooks.OutcomeDuplicate)
	}
	if code, out := o.run(t, "failures"); code != 0 || out != "No failing events.\n" {
		t.Errorf("failures exits %d: %s", code, out)
	}
	if code, out := o.run(t, "verify"); code != 0 {
		t.Errorf("verify exits %d: %s", code, out)
	}
	findings, err := judge.Judge(t.Context(), o.Pool, account)
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range findings {
		t.Error(finding)
	}
}
