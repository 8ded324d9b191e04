package tests

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/schema"
)

var dist = flag.String("dist", "", "the `folder` with the archives that make release has made, for TestRelease")

// wantFiles are the files of a release's archive.
func wantFiles(t *testing.T) []string {
	t.Helper()
	files := []string{"CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md", "stripeonce", "completions/_stripeonce", "completions/stripeonce.bash", "completions/stripeonce.fish"}
	for _, m := range schema.Migrations() {
		files = append(files, "schema/"+m.Name)
	}
	err := filepath.WalkDir("../deploy", func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && !strings.Contains(path, "/secrets/") {
			files = append(files, strings.TrimPrefix(path, "../"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	return files
}

// The archives of a release have the same files on each platform, whose checksums and lists of modules are beside them. This machine's
// program serves without Go, PostgreSQL's programs or any other file.
func TestRelease(t *testing.T) {
	if *dist == "" {
		t.Skip("make release makes the archives and runs this test")
	}
	sums := checksums(t)
	var version string
	for _, platform := range []string{"linux_amd64", "linux_arm64", "darwin_amd64", "darwin_arm64"} {
		found, err := filepath.Glob(*dist + "/stripeonce_*_" + platform + ".tar.gz")
		if err != nil || len(found) != 1 {
			t.Fatalf("the archives of %s are %v, %v", platform, found, err)
		}
		version = strings.TrimSuffix(strings.TrimPrefix(filepath.Base(found[0]), "stripeonce_"), "_"+platform+".tar.gz")
		text, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(text); sums[filepath.Base(found[0])] != hex.EncodeToString(sum[:]) {
			t.Errorf("the checksum of %s is not that of the file", found[0])
		}
		root := folder(t)
		files := extract(t, text, root)
		if diff := cmp.Diff(wantFiles(t), files); diff != "" {
			t.Errorf("the files of %s (-want +got):\n%s", platform, diff)
		}
		checkModules(t, strings.TrimSuffix(found[0], ".tar.gz")+".cdx.json", sums)
		if platform == runtime.GOOS+"_"+runtime.GOARCH {
			t.Logf("%s, %d bytes:\n%s", filepath.Base(found[0]), len(text), strings.Join(files, "\n"))
			t.Run("without Go", func(t *testing.T) { runsAlone(t, root, version) })
		}
	}
}

// checksums returns the SHA-256 of each file by its name.
func checksums(t *testing.T) map[string]string {
	t.Helper()
	found, err := filepath.Glob(*dist + "/stripeonce_*_SHA256SUMS")
	if err != nil || len(found) != 1 {
		t.Fatalf("the files of checksums are %v, %v", found, err)
	}
	sums := map[string]string{}
	for line := range strings.Lines(read(t, found[0]).text) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		sums[name] = sum
	}
	if len(sums) != 8 { // four archives, and a list of modules for each
		t.Errorf("the checksums are of %v", sums)
	}
	return sums
}

// extract unpacks an archive without the folder that has everything, and returns its files. Everything belongs to root and has the
// commit's time, so that an archive of the same commit is the same.
func extract(t *testing.T, archive []byte, root string) (files []string) {
	t.Helper()
	unzipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(unzipped)
	if err != nil {
		t.Fatal(err)
	}
	times := map[string]bool{}
	eachEntry(t, text, func(header *tar.Header, body []byte) {
		top, name, _ := strings.Cut(header.Name, "/")
		if !strings.HasPrefix(top, "stripeonce_") || header.Typeflag != tar.TypeReg || header.Uname != "root" || header.Gname != "root" {
			t.Errorf("the archive has %s of type %c, of %s:%s", header.Name, header.Typeflag, header.Uname, header.Gname)
		}
		times[header.ModTime.UTC().String()] = true
		files = append(files, name)
		write(t, header.FileInfo().Mode().Perm(), filepath.Join(root, name), string(body))
	})
	if len(times) != 1 {
		t.Errorf("the files are of %d different times", len(times))
	}
	slices.Sort(files)
	return files
}

// checkModules checks a list of modules.
func checkModules(t *testing.T, file string, sums map[string]string) {
	t.Helper()
	var list struct {
		BOMFormat  string
		Metadata   struct{ Component struct{ Name string } }
		Components []struct{ Name, Version string }
	}
	text := read(t, file).text
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(text))
	names := map[string]bool{}
	for _, c := range list.Components {
		names[c.Name] = c.Version != ""
	}
	if list.BOMFormat != "CycloneDX" || list.Metadata.Component.Name != "github.com/pook/stripeonce" || !names["github.com/jackc/pgx/v5"] || !names["github.com/spf13/cobra"] ||
		sums[filepath.Base(file)] != hex.EncodeToString(sum[:]) {
		t.Errorf("%s lists %d modules of %s", file, len(names), list.Metadata.Component.Name)
	}
}

// runsAlone runs the program in the folder of the archive alone: no environment, no other program, another user.
func runsAlone(t *testing.T, root, version string) {
	if os.Geteuid() != 0 {
		t.Skip("only root may run a program in a folder of its own (chroot)")
	}
	c := &confined{root: root}
	t.Log(c.exits(t, nil, 0, "stripeonce v"+version+" (commit ", "/stripeonce", "version"))
	url, stopDatabase := reachable(t)
	env := []string{"DATABASE_URL=" + url, "STRIPE_WEBHOOK_SECRET=" + hooktest.Secret}
	s := serveBy(t, c.command(env, "/stripeonce", "serve", "--migrate", "--addr", "127.0.0.1:0"))
	addr := []string{"ADDR=127.0.0.1:" + portOf(t, s.url)}
	t.Log(c.exits(t, addr, 0, "ready", "/stripeonce", "healthcheck"))
	s.expect(t, subscriptionEvent("evt_1", 1700000000, "active"), 200, "processed")
	s.expect(t, subscriptionEvent("evt_1", 1700000000, "active"), 200, "duplicate")
	t.Log(c.exits(t, env, 0, "evt_1", "/stripeonce", "events"))
	stopDatabase()
	t.Log(c.exits(t, addr, 1, "not ready: PostgreSQL does not answer", "/stripeonce", "healthcheck"))
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("serve ended with %d", code)
	}
	t.Log(fmt.Sprint("serve's log:\n", s.text()))
}
