package tests

import (
	"context"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
)

const (
	quickstartModule   = "github.com/pook/stripeonce"
	quickstartAddress  = "127.0.0.1:8080"
	quickstartDatabase = "postgres://localhost/myapp"
)

// Every block of the quickstart works as written, one after the other, in an empty folder. The test changes only the source
// of the module, the address of PostgreSQL, and the port. It does not run in parallel with other tests: compiling takes the
// whole machine, and their receivers have time limits.
func TestQuickstart(t *testing.T) {
	cluster := pgtest.NewCluster(t, pglocal.Config{Disposable: true})
	here, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	binaries, err := pglocal.FindBinaries("")
	if err != nil {
		t.Fatal(err)
	}
	database, err := url.Parse(cluster.URL("myapp"))
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	asHere := strings.NewReplacer(quickstartDatabase, "'"+database.String()+"'", quickstartAddress, address,
		"go mod init myapp", "go mod init myapp && go mod edit -replace "+quickstartModule+"="+here)

	var mainFile, event string
	var testFiles, shell []string
	for _, b := range read(t, "../docs/quickstart.md").blocks() {
		text := asHere.Replace(b.text)
		switch {
		case b.language == "sh":
			shell = append(shell, text)
		case b.language == "json":
			event = text
		case b.language == "go" && strings.Contains(text, "*testing.T"):
			testFiles = append(testFiles, text)
		case b.language == "go":
			mainFile += text + "\n"
		default:
			t.Errorf("this block of the quickstart is not tested:\n%s", b.text)
		}
	}
	if len(shell) != 4 || len(testFiles) != 1 {
		t.Fatalf("the quickstart has %d blocks for the shell, not one to add it, one to make the tables, one to send an event and one to test; and %d test files, not 1",
			len(shell), len(testFiles))
	}
	folder := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "cp " + path + " " + name + "\n"
	}
	script := shell[0] + shell[1] +
		file("main.go", mainFile) + file("event.json", event) +
		file("main_test.go", testFiles[0]) +
		"trap 'kill %1 || true' EXIT\n" + shell[2] +
		`echo "rows of credits: $(psql "$DATABASE_URL" -Atc 'SELECT count(*) FROM credits')"
curl -sf -o /dev/null -u admin:sesame http://` + address + `/admin/stripe && echo "the console answers"
` + shell[3]
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir, cmd.WaitDelay = folder, time.Second
	cmd.Env = environ("PATH="+binaries+":"+os.Getenv("PATH"), "PGHOST="+database.Query().Get("host"), "PGUSER="+database.User.Username(),
		"GOFLAGS=-buildvcs=false", "GOWORK=off", "GOPROXY="+unpublished(t))
	out, err := cmd.CombinedOutput()
	text := string(out)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for what, times := range map[string]int{
		`"outcome":"processed"`: 1, `"outcome":"duplicate"`: 4, "rows of credits: 1\n": 1, "the console answers": 1, "ok  \tmyapp": 1,
	} {
		if n := strings.Count(text, what); n != times {
			t.Errorf("%q occurs %d times, not %d, in\n%s", what, n, times, text)
		}
	}
}

// unpublished returns the module proxies with one before them that has no version of this module, so that only the
// replacement is used.
func unpublished(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	versions := filepath.Join(root, filepath.FromSlash(quickstartModule), "@v")
	if err := os.MkdirAll(versions, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(versions, "list"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := exec.Command("go", "env", "GOPROXY").Output()
	if err != nil {
		t.Fatal(err)
	}
	return "file://" + filepath.ToSlash(root) + "," + strings.TrimSpace(string(set))
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}
