package commands

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/internal/compare"
	"github.com/pook/stripeonce/internal/objecttypes"
	"github.com/pook/stripeonce/mirror"
)

// objectTypes are the types of objects that a command compares.
type objectTypes struct {
	compare.Types
	list []string // the flag
}

func (o *objectTypes) add(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&o.list, "type", nil, "only these object `types`, comma separated, such as subscription,invoice, or a group: billing, entitlements or all "+
		"(default: subscription and the types that the receiver mirrors)")
}

// check reads the flag.
func (o *objectTypes) check() error {
	var others []string
	for _, entry := range o.list {
		if strings.TrimSpace(entry) == compare.Subscription {
			o.Subscriptions = true
		} else {
			others = append(others, entry)
		}
	}
	var err error
	if o.Mirrored, err = mirror.ParseTypes(strings.Join(others, ",")); err != nil {
		return cli.Usage("--type: %w", err)
	}
	if err := objecttypes.Comparable(o.Mirrored); err != nil {
		return cli.Usage("--type: %w", err)
	}
	if len(o.list) > 0 && o.Empty() {
		return cli.Usage("--type names no type: use one such as subscription or invoice")
	}
	return nil
}

// only makes an object's type the only one: that of the flag, or that of its id.
func (o *objectTypes) only(id string) error {
	if len(o.list) > 0 {
		if n := len(o.Mirrored); n > 1 || n == 1 && o.Subscriptions {
			return cli.Usage("--only %s: --type must name exactly one type, the type of the object", id)
		}
		return nil
	}
	if strings.HasPrefix(id, "evt_") {
		return cli.Usage("--only %s is an event, and only objects are compared: 'events %s' shows it, and reconcile finds missing events", id, id)
	}
	of, known := compare.OfID(id)
	if !known {
		return cli.Usage("--only %s: the id does not show the type of the object: set --type", id)
	}
	o.Types = of
	return nil
}

// complete sets the types of a host where the flag names none.
func (o *objectTypes) complete(host *Host) {
	if o.Empty() {
		o.Types = compare.Of(host.Mirror)
	}
}

// ofCustomer leaves out the types that cannot be compared for one customer.
func (o *objectTypes) ofCustomer() error {
	all := o.Names()
	if o.Types = o.ByCustomer(); o.Empty() {
		return cli.Usage("--customer: Stripe has no list by customer of the type %s", strings.Join(all, ", "))
	}
	return nil
}

// noun is what is compared.
func (o *objectTypes) noun() string {
	if len(o.Mirrored) == 0 {
		return compare.Subscription
	}
	return "object"
}
