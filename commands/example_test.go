package commands_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/commands"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// An application's own program, with the operator's commands below "stripe": they run the handlers that its
// deliveries run.
func Example() {
	databaseURL := pgtest.ExamplePool().Config().ConnString() // os.Getenv("DATABASE_URL")
	openHost := func(ctx context.Context, _ bool) (*commands.Host, error) {
		pool, err := pgxpool.New(ctx, databaseURL)
		if err != nil {
			return nil, err
		}
		h := webhooks.NewHandlers()
		projection := subscriptions.Register(h, nil) // and what else the application registers
		key := os.Getenv("STRIPE_API_KEY")
		r, err := webhooks.New(pool, h, &webhooks.Config{
			Secrets: []string{"whsec_of_an_example"}, APIKey: key, Logger: slog.New(slog.DiscardHandler),
		})
		return &commands.Host{Pool: pool, Receiver: r, Projection: projection, APIKey: key, Close: pool.Close}, err
	}
	root := &cobra.Command{Use: "myapp"}
	root.AddCommand(commands.New(&commands.Config{Open: openHost}))

	root.SetArgs([]string{"stripe", "failures"}) // as in: myapp stripe failures
	root.SetOut(os.Stdout)
	code := commands.Execute(context.Background(), root)
	fmt.Println("exit code", code)
	// Output:
	// No failing events.
	// exit code 0
}
