package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/internal/demo"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/wrong"
	"github.com/pook/stripeonce/stripesim"
)

func newDemo() *cobra.Command {
	config, thin := demo.Config{}, ""
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a demonstration on this machine, without an account or network",
		Long: `Starts a private PostgreSQL and the receiver. A simulated Stripe delivers the events of
hundreds of subscriptions out of order and with duplicates, some at the same instant,
and retries failed deliveries. Then every row is compared with Stripe's truth. The exit
code is 0 only if every check holds.

--receiver delivers to an incorrect receiver instead, with a typical mistake of handwritten
receivers, to show its effect on the rows: ` + strings.Join(wrong.Names(), ", ") + `.`,
		Example: `  stripeonce demo
  stripeonce demo --storm wild --seed 7 --for 30s
  stripeonce demo --receiver last-writer-wins`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := stripesim.NamedStorm(config.Storm); err != nil {
				return cli.Usage("%w", err)
			}
			if config.Subscriptions < 1 {
				return cli.Usage("--subscriptions must be at least 1")
			}
			if config.For < 0 {
				return cli.Usage("--for must not be negative")
			}
			switch config.Thin = stripesim.Thin(thin); {
			case config.Thin != stripesim.SnapshotOnly && config.Thin != stripesim.ThinOnly && config.Thin != stripesim.ThinAndTwin:
				return cli.Usage("--thin=%s: use only or both", thin)
			case config.Thin != stripesim.SnapshotOnly && config.Receiver != "":
				return cli.Usage("--thin and --receiver are mutually exclusive: these receivers know no thin events")
			}
			if _, err := wrong.Handler(config.Receiver, nil); config.Receiver != "" && err != nil {
				return cli.Usage("%w", err)
			}
			if err := pglocal.CheckVersion(config.Postgres); err != nil {
				return cli.Usage("--postgres: %w", err)
			}
			config.Out = cmd.OutOrStdout()
			config.Live = config.Out == os.Stdout && term.IsTerminal(int(os.Stdout.Fd()))
			err := demo.Run(cmd.Context(), config)
			if errors.Is(err, demo.ErrDatabase) && !errors.Is(err, pglocal.ErrNoBinaries) && !errors.Is(err, pglocal.ErrDownload) {
				return fmt.Errorf("%w: to use a PostgreSQL of your own, run 'stripeonce serve' with %s", err, envDatabaseURL)
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&config.Keep, "keep", false, "keep the receiver running until Ctrl-C")
	flags.Uint64Var(&config.Seed, "seed", demo.DefaultSeed, "the random `seed` of the simulated Stripe")
	flags.IntVar(&config.Subscriptions, "subscriptions", demo.DefaultSubscriptions, "the `number` of subscriptions in one wave")
	flags.DurationVar(&config.For, "for", 0, "deliver wave after wave for this `duration`, such as 30s")
	flags.StringVar(&config.Storm, "storm", demo.DefaultStorm, "the `storm` of deliveries: mild, default or wild")
	flags.StringVar(&thin, "thin", "", "deliver thin events, or with --thin=both each event in both `forms`; a quarter of connected accounts")
	flags.Lookup("thin").NoOptDefVal = string(stripesim.ThinOnly)
	addPostgres(flags, &config.Postgres)
	flags.StringVar(&config.Receiver, "receiver", "", "deliver to an incorrect receiver of this `kind`")
	return cmd
}
