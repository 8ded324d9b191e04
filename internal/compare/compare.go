// Package compare compares stored subscriptions and mirrored objects with Stripe's. Package commands does so for `verify`, and the
// console for one object or one customer.
package compare

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/stripeapi"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// Config configures a comparison. Its fields without a comment are those of subscriptions.VerifyConfig and mirror.VerifyConfig.
type Config struct {
	Types

	Pool          *pgxpool.Pool
	Receiver      *webhooks.Receiver        // in whose transactions Fix stores objects
	Subscriptions *subscriptions.Projection // required with Fix, if subscriptions are among the types
	Mirror        *mirror.Projection

	APIKey     string
	APIBase    string
	APITimeout time.Duration
	AccountID  string
	Account    *string // "" is the receiver's own
	Accounts   []string
	Rate       int

	Only     string
	Customer string
	After    string // of another type than subscription it begins with the type and a space

	Fix         bool
	NoHooks     bool
	Gone, Force bool

	Each     func(mirror.Difference)
	Progress func(mirror.VerifyResult) // with the numbers of all types
	Logger   *slog.Logger
}

// Arguments returns the arguments of the record of the run, without those that are not set.
func (c *Config) Arguments() map[string]any {
	arguments := map[string]any{
		"types": c.Names(), "only": c.Only, "customer": c.Customer, "accounts": c.Accounts, "gone": c.Gone, "after": c.After,
	}
	if c.Account != nil {
		arguments["account"] = *c.Account
	}
	maps.DeleteFunc(arguments, func(_ string, value any) bool { return reflect.ValueOf(value).IsZero() })
	arguments["fix"] = c.Fix
	if c.Fix {
		arguments["hooks"] = !c.NoHooks
	}
	return arguments
}

// Run compares the subscriptions, and then the other types. The position of an interrupted run is empty unless After can continue it.
func (c *Config) Run(ctx context.Context) (mirror.VerifyResult, error) {
	var sum mirror.VerifyResult
	var failed []error
	ofMirror := strings.Contains(c.After, " ")
	if c.Types.Subscriptions && !ofMirror {
		of, err := subscriptions.Verify(ctx, c.Pool, c.ofSubscriptions())
		if sum = mirror.VerifyResult(of); err != nil {
			failed = append(failed, err)
		}
		if ctx.Err() != nil || sum.Position != "" {
			return sum, errors.Join(failed...)
		}
	}
	if len(c.Mirrored) == 0 {
		return sum, errors.Join(failed...)
	}
	of, err := mirror.Verify(ctx, c.Pool, c.ofMirror(sum))
	return plus(sum, of), errors.Join(append(failed, err)...)
}

func plus(a, b mirror.VerifyResult) mirror.VerifyResult {
	return mirror.VerifyResult{
		Checked: a.Checked + b.Checked, Drifted: a.Drifted + b.Drifted, Fixed: a.Fixed + b.Fixed, Unknown: a.Unknown + b.Unknown, Position: b.Position,
	}
}

func (c *Config) ofSubscriptions() *subscriptions.VerifyConfig {
	config := &subscriptions.VerifyConfig{
		APIKey: c.APIKey, APIBase: c.APIBase, APITimeout: c.APITimeout, Projection: c.Subscriptions, NoHooks: c.NoHooks, Gone: c.Gone, Force: c.Force,
		AccountID: c.AccountID, Account: c.Account, Accounts: c.Accounts, Rate: c.Rate, Only: c.Only, Customer: c.Customer, After: c.After, Logger: c.Logger,
	}
	if c.Account != nil && *c.Account == "" { // rows from before the receiver had an account's id have none
		config.Account = &c.AccountID
	}
	if c.Fix {
		config.Fix = c.Receiver
	}
	if c.Each != nil {
		config.Each = func(d subscriptions.Difference) {
			c.Each(mirror.Difference{Type: Subscription, ID: d.ID, Field: d.Field, Local: d.Local, Stripe: d.Stripe})
		}
	}
	if c.Progress != nil {
		config.Progress = func(of subscriptions.VerifyResult) { c.Progress(mirror.VerifyResult(of)) }
	}
	return config
}

// ofMirror configures the comparison of mirrored objects. before has the numbers of the subscriptions.
func (c *Config) ofMirror(before mirror.VerifyResult) *mirror.VerifyConfig {
	config := &mirror.VerifyConfig{
		Types: c.Mirrored, APIKey: c.APIKey, APIBase: c.APIBase, APITimeout: c.APITimeout, Projection: c.Mirror, NoHooks: c.NoHooks, Gone: c.Gone,
		Force: c.Force, AccountID: c.AccountID, Account: c.Account, Accounts: c.Accounts, Rate: c.Rate, Only: c.Only, Customer: c.Customer,
		Each: c.Each, Logger: c.Logger,
	}
	if strings.Contains(c.After, " ") {
		config.After = c.After
	}
	if c.Fix {
		config.Fix = c.Receiver
	}
	if c.Progress != nil {
		config.Progress = func(of mirror.VerifyResult) { c.Progress(plus(before, of)) }
	}
	return config
}

// KeyMode returns the mode of an API key, if the key shows it.
func KeyMode(key string) (livemode, known bool) { return stripeapi.Mode(key) }
