package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/internal/demo"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/wrong"
	"github.com/pook/stripeonce/stripesim"
)

func newDemo() *cobra.Command {
	f, config := &simulationFlags{}, demo.Config{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a local demo with simulated deliveries; needs no account and no network",
		Long: `Starts a private PostgreSQL and the receiver. A simulated Stripe delivers the events of
hundreds of subscriptions out of order and with duplicates, some of them concurrent, and
retries failed deliveries. Then the demo compares every row with the simulated Stripe's
objects. The exit code is 0 only if every check passes.

--keep leaves the receiver and its console running after the checks. It implies --billing,
so that the console has customers and invoices; --billing=false leaves them out.

--receiver delivers to a receiver with a typical mistake of handwritten receivers instead,
and shows the rows that the mistake breaks. Mistakes:
` + strings.Join(wrong.Names(), ", ") + `.`,
		Example: `  stripeonce demo
  stripeonce demo --storm wild --seed 7 --for 30s
  stripeonce demo --receiver last-writer-wins`,
		Args: f.args,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.billing = f.billing || config.Keep && config.Receiver == "" && !cmd.Flags().Changed(flagBilling)
			var err error
			if config.Simulation, err = f.simulation(); err != nil {
				return err
			}
			if config.Simulation.Storm.Thin != stripesim.SnapshotOnly && config.Receiver != "" {
				return cli.Usage("--thin and --receiver are mutually exclusive: these receivers do not handle thin events")
			}
			if _, err := wrong.Handler(config.Receiver, nil); config.Receiver != "" && err != nil {
				return cli.Usage("%w", err)
			}
			if err := pglocal.CheckVersion(config.Postgres); err != nil {
				return cli.Usage("--postgres: %w", err)
			}
			out := cli.NewChecked(cmd)
			config.Out, config.Progress, config.Repeat = out, cli.NewProgress(cmd), repeat(cmd, f.billing)
			err = errors.Join(demo.Run(cmd.Context(), config), out.Err())
			if errors.Is(err, demo.ErrDatabase) && !errors.Is(err, pglocal.ErrNoBinaries) && !errors.Is(err, pglocal.ErrDownload) {
				return fmt.Errorf("%w: to use a PostgreSQL of your own, run 'stripeonce serve' with %s", err, envDatabaseURL)
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&config.Keep, "keep", false, "keep the receiver running until Ctrl-C")
	f.add(flags)
	addPostgres(flags, &config.Postgres)
	flags.StringVar(&config.Receiver, "receiver", "", "deliver to a receiver with this `mistake` instead")
	return cmd
}

// repeat returns the command as it was called, without --keep.
func repeat(cmd *cobra.Command, billing bool) string {
	command := cmd.CommandPath()
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		if flag.Name != "keep" && flag.Name != flagBilling {
			command += " --" + flag.Name + "=" + strings.Trim(flag.Value.String(), "[]")
		}
	})
	if billing {
		command += " --" + flagBilling
	}
	return command
}
