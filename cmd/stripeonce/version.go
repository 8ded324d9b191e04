package main

import (
	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/buildinfo"
	"github.com/pook/stripeonce/internal/cli"
)

func newVersion() *cobra.Command {
	var out *cli.Output
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version, the commit and the version of Go",
		Example: "  stripeonce version --json",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out.Of(cmd).JSON {
				return out.Line(buildinfo.Read())
			}
			out.Printf("stripeonce %s\n", buildinfo.Read())
			return nil
		},
	}
	out = cli.NewOutput(cmd)
	return cmd
}
