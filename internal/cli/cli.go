// Package cli has what the commands share: exit codes, errors of wrong use, duration flags, and output as text and JSON.
package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pook/stripeonce/internal/nearest"
)

// The exit codes besides 0: a failure, and wrong use or a refusal.
const (
	ExitFailed = 1
	ExitUsage  = 2
)

// usageError marks wrong use.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usage returns an error of wrong use, which has exit code 2.
func Usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errReported is the error of a command that has already printed what failed.
var errReported = errors.New("reported")

// Reported returns an error that ends a command with exit code 1 and is not printed.
func Reported() error { return errReported }

// Execute runs a command with its own arguments, writes its error to standard error, and returns the exit code. A failed write to
// standard output is an error.
func Execute(ctx context.Context, root *cobra.Command) int {
	root.SilenceUsage, root.SilenceErrors = true, true
	out := NewChecked(root)
	root.SetOut(out)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = out.Err()
	}
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

// IgnoreBrokenPipe lets a command that writes to a database continue when the reader of its output has exited.
func IgnoreBrokenPipe() { signal.Ignore(syscall.SIGPIPE) }

// Strict turns flag errors of a command and its subcommands into errors of wrong use, with the most similar flag.
func Strict(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return Usage("%w%s\nsee '%s --help'", plain(err), meant(cmd, err), cmd.CommandPath())
	})
}

// plain replaces strconv's text in the error of a flag that takes a number.
func plain(err error) error {
	var number *strconv.NumError
	if !errors.As(err, &number) || errors.Is(number.Err, strconv.ErrRange) {
		return err
	}
	advice := "use a whole number, such as 10"
	switch number.Func {
	case "ParseBool":
		advice = "use true or false"
	case "ParseFloat":
		advice = "use a number, such as 10 or 2.5"
	}
	return explained{err, strings.Replace(err.Error(), number.Error(), advice, 1)}
}

// Args turns argument errors into errors of wrong use.
func Args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := check(cmd, given); err != nil {
			return Usage("%w\nsee '%s --help'", err, cmd.CommandPath())
		}
		return nil
	}
}

// meant suggests the flag most similar to an unknown one.
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

// HTTPURL returns an error of wrong use if the value of a flag is not an HTTP URL.
func HTTPURL(flag, value string) error {
	if u, err := url.Parse(value); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		if strings.Contains(value, "@") { // it may hold a password
			value = "…" + value[strings.LastIndexByte(value, '@'):]
		}
		return Usage("%s %q is not a URL such as http://127.0.0.1:4242/webhooks/stripe", flag, value)
	}
	return nil
}
