package commands

import (
	"context"
	"strings"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/internal/eventtypes"
	"github.com/pook/stripeonce/internal/objecttypes"
	"github.com/pook/stripeonce/operations"
)

// hintTypes says on standard error which event types and patterns of --type match no known type. A type may be newer than the list, so
// they are not refused.
func hintTypes(out *cli.Output, patterns ...string) {
	for _, pattern := range patterns {
		if pattern != "" && !eventtypes.Matches(strings.TrimPrefix(pattern, "v1.")) {
			out.Hintf("--type %s matches no known type of Stripe's events%s\n", cli.OneLine(pattern), eventtypes.Meant(pattern))
		}
	}
}

// checkCustomer refuses the id of another object as a customer's. Old customers may have ids of any form.
func checkCustomer(id string) error {
	if object := objecttypes.OfID(id); object != "" && object != "customer" || strings.HasPrefix(id, "sub_") || strings.HasPrefix(id, "evt_") {
		return cli.Usage("--customer %s is not the id of a customer (cus_…)", cli.OneLine(id))
	}
	return nil
}

// hintCustomer says on standard error which of a customer's events a listing cannot have: those of objects that are not known.
func hintCustomer(ctx context.Context, out *cli.Output, o *operations.Operator, filter operations.EventFilter) error {
	if filter.Customer == "" {
		return nil
	}
	objects, err := o.CustomerObjects(ctx, filter)
	if err != nil {
		return err
	}
	customer := cli.OneLine(filter.Customer)
	if objects.Truncated {
		out.Hintf("%s has many objects: of each type, only the events of the newest %d are found\n", customer, operations.MaxCustomerObjects)
	}
	if others := len(objects.IDs) - 1; others == 0 {
		out.Hintf("no subscription and no mirrored object of %s is known: events about its other objects are not found\n", customer)
	} else {
		out.Hintf("found are the events of %s and of %s that are known: not those of objects that are not mirrored, or that do not name their customer\n",
			customer, plural(others, "object"))
	}
	return nil
}
