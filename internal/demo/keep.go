package demo

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/pook/stripeonce/internal/server"
	"github.com/pook/stripeonce/stripesim"
)

// leftFailing is how many events are left failing for the console: their first delivery fails and is not retried. Replay
// applies them.
const leftFailing = 3

// keep keeps the receiver running, with events to look at and failures to replay in the console.
func (d *demo) keep(ctx context.Context) error {
	if d.host.console != "" {
		if err := d.leaveFailing(ctx); err != nil {
			return err
		}
		d.printf("\nThe console: %s\n  user %s, password %s\n  Under Failures are %d events whose first delivery failed: press Replay.\n"+
			"  The events span two simulated years that end now. The overview's time from Stripe to effect is that of the last events.\n",
			d.host.console, server.ConsoleUser, d.host.password, leftFailing)
		if d.host.mirrors {
			d.printf("  Under Objects are the mirrored types: %s. A customer's page shows what belongs to the customer.\n", strings.Join(mirrored, ", "))
		}
	}
	d.printf("\nThe receiver is running at %s, its database at\n  %s\nDeliver to it with\n  STRIPE_WEBHOOK_SECRET=%s %s send --to %s FILE…\nCtrl-C ends both.\n",
		d.host.url, d.host.databaseURL, secret, os.Args[0], d.host.url)
	<-ctx.Done()
	return nil
}

func (d *demo) leaveFailing(ctx context.Context) error {
	once := &stripesim.Deliverer{URL: d.host.url, Secret: secret, Pauses: []time.Duration{}, API: d.host.api, Concurrency: 1}
	for {
		var events []*stripesim.Event
		d.host.api.Do(func(account *stripesim.Account) { events = subscribeNow(account) })
		for _, one := range stripesim.None.Plan(0, events) {
			if err := once.Deliver(ctx, []stripesim.Delivery{one}); err != nil {
				return err
			}
			if once.Report().GivenUp == leftFailing {
				return nil
			}
		}
	}
}

// subscribeNow returns the events of a subscription that begins now.
func subscribeNow(account *stripesim.Account) []*stripesim.Event {
	from := len(account.Events)
	account.Now = max(account.Now, time.Now().Unix())
	account.Subscribe(stripesim.VersionBasil).Activate()
	return account.Events[from:]
}
