package main

import (
	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/demo"
)

func newDemo() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show it at work on this machine: no account, no network",
		Long: `Starts a private PostgreSQL and the receiver, lets a simulated Stripe deliver the
life of a subscription with concurrent copies, and checks every row. It ends by
itself, with 0 only if everything held.`,
		Example: "  stripeonce demo\n  stripeonce demo --keep",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo.Run(cmd.Context(), demo.Config{Out: cmd.OutOrStdout(), Keep: keep})
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the receiver up until Ctrl-C")
	return cmd
}
