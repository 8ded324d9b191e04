package tests

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
)

// start is a command that fails.
type start struct {
	name  string
	env   []string
	args  string
	stdin string
	code  int
	says  []string // what failed, why, and how to fix it
}

// expectSentence checks the exit code, and that standard error has one sentence after the lines of the log.
func (c start) expectSentence(t *testing.T) {
	t.Helper()
	t.Run(c.name, func(t *testing.T) {
		t.Parallel()
		r := run(t, environ(c.env...), c.stdin, strings.Fields(c.args)...)
		var sentences []string
		for line := range strings.Lines(r.stderr) {
			// Skip the log, the hint to --help, and commands on lines of their own.
			if !strings.HasPrefix(line, "time=") && !strings.HasPrefix(line, "see '") && !strings.HasPrefix(line, "  ") {
				sentences = append(sentences, line)
			}
		}
		if r.code != c.code || len(sentences) != 1 || !strings.HasPrefix(r.stderr[strings.Index(r.stderr, sentences[0]):], "stripeonce: ") {
			t.Errorf("want exit %d and one sentence, got %s", c.code, r)
		}
		for _, part := range c.says {
			if !strings.Contains(r.stderr, part) {
				t.Errorf("it does not say %q: %s", part, r)
			}
		}
		for _, never := range []string{"panic", "goroutine", ".go:", hooktest.Secret, "sk_test_private", "correct-horse"} {
			if strings.Contains(r.stdout+r.stderr, never) {
				t.Errorf("it shows %q: %s", never, r)
			}
		}
	})
}

// folder returns a folder that PostgreSQL's user can enter. It cannot enter t.TempDir if root runs the tests.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "stripeonce-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// write writes files, given as pairs of path and text, and returns the path of the last.
func write(t *testing.T, mode os.FileMode, pairs ...string) (path string) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		path = pairs[i]
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(pairs[i+1]), mode); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// brokenPostgres writes fake PostgreSQL programs, and returns a PATH that has them first.
func brokenPostgres(t *testing.T, initdb string) string {
	t.Helper()
	dir := folder(t)
	write(t, 0o755, dir+"/initdb", "#!/bin/sh\n"+initdb, dir+"/postgres", `#!/bin/sh
if [ "$1" = --version ]; then echo 'postgres (PostgreSQL) 15.1'; exit; fi
echo '2026-11-26 [1] FATAL:  could not map anonymous shared memory: Cannot allocate memory' >&2
echo '2026-11-26 [1] HINT:  This error usually means that there is not enough memory.' >&2
exit 1
`)
	return "PATH=" + dir + ":" + os.Getenv("PATH")
}

// installed makes the program use the installed PostgreSQL, or the one on $PATH, even if the tests use another.
const installed = pglocal.EnvVersion + "="

// The private PostgreSQL cannot start, for demo and for serve --local.
func TestStartWithoutPostgres(t *testing.T) {
	t.Parallel()
	const secret, own = "STRIPE_WEBHOOK_SECRET=" + hooktest.Secret, "a PostgreSQL of your own"
	fails := brokenPostgres(t, "echo 'initdb: error: could not create directory: No space left on device' >&2; exit 1\n")
	silent := brokenPostgres(t, "exit 3\n")
	dies := brokenPostgres(t, `for a in "$@"; do case "$a" in --pgdata=*) mkdir "${a#--pgdata=}" && echo 15 >"${a#--pgdata=}/PG_VERSION";; esac; done`)
	for _, c := range []start{
		{"initdb fails", []string{fails, installed}, "demo", "", 1, []string{"/initdb: exit status 1: could not create directory: No space left on device", own, "DATABASE_URL"}},
		{"initdb says nothing", []string{silent, installed}, "demo", "", 1, []string{"/initdb: exit status 3", own}},
		{"postgres dies", []string{dies, installed}, "demo", "", 1, []string{"postgres did not start: could not map anonymous shared memory", "not enough memory", own}},
		{"initdb fails", []string{secret, fails, installed}, "serve --local --data-dir " + folder(t) + "/a", "", 1, []string{"--local: ", "No space left on device", "--data-dir", own}},
		{"postgres dies", []string{secret, dies, installed}, "serve --local --data-dir " + folder(t) + "/a", "", 1, []string{"--local: postgres did not start: could not map", "--data-dir", own}},
	} {
		c.expectSentence(t)
	}
}

// PostgreSQL's programs are not installed. Hiding them in the usual folders requires a mount, which only root may do.
func TestStartWithoutPrograms(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may hide the folders of PostgreSQL's programs")
	}
	dir := folder(t)
	write(t, 0o755, dir+"/apt-get", "#!/bin/sh\n")
	const hide = "for d in /usr/lib/postgresql /usr/libexec /usr/local/opt; do if [ -d $d ]; then mount -t tmpfs none $d || exit 9; fi; done; PATH=$1; shift; exec \"$@\""
	for _, args := range []string{"demo", "serve --local --data-dir " + dir + "/pg"} {
		words := append([]string{"--mount", "sh", "-c", hide, "sh", dir, program}, strings.Fields(args)...)
		cmd := exec.CommandContext(t.Context(), "unshare", words...)
		cmd.Env = environ("STRIPE_WEBHOOK_SECRET="+hooktest.Secret, installed)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		err := cmd.Run()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() == 9 || strings.Contains(stderr.String(), "unshare failed") {
			t.Skipf("the folders of PostgreSQL's programs cannot be hidden here: %v %s", err, &stderr)
		}
		if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(stderr.String(), "(initdb, postgres) are not installed: install them with\n    sudo apt-get install -y postgresql") ||
			strings.Contains(stderr.String(), "panic") || strings.Count(stderr.String(), "\n") != 3 || !strings.Contains(stderr.String(), "\nor have npm download it, with --postgres 18") {
			t.Errorf("%s: exit %d: %s", args, code, &stderr)
		}
	}
}

// serve --local refuses an unsuitable folder, and changes neither its content nor its owner.
func TestStartInWrongFolder(t *testing.T) {
	t.Parallel()
	const secret = "STRIPE_WEBHOOK_SECRET=" + hooktest.Secret
	dir, version := folder(t), installedVersion(t)
	write(t, 0o644, dir+"/file", "", dir+"/other/notes.txt", "mine", dir+"/pgdata/PG_VERSION", "15\n", dir+"/nested/data/mine", "",
		dir+"/odd/data/PG_VERSION", "fifteen\n", dir+"/old/data/PG_VERSION", "9\n", dir+"/broken/data/PG_VERSION", version+"\n")
	before, err := os.Stat(dir + "/other")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // when every start has been tried
		after, err := os.Stat(dir + "/other")
		if err != nil || !os.SameFile(before, after) || after.Mode() != before.Mode() || ownerOf(after) != ownerOf(before) {
			t.Errorf("the folder that holds something else was %v and is %v, %v", before, after, err)
		}
		if text, err := os.ReadFile(dir + "/other/notes.txt"); err != nil || string(text) != "mine" {
			t.Errorf("the file in it is %q, %v", text, err)
		}
	})
	for name, c := range map[string]start{
		"file":     {code: 2, says: []string{"/file is a file", "--data-dir"}},
		"file/sub": {code: 1, says: []string{"not a directory", "--data-dir"}},
		"other":    {code: 2, says: []string{"holds something else (notes.txt)", "choose an empty folder with --data-dir"}},
		"pgdata":   {code: 2, says: []string{"is the data directory of another PostgreSQL", "--data-dir"}},
		"nested":   {code: 2, says: []string{"holds something else (data)", "--data-dir"}},
		"odd":      {code: 2, says: []string{"PG_VERSION holds no version", "--data-dir"}},
		"old":      {code: 1, says: []string{"not installed in version 9, which made this data directory", "install"}},
		"broken":   {code: 1, says: []string{"postgres did not start: ", "postgresql.conf", "--data-dir"}},
	} {
		c.name, c.env, c.args = name, []string{secret, installed}, "serve --local --data-dir "+dir+"/"+name
		c.expectSentence(t)
	}
	start{"of another version", []string{secret}, "serve --local --postgres 18 --data-dir " + dir + "/old", "", 1,
		[]string{"holds data of PostgreSQL 9, which the downloaded version 18 may not be able to read", "--data-dir"}}.expectSentence(t)
	start{"without --local", []string{secret, installed, "DATABASE_URL=postgres://127.0.0.1:1/x"}, "serve --postgres 18", "", 2,
		[]string{"--postgres requires --local"}}.expectSentence(t)
	start{"of no version", []string{secret}, "serve --local --postgres 8.4 --data-dir " + dir + "/new", "", 2,
		[]string{`--postgres: PostgreSQL "8.4" cannot be downloaded`, "use one of "}}.expectSentence(t)
	start{"cannot be made", []string{secret}, "serve --local --data-dir /proc/nowhere/at/all", "", 1, []string{"/proc/nowhere", "--data-dir"}}.expectSentence(t)
	start{"empty", []string{secret}, "serve --local --data-dir=", "", 2, []string{"--data-dir is empty"}}.expectSentence(t)
	if os.Geteuid() != 0 { // root may write anywhere
		if err := os.Mkdir(dir+"/closed", 0o500); err != nil {
			t.Fatal(err)
		}
		start{"closed", []string{secret}, "serve --local --data-dir " + dir + "/closed/a", "", 1, []string{"permission denied", "--data-dir"}}.expectSentence(t)
	}
}

// installedVersion returns the major version of the installed PostgreSQL.
func installedVersion(t *testing.T) string {
	t.Helper()
	bin, err := pglocal.FindBinaries("")
	if err != nil {
		t.Skip("PostgreSQL is not installed, but downloaded")
	}
	version, err := pglocal.MajorVersion(bin)
	if err != nil {
		t.Fatal(err)
	}
	return version
}

func TestStartOnTakenPort(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	taken, dir := listener.Addr().String(), folder(t)
	start{"a taken port", []string{"STRIPE_WEBHOOK_SECRET=" + hooktest.Secret}, "serve --local --data-dir " + dir + "/a --addr " + taken, "", 1,
		[]string{"listen on " + taken, "address already in use", "another program uses the port", "--addr (ADDR)"}}.expectSentence(t)
	start{"no address", []string{"STRIPE_WEBHOOK_SECRET=" + hooktest.Secret}, "serve --local --data-dir " + dir + "/b --addr nowhere", "", 1,
		[]string{"listen on nowhere", "missing port", "--addr (ADDR)"}}.expectSentence(t)
}

// The database cannot be connected to.
func TestStartWithoutDatabase(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	hba := write(t, 0o644, dir+"/hba.conf", "local all stripeonce trust\nlocal all nobody reject\nlocal all all scram-sha-256\n")
	cluster := pgtest.NewCluster(t, pglocal.Config{Disposable: true, Settings: map[string]string{
		"hba_file": hba, "password_encryption": "scram-sha-256", // PostgreSQL 13 has another default
	}})
	admin := pgtest.Connect(t, cluster.URL("postgres"))
	pgtest.Exec(t, admin, `CREATE ROLE app LOGIN PASSWORD 'battery-staple'`)
	pgtest.Exec(t, admin, `REVOKE CREATE ON SCHEMA public FROM PUBLIC`) // which everybody may before PostgreSQL 15
	pgtest.Exec(t, admin, `CREATE DATABASE closed CONNECTION LIMIT 0`)
	as := func(login, database string) string {
		return strings.Replace(cluster.URL(database), "stripeonce@", login+"@", 1)
	}
	connect := "failed to connect to `user="
	for _, c := range []struct {
		name, url string
		code      int
		says      []string
	}{
		{"refused", "postgres://u:correct-horse@127.0.0.1:1/x", 1, []string{connect, "connection refused", "is PostgreSQL running there? Check DATABASE_URL"}},
		{"no socket", "postgres:///x?host=/nonexistent", 1, []string{connect, "/nonexistent", "DATABASE_URL"}},
		{"unknown host", "postgres://u:correct-horse@nowhere.invalid/x", 1, []string{connect, "lookup nowhere.invalid", "check the host in DATABASE_URL"}},
		{"wrong password", as("app:correct-horse", "postgres"), 1, []string{connect, "password authentication failed", "check the user and the password in DATABASE_URL"}},
		{"rejected user", as("nobody", "postgres"), 1, []string{connect, "pg_hba.conf rejects", "check the user and the password in DATABASE_URL"}},
		{"unknown user", as("ghost:correct-horse", "postgres"), 1, []string{connect, "authentication failed", "DATABASE_URL"}},
		{"unknown database", as("app:battery-staple", "nothing"), 1, []string{connect, `database "nothing" does not exist`, "create the database"}},
		{"full", as("app:battery-staple", "closed"), 1, []string{connect, "too many connections", "DATABASE_URL"}},
		{"no URL", "", 2, []string{"DATABASE_URL"}},
		{"another scheme", "mysql://u:correct-horse@h/x", 2, []string{"DATABASE_URL: cannot parse", "use one such as postgres://"}},
		{"a word", "production", 2, []string{"DATABASE_URL: cannot parse", "use one such as postgres://"}},
		{"a malformed port", "postgres://u:correct-horse@h:x/", 2, []string{"DATABASE_URL: cannot parse", "use one such as postgres://"}},
		{"a malformed password", "postgres://u:correct-horse%zz@h/x", 2, []string{"DATABASE_URL: cannot parse", "use one such as postgres://"}},
		{"a malformed parameter", "postgres://u:correct-horse@h/x?pool_max_conns=many", 2, []string{"DATABASE_URL: cannot parse", "pool_max_conns", "use one such as"}},
	} {
		for _, args := range []string{"migrate", "migrate status", "migrate rollback", "replay evt_1 --here", "replay --all-failed --here",
			"replay evt_1 --to http://127.0.0.1:1/", "serve --migrate"} {
			start{c.name + " " + args, []string{"STRIPE_WEBHOOK_SECRET=" + hooktest.Secret, "DATABASE_URL=" + c.url}, args, "", c.code, c.says}.expectSentence(t)
		}
	}
	start{"no rights", []string{"DATABASE_URL=" + as("app:battery-staple", "postgres")}, "migrate", "", 1, []string{"permission denied"}}.expectSentence(t)
}

// Secrets and keys that are missing or malformed.
func TestStartWithWrongSecret(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	const secret, database = "STRIPE_WEBHOOK_SECRET=" + hooktest.Secret, "DATABASE_URL=postgres:///x?host=/nonexistent"
	empty, key := write(t, 0o644, dir+"/empty", " \n"), write(t, 0o644, dir+"/key", "sk_test_private\n")
	id, publishable := write(t, 0o644, dir+"/id", "we_private\n"), write(t, 0o644, dir+"/pk", "pk_test_private")
	local := "serve --local --data-dir " + dir + "/pg"
	signing := []string{local, "send -"}
	operator := []string{local, "replay evt_1 --here", "reconcile --since 1h --here", "verify", "endpoint"}
	for _, c := range []struct {
		name     string
		env      []string
		commands []string
		says     []string
	}{
		{"no secret", nil, signing, []string{"STRIPE_WEBHOOK_SECRET is not set", "signing secret"}},
		{"no secret file", []string{"STRIPE_WEBHOOK_SECRET_FILE=" + dir + "/none"}, signing, []string{"STRIPE_WEBHOOK_SECRET_FILE: ", "no such file", "name a file that"}},
		{"a folder", []string{"STRIPE_WEBHOOK_SECRET_FILE=" + dir}, signing, []string{"STRIPE_WEBHOOK_SECRET_FILE: ", "is a directory", "name a file that"}},
		{"an empty file", []string{"STRIPE_WEBHOOK_SECRET_FILE=" + empty}, signing, []string{"STRIPE_WEBHOOK_SECRET_FILE", empty, "write the secret into the file"}},
		{"a key's file", []string{"STRIPE_WEBHOOK_SECRET_FILE=" + key}, signing, []string{"STRIPE_WEBHOOK_SECRET_FILE: ", "is a secret API key"}},
		{"both", []string{secret, "STRIPE_WEBHOOK_SECRET_FILE=" + key}, signing, []string{"both STRIPE_WEBHOOK_SECRET and STRIPE_WEBHOOK_SECRET_FILE are set"}},
		{"no key file", []string{secret, database, "STRIPE_API_KEY_FILE=" + dir + "/none"}, operator, []string{"STRIPE_API_KEY_FILE: ", "no such file"}},
		{"an empty key file", []string{secret, database, "STRIPE_API_KEY_FILE=" + empty}, operator, []string{"STRIPE_API_KEY_FILE", empty, "write the secret into the file"}},
		{"an id's file", []string{secret, database, "STRIPE_API_KEY_FILE=" + id}, operator, []string{"STRIPE_API_KEY_FILE: the key is the id of a webhook endpoint", "sk_…"}},
		{"a publishable key's file", []string{secret, database, "STRIPE_API_KEY_FILE=" + publishable}, operator, []string{"STRIPE_API_KEY_FILE: the key is a publishable key"}},
		{"both keys", []string{secret, database, "STRIPE_API_KEY=sk_test_private", "STRIPE_API_KEY_FILE=" + key}, operator, []string{"both STRIPE_API_KEY and STRIPE_API_KEY_FILE are set"}},
		{"quotes", []string{secret, database, `STRIPE_API_KEY="sk_test_private"`}, operator, []string{"STRIPE_API_KEY: the key has quotes around it"}},
		{"Bearer", []string{secret, database, "STRIPE_API_KEY=Bearer sk_test_private"}, operator, []string{`STRIPE_API_KEY: the key begins with "Bearer"`}},
		{"a signing secret", []string{secret, database, "STRIPE_API_KEY=" + hooktest.Secret}, operator, []string{"STRIPE_API_KEY: the key is a signing secret"}},
		{"an account", []string{secret, database, "STRIPE_API_KEY=acct_private"}, operator, []string{"STRIPE_API_KEY: the key begins with acct_"}},
	} {
		for _, args := range c.commands {
			start{c.name + " " + strings.Fields(args)[0], c.env, args, "{}", 2, c.says}.expectSentence(t)
		}
	}
}

// Every command that makes requests to Stripe accepts a key from a file, and ignores surrounding white space.
func TestAPIKeyFile(t *testing.T) {
	t.Parallel()
	st := newStation(t, 2)
	st.api.Key = "sk_test_of_a_test"
	file := write(t, 0o600, filepath.Join(t.TempDir(), "key"), "\n sk_test_of_a_test\r\n")
	id := st.account.Events[0].ID
	for name, key := range map[string][]string{"file": {"STRIPE_API_KEY=", "STRIPE_API_KEY_FILE=" + file}, "variable": {"STRIPE_API_KEY= sk_test_of_a_test\n"}} {
		here := &station{server: st.server, api: st.api, account: st.account, env: append(slices.Clone(st.env), key...)}
		t.Log(name)
		here.expect(t, 1, "verify", "2 checked, 2 drifted")
		here.expect(t, 0, "reconcile --since 72h --dry-run", "6 listed, 6 missing")
		here.expect(t, 1, "endpoint", "no webhook endpoint exists at Stripe")
		here.expect(t, 0, "replay --here "+id, id)
		s := serve(t, here.env, "--reconcile-every", "1h")
		pgtest.Await(t, "a reconciliation is completed", func() bool {
			_, body := s.get(t, "/metrics")
			return strings.Contains(body, `stripeonce_reconcile_runs_total{result="completed"} 1`)
		})
		s.stop(t, syscall.SIGTERM)
		pgtest.Exec(t, pgtest.Connect(t, st.databaseURL), `TRUNCATE stripe_webhook_events, subscriptions, subscription_items`)
	}
}

// send cannot read or deliver an event.
func TestStartOfSend(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	const secret = "STRIPE_WEBHOOK_SECRET=" + hooktest.Secret
	s := serve(t, environ("DATABASE_URL="+pgtest.NewURL(t)))
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	write(t, 0o644, dir+"/empty", "\n", dir+"/cut", `{"id":"evt_1",`, dir+"/list", "[1]", dir+"/null", "null", dir+"/text", "evt_1",
		dir+"/event", string(hooktest.Event("evt_1", "coupon.created", 1, `{"id":"c"}`)))
	to := " --to " + s.url + "/webhooks/stripe"
	for _, c := range []start{
		{"no file", []string{secret}, "send " + dir + "/none" + to, "", 2, []string{"no such file", "name a file that holds an event"}},
		{"a folder", []string{secret}, "send " + dir + to, "", 2, []string{"is a directory", "name a file that holds an event"}},
		{"an empty file", []string{secret}, "send " + dir + "/empty" + to, "", 2, []string{dir + "/empty is empty", "an event is a JSON object"}},
		{"no input", []string{secret}, "send -" + to, "", 2, []string{"standard input is empty", "an event is a JSON object"}},
		{"half a file", []string{secret}, "send " + dir + "/event " + dir + "/cut" + to, "", 2, []string{dir + "/cut is not JSON", "at byte 14"}},
		{"text", []string{secret}, "send " + dir + "/text" + to, "", 2, []string{"is not JSON", "an event is a JSON object"}},
		{"a list", []string{secret}, "send " + dir + "/list" + to, "", 2, []string{"is not a JSON object"}},
		{"null", []string{secret}, "send " + dir + "/null" + to, "", 2, []string{"is not a JSON object"}},
		{"no event", []string{secret}, "send -" + to, "{}", 1, []string{"1 of 1 deliveries failed", "400", "id"}},
		{"no receiver", []string{secret}, "send --to http://127.0.0.1:1/ " + dir + "/event", "", 1, []string{"1 of 1", "connection refused", "stripeonce serve", "--to"}},
		{"another server", []string{secret}, "send --to " + other.URL + " " + dir + "/event", "", 1, []string{other.URL + " answers 404", "is it the URL of the route"}},
		{"another secret", []string{"STRIPE_WEBHOOK_SECRET=whsec_another"}, "send " + dir + "/event" + to, "", 1, []string{"400", "signature", "is STRIPE_WEBHOOK_SECRET one of that receiver's"}},
		{"a word for a number", []string{secret}, "send - --times often", "{}", 2, []string{"--times", "often"}},
		{"none at once", []string{secret}, "send - --concurrency 0", "{}", 2, []string{"--concurrency must be at least 1"}},
	} {
		c.expectSentence(t)
	}
}

// replay fails.
func TestStartOfReplay(t *testing.T) {
	t.Parallel()
	st := newStation(t, 1)
	keyless := append(environ("DATABASE_URL="+st.databaseURL), "STRIPE_WEBHOOK_SECRET="+hooktest.Secret)
	id := st.account.Events[0].ID
	for _, c := range []start{
		{"in no ledger", keyless, "replay evt_1 --here", "", 1, []string{"not applied, 1 of 1: evt_1", "neither in the ledger nor among the failures", "STRIPE_API_KEY"}},
		{"in no ledger", st.env, "replay evt_1 --to " + st.to(), "", 1, []string{"neither in the ledger", "No such event", "30 days", "--account"}},
		{"two", st.env, "replay evt_1 evt_2 --here", "", 1, []string{"not applied, 2 of 2: evt_1, evt_2: the first: ", "No such event"}},
		{"another secret", append(st.env, "STRIPE_WEBHOOK_SECRET=whsec_another"), "replay " + id + " --to " + st.to(), "", 1, []string{"400", "signature", "STRIPE_WEBHOOK_SECRET"}},
		{"another URL", st.env, "replay " + id + " --to " + st.url + "/", "", 1, []string{st.url + "/ answers 404", "is it the URL of the route (--to)?"}},
		{"no receiver", st.env, "replay " + id + " --to http://127.0.0.1:1/", "", 1, []string{"connection refused", "connection refused: start it, or correct its URL (--to)"}},
		{"neither --to nor --here", st.env, "replay " + id, "", 2, []string{"choose which handlers run"}},
		{"an unknown mode", st.env, "replay --mode sandbox --here " + id, "", 2, []string{"use live, test or any"}},
		{"a malformed duration", st.env, "replay --api-timeout soon --here " + id, "", 2, []string{"--api-timeout", "soon"}},
	} {
		c.expectSentence(t)
	}
}

// Invalid values of demo's flags.
func TestStartOfDemo(t *testing.T) {
	t.Parallel()
	for _, c := range []start{
		{"storm", nil, "demo --storm thunder", "", 2, []string{"use none, mild, default or wild"}},
		{"receiver", nil, "demo --receiver right", "", 2, []string{"use one of"}},
		{"subscriptions", nil, "demo --subscriptions 0", "", 2, []string{"from 1 to 20000"}},
		{"negative", nil, "demo --for -5s", "", 2, []string{"is not a duration: use one such as 72h, 30d or 90m"}},
		{"seed", nil, "demo --seed x", "", 2, []string{"--seed"}},
		{"duration", nil, "demo --for long", "", 2, []string{"--for", "long"}},
		{"argument", nil, "demo now", "", 2, []string{"unknown command"}},
	} {
		c.expectSentence(t)
	}
}
