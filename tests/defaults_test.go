package tests

import (
	"testing"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/internal/stripeapi"
	"github.com/pook/stripeonce/internal/stripeobject"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
)

// The public constants, whose documentation shows their values, are those of the internal packages.
func TestConstants(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ public, internal any }{
		"operations.BackfillRateLive":         {operations.BackfillRateLive, engine.DefaultImportRateLive},
		"operations.BackfillRateSandbox":      {operations.BackfillRateSandbox, engine.DefaultImportRateSandbox},
		"operations.DefaultAPITimeout":        {operations.DefaultAPITimeout, stripeapi.BackgroundTimeout},
		"operations.DefaultAPIAttempts":       {operations.DefaultAPIAttempts, stripeapi.BackgroundAttempts},
		"subscriptions.DefaultVerifyTimeout":  {subscriptions.DefaultVerifyTimeout, engine.DefaultVerifyTimeout},
		"subscriptions.DefaultVerifyAttempts": {subscriptions.DefaultVerifyAttempts, engine.DefaultVerifyAttempts},
		"subscriptions.DefaultVerifyRate":     {subscriptions.DefaultVerifyRate, engine.DefaultVerifyRate},
		"subscriptions.RefetchAmbiguous":      {string(subscriptions.RefetchAmbiguous), string(engine.RefetchAmbiguous)},
		"subscriptions.RefetchAlways":         {string(subscriptions.RefetchAlways), string(engine.RefetchAlways)},
		"subscriptions.RefetchNever":          {string(subscriptions.RefetchNever), string(engine.RefetchNever)},
		"mirror.RefetchAmbiguous":             {string(mirror.RefetchAmbiguous), string(engine.RefetchAmbiguous)},
		"mirror.RefetchAlways":                {string(mirror.RefetchAlways), string(engine.RefetchAlways)},
		"mirror.RefetchNever":                 {string(mirror.RefetchNever), string(engine.RefetchNever)},
		"stripesim.DefaultTimeout":            {stripesim.DefaultTimeout, delivery.DefaultTimeout},
		"stripesim.VersionBeforeBasil":        {stripesim.VersionBeforeBasil, stripeobject.VersionBeforeBasil},
		"stripesim.VersionBasil":              {stripesim.VersionBasil, stripeobject.VersionBasil},
	} {
		if c.public != c.internal {
			t.Errorf("%s is %v, want %v", name, c.public, c.internal)
		}
	}
}
