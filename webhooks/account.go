package webhooks

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/signing"
)

// Account is the account that Config.AccountFor finds for a request: a tenant's, with its own signing secrets and API key.
type Account struct {
	// ID is the account's id (acct_…), which its events get whatever their bodies say. Required.
	ID string
	// Secrets are the account's signing secrets, as Config.Secrets. Required.
	Secrets []string
	// APIKey is the account's key, as Config.APIKey. Optional.
	APIKey string
}

// errNoAccount reports a request for which Config.AccountFor knows no account. The response is 404.
var errNoAccount = errors.New("no account is configured for this URL")

// authenticate returns what verifies a request's signature, and the account if Config.AccountFor is set.
func (r *Receiver) authenticate(req *http.Request) (*signing.Verifier, *Account, error) {
	if r.config.AccountFor == nil {
		return r.verifier, nil, nil
	}
	account, err := r.config.AccountFor(req)
	switch {
	case err != nil:
		return nil, nil, fault.Unavailable(fmt.Errorf("look up the account (Config.AccountFor): %w", err))
	case account == nil:
		return nil, nil, errNoAccount
	}
	if err := account.validate(); err != nil {
		return nil, nil, fault.Unavailable(fmt.Errorf("webhooks.Account %.40q: %w", account.ID, err))
	}
	return signing.NewVerifier(account.Secrets, r.config.Tolerance), account, nil
}

func (a *Account) validate() error {
	if a.ID == "" {
		return errors.New("the ID is empty")
	}
	if err := storableText("the ID", a.ID); err != nil {
		return err
	}
	if err := signing.CheckSecrets(a.Secrets); err != nil {
		return fmt.Errorf("Secrets: %w", err) //nolint:staticcheck // a field's name
	}
	if err := signing.CheckAPIKey(a.APIKey); err != nil {
		return fmt.Errorf("APIKey: %w", err)
	}
	return nil
}

// of gives an event to the account, whatever its body says.
func (a *Account) of(ev *Event) {
	ev.Account, ev.context, ev.tenant = a.ID, "", a
}
