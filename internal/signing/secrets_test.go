package signing

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for value, want := range map[string][]string{
		" whsec_new,whsec_old\n,":  {"whsec_new", "whsec_old", ""},
		"whsec_1\n":                {"whsec_1"},
		"whsec_1\r\nb=whsec_2\r\n": {"whsec_1", "b=whsec_2"},
		"":                         {""},
		"a,\nb\n\nc":               {"a", "b", "c"},
	} {
		if diff := cmp.Diff(want, Split(value)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", value, diff)
		}
	}
	for entry, want := range map[string][2]string{
		"new-2026=whsec_1": {"new-2026", "whsec_1"},
		"whsec_1":          {"", "whsec_1"},
		"whsec_MfKQ9r8==":  {"", "whsec_MfKQ9r8=="},
		"other=secret":     {"", "other=secret"},
	} {
		if label, secret := CutLabel(entry); label != want[0] || secret != want[1] {
			t.Errorf("%q is taken apart to %q, %q", entry, label, secret)
		}
	}
}

func TestCheckSecrets(t *testing.T) {
	t.Parallel()
	const real1, real2 = "whsec_q3Xzc0p1YourPLwRtYxo2Todo9kTg5Ab", "whsec_5f1e0f2c1f4d4c0c8d9f3a8e7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b8c"
	for _, c := range []struct {
		secrets string
		want    string // "": they are fine
	}{
		{real1, ""},
		{"new=" + real1 + ",old=" + real2, ""},
		{real1 + ",whsec_test,whsec_of_a_test", ""},
		{"", "secret 1 is empty"},
		{real1 + ",", "secret 2 is empty"},
		{"old=" + real1 + ",old=" + real2, `secret 2 has the label "old", as secret 1 has`},
		{"2=" + real1 + "," + real2, `secret 2 has the label "2"`},
		{"a=" + real1 + ",b=" + real1, "secret 2 is the same as secret 1"},
		{"sk_test_4eC39HqLyjWD", "secret 1 is a secret API key"},
		{"we_1EkW", "secret 1 is the id of an endpoint"},
		{`"whsec_q3Xzc0p1"`, "secret 1 has quotes around it"}, {"'" + real1 + "'," + real2, "secret 1 has quotes around it"},
		{`new="whsec_q3Xzc0p1"`, "secret 1 has quotes around it"}, {"whsec_a whsec_b", "secret 1 contains several"}, {"whsec_a;whsec_b", "secret 1 contains several"},
		{"whsec_", "placeholder"}, {"whsec_…", "placeholder"}, {"whsec_...", "placeholder"}, {"whsec_xxxxxxxx", "placeholder"},
		{"whsec_your_signing_secret", "placeholder"}, {"whsec_replace_me", "placeholder"}, {"changeme", "placeholder"},
		{"<whsec_secret>", "placeholder"}, {"<your secret>", "placeholder"}, {"${STRIPE_WEBHOOK_SECRET}", "placeholder"}, {"new=whsec_***", "placeholder"},
	} {
		err := CheckSecrets(Split(c.secrets))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q gives %v, want %q", c.secrets, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "q3Xzc") {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
}

func TestCheckAPIKey(t *testing.T) {
	t.Parallel()
	const private = "51NvKoKIGBnsLynRr"
	for _, c := range []struct {
		key  string
		want string // "": it is fine
	}{
		{"", ""}, {" \n", ""},
		{"sk_test_" + private, ""}, {"rk_live_" + private, ""}, {"sk_org_live_" + private, ""}, {"sk_test_123", ""}, {private, ""}, // the oldest have no prefix
		{"sk_test_" + private + "\n", ""}, {"\t sk_test_" + private + "\r\n", ""},
		{`"sk_test_` + private + `"`, "quotes"}, {"'sk_test_" + private + "'\n", "quotes"}, {"“sk_test_" + private + "”", "quotes"}, {"`sk_test_" + private, "quotes"},
		{"Bearer sk_test_" + private, "Bearer"}, {"bearer  sk_test_" + private, "Bearer"}, {"Bearer", "Bearer"}, {"Authorization: Bearer sk_test_" + private, "Bearer"},
		{"pk_test_" + private, "publishable key"}, {"whsec_" + private, "signing secret"}, {"we_" + private, "id of a webhook endpoint"},
		{"acct_" + private, "begins with acct_"}, {"cus_" + private, "begins with cus_"}, {"price_" + private, "begins with price_"},
		{"ek_live_" + private, "begins with ek_"}, {"SK_TEST_" + private, "begins with SK_"},
		{"sk_test_" + private + " ", ""}, {"sk_test_51Nv KoKIGBnsLynRr", "white space"}, {"sk_test_" + private + "\nsk_live_" + private, "white space"},
		{"sk_test_" + private + ",sk_live_" + private, "letters, digits"}, {"sk_test_" + private + ":", "letters, digits"}, {"\ufeffsk_test_" + private, "letters, digits"},
		{"sk_test_" + private + "\x00", "letters, digits"}, {"STRIPE_API_KEY=sk_test_" + private, "letters, digits"},
		{"sk_test_…", "placeholder"}, {"sk_test_...", "placeholder"}, {"sk_live_xxxxxxxx", "placeholder"}, {"sk_test_", "placeholder"}, {"sk_", "placeholder"},
		{"rk_live_your_key", "placeholder"}, {"sk_test_your-key", "placeholder"}, {"changeme", "placeholder"}, {"sk_test_***", "placeholder"}, {"<key>", "placeholder"},
		{"${STRIPE_API_KEY}", "placeholder"}, {"sk_test_51Nv...nRr", "placeholder"}, {"your_api_key", "placeholder"},
	} {
		err := CheckAPIKey(c.key)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q gives %v, want %q", c.key, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), private[:4]) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%q: the error shows the key: %v", c.key, err)
		}
	}
}
