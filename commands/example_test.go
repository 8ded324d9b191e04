package commands_test

import (
	"context"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/commands"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// An application's own program, with the operator's commands below "stripe". They run the same handlers as its deliveries.
func Example() {
	openHost := func(ctx context.Context, _ bool) (*commands.Host, error) {
		pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
		if err != nil {
			return nil, err
		}
		h := webhooks.NewHandlers()
		projection := subscriptions.Register(h, nil) // and the application's other handlers
		key := os.Getenv("STRIPE_API_KEY")
		r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: webhooks.SplitSecrets(os.Getenv("STRIPE_WEBHOOK_SECRET")), APIKey: key})
		return &commands.Host{Pool: pool, Receiver: r, Projection: projection, APIKey: key, Close: pool.Close}, err
	}
	root := &cobra.Command{Use: "myapp"}
	root.AddCommand(commands.New(&commands.Config{Open: openHost}))
	os.Exit(commands.Execute(context.Background(), root))
}
