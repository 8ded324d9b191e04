package entitlements

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/webhooks"
)

// Entitlement is one active entitlement of a customer: https://docs.stripe.com/api/entitlements/active-entitlement.
type Entitlement struct {
	ID        string // ent_…
	FeatureID string // feat_…
	// LookupKey is the feature's own name for use in code. It never changes.
	LookupKey string
}

// UnmarshalJSON decodes Stripe's object. The feature may be expanded.
func (e *Entitlement) UnmarshalJSON(text []byte) error {
	var o struct {
		ID        string          `json:"id"`
		LookupKey string          `json:"lookup_key"`
		Feature   json.RawMessage `json:"feature"`
	}
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	*e = Entitlement{ID: o.ID, LookupKey: o.LookupKey}
	var expanded struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(o.Feature, &e.FeatureID) != nil && json.Unmarshal(o.Feature, &expanded) == nil {
		e.FeatureID = expanded.ID
	}
	return nil
}

// Config configures Register. A nil Config is valid.
type Config struct {
	// OnChange is called for each change of a customer's entitlements, in the transaction that writes it and under the customer's
	// lock. An error rolls back the whole event, and Stripe retries. Optional.
	OnChange func(ctx context.Context, tx pgx.Tx, c Change) error
	// BatchOnChange declares that OnChange may run in a transaction with other events, under a savepoint: see webhooks.Batchable for
	// what that changes. Defaults to false.
	BatchOnChange bool
	// Refetch is mirror.RefetchNever to fetch nothing from Stripe. By default, all entitlements are fetched for each event if there is
	// an API key.
	Refetch mirror.Refetch
	// Logger receives a warning whenever a customer is stored as incomplete. Defaults to slog.Default().
	Logger *slog.Logger
}

// Change is one change of a customer's entitlements.
type Change struct {
	CustomerID string
	Account    string // empty: the receiver's own
	Livemode   bool
	Before     []Entitlement // nil on the first
	After      []Entitlement
	// Complete reports that After has all entitlements of the customer. If it has not, nothing is known of the others.
	Complete bool
	// Continues reports that Before and After are both complete, or that there was nothing before, so that Granted and Revoked are all
	// of the change. Otherwise, compare After with your own records.
	Continues bool
	Event     *webhooks.Event // the event that caused it; nil on an import
	// Imported reports that no event caused the change: an import or a comparison found Stripe's state.
	Imported bool
	// Reprocessed reports that an operator reprocesses Event, which took effect before (webhooks.Receiver.Reprocess). Before and After
	// are both the stored entitlements, which do not change.
	Reprocessed bool
}

// Granted returns the entitlements that are not in Before.
func (c *Change) Granted() []Entitlement { return without(c.After, c.Before) }

// Revoked returns the entitlements that are in Before and no longer in After. Of an incomplete After it is nil: those may be among
// the ones that are not known.
func (c *Change) Revoked() []Entitlement {
	if !c.Complete {
		return nil
	}
	return without(c.Before, c.After)
}

// without returns the entitlements to features that others are not to.
func without(all, others []Entitlement) (rest []Entitlement) {
	for _, e := range all {
		if !slices.ContainsFunc(others, func(o Entitlement) bool { return o.LookupKey == e.LookupKey }) {
			rest = append(rest, e)
		}
	}
	return rest
}

// Register keeps the active entitlements of customers. It panics if they are registered already, also by mirror.Register. The
// result is for mirror.VerifyConfig.Projection, commands.Host.Mirror and metrics.NewMirror.
func Register(h *webhooks.Handlers, config *Config) *mirror.Projection {
	if config == nil {
		config = &Config{}
	}
	mirrored := &mirror.Config{
		Types: mirror.Entitlements, BatchOnChange: config.BatchOnChange, Refetch: config.Refetch, Logger: config.Logger,
	}
	if config.OnChange != nil {
		mirrored.OnChange = func(ctx context.Context, tx pgx.Tx, c mirror.Change) error {
			change, err := changeOf(&c)
			if err != nil {
				return err
			}
			return config.OnChange(ctx, tx, *change)
		}
	}
	return mirror.Register(h, mirrored)
}

func changeOf(c *mirror.Change) (*Change, error) {
	after, err := active(c.After)
	if err != nil {
		return nil, err
	}
	change := &Change{
		CustomerID: c.After.CustomerID, Account: c.After.Account, Livemode: c.After.Livemode,
		After: after, Complete: c.After.Complete, Continues: c.After.Complete, Event: c.Event, Imported: c.Imported, Reprocessed: c.Reprocessed,
	}
	if c.Before != nil {
		change.Before, err = active(c.Before)
		change.Continues = c.Before.Complete && c.After.Complete
	}
	return change, err
}

// active returns the entitlements of a summary. A deleted customer has none.
func active(summary *mirror.Object) ([]Entitlement, error) {
	if summary.Deleted {
		return []Entitlement{}, nil
	}
	return Decode(summary.Object)
}

// Decode returns the entitlements of a summary, Stripe's object. Elements that are not entitlements are left out.
func Decode(summary json.RawMessage) ([]Entitlement, error) {
	all := []Entitlement{}
	var o struct {
		Entitlements struct {
			Data []json.RawMessage `json:"data"`
		} `json:"entitlements"`
	}
	if err := json.Unmarshal(summary, &o); err != nil {
		return nil, fmt.Errorf("the summary of a customer's entitlements: %w", err)
	}
	for _, element := range o.Entitlements.Data {
		var e Entitlement
		if json.Unmarshal(element, &e) == nil && e.LookupKey != "" {
			all = append(all, e)
		}
	}
	return all, nil
}
