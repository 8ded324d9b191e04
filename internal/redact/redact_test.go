package redact

import "testing"

func TestSecrets(t *testing.T) {
	t.Parallel()
	for object, want := range map[string]string{
		`{"id":"pi_1","client_secret":"x"}`:                                           `{"id":"pi_1"}`,
		`{"id":"pi_1","client\u005fsecret":"x"}`:                                      `{"id":"pi_1"}`,
		`{"a":[{"secret":{"b":1}},2],"n":1.50}`:                                       `{"a":[{},2],"n":1.50}`,
		`{"latest_invoice":{"payment_intent":{"client_secret":"x","status":"ok"}}}`:   `{"latest_invoice":{"payment_intent":{"status":"ok"}}}`,
		`{"metadata":{"note":"my client_secret is safe","secrets":"2"},"é":"\u00e9"}`: `{"metadata":{"note":"my client_secret is safe","secrets":"2"},"é":"\u00e9"}`,
		``: ``,
	} {
		if got := Secrets([]byte(object)); string(got) != want {
			t.Errorf("%s becomes %s, want %s", object, got, want)
		}
	}
}
