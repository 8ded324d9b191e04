// Package cli is what the commands share: exit codes, wrong use, durations, and output for people and
// machines.
package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pook/stripeonce/internal/nearest"
)

// The exit codes beside 0: what failed, and wrong use or a refusal.
const (
	ExitFailed = 1
	ExitUsage  = 2
)

// usageError marks wrong use.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usage is an error of wrong use: exit code 2.
func Usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errReported is for a command that has said itself what failed.
var errReported = errors.New("reported")

// Reported ends a command with exit code 1 and without a further word.
func Reported() error { return errReported }

// Execute runs a command with its own arguments, writes what is amiss to its standard error, and returns
// the exit code.
func Execute(ctx context.Context, root *cobra.Command) int {
	root.SilenceUsage, root.SilenceErrors = true, true
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintf(root.ErrOrStderr(), "%s: %v\n", root.Name(), Explain(err))
	}
	var wrong usageError
	if errors.As(err, &wrong) || strings.HasPrefix(err.Error(), "unknown command") {
		return ExitUsage
	}
	return ExitFailed
}

// IgnoreBrokenPipe lets a command that writes to a database go on when nobody reads its output any more.
func IgnoreBrokenPipe() { signal.Ignore(syscall.SIGPIPE) }

// Strict makes wrong flags of a command, and of those below it, wrong use, and names the flag that was meant.
func Strict(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return Usage("%w%s\nsee '%s --help'", err, meant(cmd, err), cmd.CommandPath())
	})
}

// Args makes wrong arguments wrong use.
func Args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := check(cmd, given); err != nil {
			return Usage("%w\nsee '%s --help'", err, cmd.CommandPath())
		}
		return nil
	}
}

// meant is the flag nearest to an unknown one.
func meant(cmd *cobra.Command, err error) string {
	_, unknown, found := strings.Cut(err.Error(), "unknown flag: --")
	if !found {
		return ""
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	name := nearest.Of(unknown, names, len(unknown)/2+1)
	if name == "" {
		return ""
	}
	return ": did you mean --" + name + "?"
}

// HTTPURL refuses what is no URL of a route.
func HTTPURL(flag, value string) error {
	if u, err := url.Parse(value); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return Usage("%s %q is not a URL such as http://127.0.0.1:4242/webhooks/stripe", flag, value)
	}
	return nil
}
