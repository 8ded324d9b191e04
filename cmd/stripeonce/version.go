package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/buildinfo"
	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/schema"
)

// build is what version prints.
type build struct {
	buildinfo.Info
	Schema string `json:"schema_version"` // of the newest migration
}

func thisBuild() build {
	migrations := schema.Migrations()
	return build{buildinfo.Read(), migrations[len(migrations)-1].Version}
}

func (b build) String() string {
	return strings.TrimSuffix(b.Info.String(), ")") + ", schema " + b.Schema + ")"
}

func newVersion() *cobra.Command {
	var out *cli.Output
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print version information",
		Long:    "Prints the version and commit of stripeonce, the version of Go, and that of the newest migration.",
		Example: "  stripeonce version\n  stripeonce version --json",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out.Of(cmd).JSON {
				return out.Line(thisBuild())
			}
			out.Printf("stripeonce %s\n", thisBuild())
			return nil
		},
	}
	out = cli.NewOutput(cmd)
	return cmd
}
