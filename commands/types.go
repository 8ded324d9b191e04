package commands

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/mirror"
)

const subscriptionType = "subscription"

// objectTypes are the types of objects that a command compares.
type objectTypes struct {
	list []string // the flag

	subscriptions bool     // whether they are among the types
	mirrored      []string // the other types
}

func (o *objectTypes) add(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&o.list, "type", nil, "the `types` of objects, such as subscription,invoice, or the groups billing, entitlements and all "+
		"(default: subscription, and the types that the receiver mirrors)")
}

// check reads the flag.
func (o *objectTypes) check() error {
	var others []string
	for _, entry := range o.list {
		if strings.TrimSpace(entry) == subscriptionType {
			o.subscriptions = true
		} else {
			others = append(others, entry)
		}
	}
	var err error
	if o.mirrored, err = mirror.Types(strings.Join(others, ",")); err != nil {
		return cli.Usage("--type: %w", err)
	}
	if err := mirror.Comparable(o.mirrored); err != nil {
		return cli.Usage("--type: %w", err)
	}
	if len(o.list) > 0 && !o.subscriptions && len(o.mirrored) == 0 {
		return cli.Usage("--type names no type: use one such as subscription or invoice")
	}
	return nil
}

// only makes an object's type the only one: that of the flag, or that of its id.
func (o *objectTypes) only(id string) error {
	switch object := mirror.TypeOf(id); {
	case len(o.list) > 0:
		if n := len(o.mirrored); n > 1 || n == 1 && o.subscriptions {
			return cli.Usage("--only %s: --type must name its one type", id)
		}
	case object != "":
		o.mirrored = []string{object}
	case strings.HasPrefix(id, "sub_"):
		o.subscriptions = true
	default:
		return cli.Usage("--only %s: its type does not follow from its id: name it with --type", id)
	}
	return nil
}

// complete sets the types of a host where the flag names none. Types that Stripe's API does not have cannot be compared.
func (o *objectTypes) complete(host *Host) {
	if o.subscriptions || len(o.mirrored) > 0 {
		return
	}
	o.subscriptions = true
	o.mirrored = slices.DeleteFunc(host.Mirror.Types(), func(object string) bool { return mirror.Comparable([]string{object}) != nil })
}

// ofCustomer leaves out the types that cannot be compared for one customer.
func (o *objectTypes) ofCustomer() error {
	all := o.mirrored
	o.mirrored = slices.DeleteFunc(slices.Clone(all), func(object string) bool { return !mirror.ByCustomer(object) })
	if !o.subscriptions && len(o.mirrored) == 0 {
		return cli.Usage("--customer: Stripe has no list by customer of the type %s", strings.Join(all, ", "))
	}
	return nil
}

// names lists the types in the order in which they are compared.
func (o *objectTypes) names() []string {
	if o.subscriptions {
		return append([]string{subscriptionType}, o.mirrored...)
	}
	return o.mirrored
}

// noun is what is compared.
func (o *objectTypes) noun() string {
	if len(o.mirrored) == 0 {
		return subscriptionType
	}
	return "object"
}
