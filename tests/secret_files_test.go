package tests

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
)

// The database's URL, the signing secret and the console's passwords come from files, as a container has them.
func TestSecretsFromFiles(t *testing.T) {
	t.Parallel()
	dir, url := t.TempDir(), pgtest.NewEmptyURL(t)
	database := "DATABASE_URL_FILE=" + write(t, 0o600, dir+"/database-url", url+"\n")
	env := environ(database, "STRIPE_WEBHOOK_SECRET=", "STRIPE_WEBHOOK_SECRET_FILE="+write(t, 0o600, dir+"/signing-secret", hooktest.Secret+"\n"),
		"CONSOLE_PASSWORD_FILE="+write(t, 0o600, dir+"/console", "correct-horse\r\n"))
	if r := run(t, env, "", "migrate"); r.code != 0 {
		t.Fatalf("migrate: %s", r)
	}
	s := serve(t, env)
	s.expect(t, subscriptionEvent("evt_1", 1700000000, "active"), 200, "processed")
	for password, want := range map[string]int{"correct-horse": 200, "correct-horse\r\n": 401, "": 401} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/console/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth("stripeonce", password)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("with the password %q the console answers %d, want %d", password, response.StatusCode, want)
		}
	}
	if r := run(t, env, "", "events", "--json"); r.code != 0 || !strings.Contains(r.stdout, `"evt_1"`) {
		t.Errorf("events: %s", r)
	}
	for _, c := range []start{
		{"both", []string{database, "DATABASE_URL=" + url}, "migrate status", "", 2, []string{"both DATABASE_URL and DATABASE_URL_FILE are set: unset one of them"}},
		{"no file", []string{"DATABASE_URL_FILE=" + dir + "/none"}, "migrate status", "", 2, []string{"DATABASE_URL_FILE: ", "no such file", "name a file that this user can read"}},
		{"an empty file", []string{"DATABASE_URL_FILE=" + write(t, 0o600, dir+"/empty", " \n")}, "migrate status", "", 2, []string{"DATABASE_URL_FILE is not set or empty", "write the secret into the file"}},
		{"not a URL", []string{"DATABASE_URL_FILE=" + write(t, 0o600, dir+"/wrong", "postgres://a:correct-horse@[")}, "events", "", 2, []string{"DATABASE_URL_FILE: "}},
		{"an empty password", []string{database, "STRIPE_WEBHOOK_SECRET=" + hooktest.Secret, "CONSOLE_PASSWORD_FILE=" + dir + "/empty"}, "serve", "", 2, []string{"CONSOLE_PASSWORD_FILE is not set or empty"}},
	} {
		c.expectSentence(t)
	}
}
