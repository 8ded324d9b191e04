package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/operations"
)

// endpointFlags has the flags of the command endpoint.
type endpointFlags struct {
	settings
	url    string
	create string
	update bool
	operations.EndpointOptions
	account string
}

func (t *tree) endpoint() *cobra.Command {
	f := &endpointFlags{}
	cmd := &cobra.Command{
		Use:   "endpoint",
		Short: "Show, create or update the webhook endpoints at Stripe",
		Long: `Shows the webhook endpoints and event destinations that are configured at Stripe: status,
payload, API version, and which event types are missing there although they have a handler
here. The exit code is 1 if an endpoint is disabled or lacks a type. Requires STRIPE_API_KEY.

--create creates a webhook endpoint for a URL, or with --thin an event destination for thin
events. It prints the signing secret, which Stripe returns only once. --update enables an
endpoint and adds the missing types. It never removes a type that a handler's pattern
matches.` + t.aboutUnhandled(),
		Example: `  stripeonce endpoint --url https://example.com/webhooks/stripe
  stripeonce endpoint --create https://example.com/webhooks/stripe
  stripeonce endpoint --create https://example.com/webhooks/stripe --thin --connect
  stripeonce endpoint --url https://example.com/webhooks/stripe --update --dry-run`,
		Args: cli.Args(cobra.NoArgs),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.url, "url", "", "only endpoints with this `URL`, or the endpoint with this id (we_…, ed_…)")
	flags.StringVar(&f.create, "create", "", "create an endpoint for this `URL`")
	flags.BoolVar(&f.update, "update", false, "enable the endpoint, and add missing event types that have handlers")
	flags.BoolVar(&f.Thin, "thin", false, "with --create: create an event destination for thin events; without --create: show only event destinations for thin events")
	flags.BoolVar(&f.Connect, "connect", false, "with --create: deliver events of connected accounts; a webhook endpoint then delivers only these, an event destination (--thin) also the own account's")
	flags.StringVar(&f.APIVersion, "api-version", "", "with --create: the API `version` of the events (default: the account's)")
	flags.StringVar(&f.account, "account", "", "only endpoints of this connected `account` (default: the own account)")
	flags.BoolVar(&f.DryRun, "dry-run", false, "with --create or --update: only show what would change")
	t.addWhere(cmd, &f.settings, false)
	if here := flags.Lookup("here"); here != nil {
		here.Usage = "with --update: also remove types that have no handler in this program; only if no application uses the endpoint"
	}
	f.addAPI(cmd)
	out := cli.NewOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if f.create != "" && (f.update || f.url != "") {
			return cli.Usage("--create and --update or --url are mutually exclusive")
		}
		if f.DryRun && f.create == "" && !f.update {
			return cli.Usage("--dry-run requires --create or --update: without them nothing is changed")
		}
		if f.create == "" && (f.Connect || f.APIVersion != "") {
			return cli.Usage("--connect and --api-version require --create")
		}
		return t.workWith(cmd.Context(), false, func(host *Host) error {
			return t.endpoints(cmd.Context(), host, f, out.Of(cmd))
		})
	}
	return cmd
}

func (t *tree) aboutUnhandled() string {
	if t.Remote == nil {
		return " It\nremoves the types that have no handler."
	}
	return `

This program does not know the handlers of an application that uses the same endpoint. So
--update removes types without a handler here only with --here, which says that there is no
such application.`
}

func (t *tree) endpoints(ctx context.Context, host *Host, f *endpointFlags, out *cli.Output) error {
	o := operations.New(host.Pool, &operations.Config{
		APIKey: host.APIKey, APIBase: host.APIBase, APITimeout: f.apiTimeout, Account: f.account, AccountID: host.AccountID, Logger: t.Logger,
	})
	types := host.Receiver.Types()
	if f.create != "" {
		created, err := o.CreateEndpoint(ctx, types, f.create, f.EndpointOptions)
		if errors.Is(err, operations.ErrExists) {
			return cli.Usage("%w: update it with --url %s --update", err, f.create)
		}
		if err != nil {
			return err
		}
		return printEndpoint(out, created, f.verb("created"))
	}
	endpoints, err := o.Endpoints(ctx, types, f.url)
	if err != nil {
		return err
	}
	if f.Thin {
		endpoints = slices.DeleteFunc(endpoints, func(e operations.Endpoint) bool { return e.Payload != operations.PayloadThin })
	}
	if f.update {
		return t.updateEndpoint(ctx, o, types, endpoints, f, out)
	}
	return showEndpoints(out, endpoints, f.url)
}

func (f *endpointFlags) verb(done string) string {
	if f.DryRun {
		return "would be " + done
	}
	return done
}

func (t *tree) updateEndpoint(ctx context.Context, o *operations.Operator, types []string, endpoints []operations.Endpoint, f *endpointFlags, out *cli.Output) error {
	switch {
	case len(endpoints) == 0 && f.url != "":
		return fmt.Errorf("no webhook endpoint for %s exists at Stripe: create one with --create %s", f.url, f.url)
	case len(endpoints) == 0:
		return errors.New("no webhook endpoint exists at Stripe: create one with --create URL")
	case len(endpoints) > 1:
		var urls []string
		for i := range endpoints {
			urls = append(urls, endpoints[i].ID+" ("+cli.OneLine(endpoints[i].URL)+")")
		}
		return cli.Usage("there are several endpoints: choose one with --url, of %s", strings.Join(urls, ", "))
	}
	updated, err := o.UpdateEndpoint(ctx, types, &endpoints[0], t.Remote == nil || f.here, f.DryRun)
	if err != nil {
		return err
	}
	return printEndpoint(out, updated, f.verb("updated"))
}

func showEndpoints(out *cli.Output, endpoints []operations.Endpoint, url string) error {
	incomplete := 0
	for i := range endpoints {
		if !endpoints[i].Complete() {
			incomplete++
		}
		if err := printEndpoint(out, &endpoints[i], endpoints[i].Status); err != nil {
			return err
		}
	}
	switch {
	case len(endpoints) == 0 && url != "":
		return fmt.Errorf("no webhook endpoint for %s exists at Stripe: create one with --create %s", url, url)
	case len(endpoints) == 0:
		return errors.New("no webhook endpoint exists at Stripe: create one with --create URL")
	case incomplete > 0:
		return fmt.Errorf("%s disabled or incomplete: enable it and add the missing types with --update", plural(incomplete, "endpoint"))
	}
	return nil
}

func printEndpoint(out *cli.Output, e *operations.Endpoint, state string) error {
	if out.JSON {
		return out.Line(e)
	}
	where := e.URL
	if where == "" {
		where = e.Type
	}
	out.Printf("%s  %s  %s\n", cli.OneLine(where), e.ID, state)
	payload := "snapshot events of a webhook endpoint, in the version "
	switch {
	case e.Payload == operations.PayloadThin:
		payload = "thin events of an event destination"
	case e.Kind == operations.KindEventDestination:
		payload = "snapshot events of an event destination, in the version "
	}
	if e.Payload != operations.PayloadThin {
		payload += cmp.Or(e.APIVersion, "that is the account's default")
	}
	out.Printf("  %-12s %s\n  %-12s %s\n", "mode", mode(e.Livemode), "payload", cli.OneLine(payload))
	if len(e.EventsFrom) > 0 {
		out.Printf("  %-12s %s\n", "events from", cli.OneLine(strings.Join(e.EventsFrom, ", ")))
	}
	printTypes(out, "delivers", e.EnabledEvents)
	printTypes(out, "missing", e.Missing)
	printTypes(out, "unhandled", e.Unhandled)
	if e.Secret != "" {
		out.Printf("  %-12s %s\n  It is not shown again: give it to the receiver, STRIPE_WEBHOOK_SECRET. If other endpoints\n  deliver there, too, add it to theirs, separated by a comma.\n", "secret", e.Secret)
	}
	return nil
}

func printTypes(out *cli.Output, name string, types []string) {
	for _, one := range types {
		out.Printf("  %-12s %s\n", name, cli.OneLine(one))
		name = ""
	}
}
