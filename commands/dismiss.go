package commands

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/operations"
)

func (t *tree) dismiss() *cobra.Command {
	var reason, state string
	filter := operations.FailureFilter{}
	cmd := &cobra.Command{
		Use:   "dismiss {EVENT…|--group KEY} --reason TEXT",
		Short: "Record that failed events need not be applied",
		Long: `Records that failed or parked events need not be applied, and why. The ledger then lists them
as parked: deliveries, reconcile, 'replay --all-failed' and retries skip them, and they no
longer count as failing. 'replay EVENT' still applies such an event. The command refuses an
event that has taken effect or has no failure record.

--group dismisses all failing and parked events of a group. 'failures --group KEY' lists them
first. Events that fail after the command started are not dismissed. If the command is
interrupted, run it again. 'runs' shows its record.`,
		Example: `  stripeonce failures dismiss evt_1NvKoKIGBnsLynRr --reason "refunded by hand, ticket 4711"
  stripeonce failures dismiss --group 5c1f0b8a92de --reason "the plan was withdrawn, ticket 4712"
  stripeonce failures --state dismissed`,
		Args: func(cmd *cobra.Command, ids []string) error {
			if filter.Group == "" {
				if len(ids) == 0 {
					return cli.Usage("name the events to dismiss, or a group with --group\nsee '%s --help'", cmd.CommandPath())
				}
				return nil
			}
			if len(ids) > 0 {
				return cli.Usage("events and --group are mutually exclusive: name events, or a group")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "a `text` that says why the events need not be applied; required")
	cmd.Flags().StringVar(&filter.Group, "group", "", "all events of the group with this `key`; 'failures --group' lists the keys")
	cmd.Flags().StringVar(&state, "state", "", "with --group: only events of this `state`: failing or parked")
	cmd.Flags().StringVar(&filter.Account, "account", "", "with --group: only events of this `account`")
	out := cli.NewOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		if strings.TrimSpace(reason) == "" {
			return cli.Usage("--reason is missing: say why the events need not be applied")
		}
		filter.State = operations.FailureState(state)
		switch {
		case filter.Group == "" && (state != "" || filter.Account != ""):
			return cli.Usage("--state and --account require --group")
		case state != "" && filter.State != operations.StateFailing && filter.State != operations.StateParked:
			return cli.Usage("--state %q: use failing or parked", state)
		}
		cli.IgnoreBrokenPipe()
		return t.work(cmd.Context(), func(host *Host) error {
			if filter.Group != "" {
				return dismissGroup(cmd, operations.New(host.Pool, nil), out.Of(cmd), filter, reason)
			}
			return dismiss(cmd, operations.New(host.Pool, nil), out.Of(cmd), ids, reason)
		})
	}
	return cmd
}

// dismissedLine is the JSON of a dismissed event.
type dismissedLine struct {
	EventID string                  `json:"event_id"`
	State   operations.FailureState `json:"state,omitempty"`
	Error   string                  `json:"error,omitempty"`
}

// dismissGroup dismisses the events of a group. What is no longer failing is no error.
func dismissGroup(cmd *cobra.Command, o *operations.Operator, out *cli.Output, filter operations.FailureFilter, reason string) error {
	var written error
	sum, err := o.DismissGroup(cmd.Context(), filter, operations.DismissGroupOptions{Reason: reason, Each: func(id string, err error) {
		if failed := printDismissed(out, id, err); written == nil {
			written = failed
		}
	}})
	if err != nil {
		return err
	}
	out.Printf("%s\n", dismissedText(sum, filter))
	return written
}

func dismissedText(sum operations.DismissGroupResult, filter operations.FailureFilter) string {
	if sum == (operations.DismissGroupResult{}) {
		return noFailures(filter)
	}
	text := plural(sum.Dismissed, "event") + " dismissed"
	if sum.Skipped > 0 {
		text += fmt.Sprintf(", %d skipped that no longer fail for this reason", sum.Skipped)
	}
	return text
}

// printDismissed prints an event that was dismissed, or the error because of which it was not.
func printDismissed(out *cli.Output, id string, err error) error {
	line, text := dismissedLine{EventID: id, State: operations.StateDismissed}, "dismissed"
	if err != nil {
		line.State, line.Error = "", cli.Explain(err).Error()
		text = cli.OneLine(line.Error)
	}
	out.Printf("%s  %s\n", cli.OneLine(id), text)
	if out.JSON {
		return out.Line(line)
	}
	return nil
}

// dismiss dismisses one event after the other. A refused one does not stop it.
func dismiss(cmd *cobra.Command, o *operations.Operator, out *cli.Output, ids []string, reason string) error {
	var first, written error
	refused := 0
	for _, id := range ids {
		err := o.Dismiss(cmd.Context(), id, reason)
		if err != nil {
			refused++
		}
		if first == nil {
			first = err
		}
		if failed := printDismissed(out, id, err); written == nil {
			written = failed
		}
		if err != nil && !errors.Is(err, operations.ErrRefused) {
			return err
		}
	}
	if first != nil && len(ids) > 1 {
		first = fmt.Errorf("%d of %d events not dismissed, the first: %w", refused, len(ids), first)
	}
	if first != nil {
		return first
	}
	return written
}
