// Command stripeonce receives Stripe's webhook deliveries into PostgreSQL, each event exactly once, and has the commands of its
// operators.
//
//	stripeonce demo                   # everything on this machine, with a simulated Stripe
//	stripeonce serve                  # receives deliveries; needs DATABASE_URL and STRIPE_WEBHOOK_SECRET
//	stripeonce migrate                # creates the tables
//	stripeonce failures               # lists what failed
//
// "stripeonce help" lists all commands, and the repository's docs/configuration.md the environment variables.
package main

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"
	_ "time/tzdata" // TZ works where there are no files of time zones, such as in an image from scratch

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/commands"
	"github.com/pook/stripeonce/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := commands.Execute(ctx, newRoot())
	stop()
	os.Exit(code)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "stripeonce",
		Short: "Receive Stripe's webhook deliveries into PostgreSQL, each event exactly once",
		Long: `stripeonce receives Stripe's webhook deliveries and applies each event to PostgreSQL exactly
once, although Stripe delivers events more than once and out of order.

To see it at work, without an account or a network:
  stripeonce demo

Secrets are read only from the environment: DATABASE_URL, STRIPE_WEBHOOK_SECRET and
STRIPE_API_KEY, or from the files that DATABASE_URL_FILE, STRIPE_WEBHOOK_SECRET_FILE and
STRIPE_API_KEY_FILE name.`,
		Version:           thisBuild().String(),
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	cli.Strict(root)
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.AddCommand(newServe(), newDemo(), newSimulate(), newMigrate(), newSend(), newHealthcheck(), newVersion())
	root.AddCommand(operatorCommands()...)
	group(root)
	return root
}

// group lists the commands in the help by what they are for.
func group(root *cobra.Command) {
	for _, g := range []struct{ title, commands string }{
		{"Receive deliveries:", "serve migrate healthcheck endpoint"},
		{"Inspect events and failures:", "events failures runs"},
		{"Repair and import:", "replay reprocess reconcile verify backfill"},
		{"Delete data:", "prune erase"},
		{"Try and test:", "demo simulate send"},
	} {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, name := range strings.Fields(g.commands) {
			if cmd, _, err := root.Find([]string{name}); err == nil {
				cmd.GroupID = g.title
			}
		}
	}
}
