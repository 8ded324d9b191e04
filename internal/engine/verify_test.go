package engine

import "testing"

// An import keeps to four fifths of what Stripe permits in the key's mode. A key that does not show its mode counts as a sandbox's.
func TestRate(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config VerifyConfig
		want   int
	}{
		"a live key":               {VerifyConfig{Import: true, APIKey: "rk_live_1"}, 80},
		"a sandbox's key":          {VerifyConfig{Import: true, APIKey: "sk_test_1"}, 20},
		"a key that does not show": {VerifyConfig{Import: true, APIKey: "sk_org_1"}, 20},
		"chosen":                   {VerifyConfig{Import: true, APIKey: "sk_live_1", Rate: 7}, 7},
		"verify":                   {VerifyConfig{APIKey: "sk_live_1"}, 20},
	} {
		if got := c.config.rate(); got != c.want {
			t.Errorf("%s: %d requests a second, want %d", name, got, c.want)
		}
	}
}

// A position is read as it is shown.
func TestPosition(t *testing.T) {
	t.Parallel()
	for _, p := range []Position{{}, {ID: "sub_1"}, {Account: "acct_1", ID: "sub_1"}} {
		if got := ParsePosition(p.String()); got.Account != p.Account || got.ID != p.ID {
			t.Errorf("%q is read as %+v", p, got)
		}
	}
}
