package tests

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/elf"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/stripesim"
)

// image is the image that tools/image makes, unpacked.
type image struct {
	confined
	files  []string
	config struct {
		User            string
		Env             []string
		Entrypoint, Cmd []string
		ExposedPorts    map[string]struct{}
		Healthcheck     struct{ Test []string }
	}
}

// buildImage builds the program as the Dockerfile does, packs it with tools/image, and unpacks the archive.
func buildImage(t *testing.T) *image {
	t.Helper()
	if _, err := exec.LookPath("buildah"); err != nil {
		t.Skip("buildah is not installed, which builds the image without a daemon: apt-get install buildah")
	}
	if runtime.GOOS != "linux" {
		t.Skip("images are of Linux")
	}
	dir := folder(t)
	dockerfile := strings.ReplaceAll(read(t, "../deploy/Dockerfile").text, "\\\n", "")
	command := regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 .*)$`).FindStringSubmatch(dockerfile)
	if command == nil {
		t.Fatal("the Dockerfile does not build the program")
	}
	build := exec.CommandContext(t.Context(), "sh", "-ec", strings.Replace(command[1], "-o /stripeonce ", "-o "+dir+"/stripeonce ", 1))
	build.Dir, build.Env = "..", append(os.Environ(), "VERSION=v1.2.3", "COMMIT=abc", "TARGETOS=linux", "TARGETARCH="+runtime.GOARCH)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command[1], err, out)
	}
	out, err := exec.CommandContext(t.Context(), "../tools/image", dir+"/stripeonce", "stripeonce:test", dir+"/image.tar").CombinedOutput()
	if err != nil {
		t.Fatalf("tools/image: %v\n%s", err, out)
	}
	return unpack(t, dir+"/image.tar", dir+"/root")
}

// unpack reads an archive in the format of `docker save`.
func unpack(t *testing.T, archive, root string) *image {
	t.Helper()
	entries := map[string][]byte{}
	text, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	eachEntry(t, text, func(header *tar.Header, body []byte) { entries[header.Name] = body })
	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	i := &image{confined: confined{root: root}}
	if err := json.Unmarshal(entries["manifest.json"], &manifest); err != nil || len(manifest) != 1 {
		t.Fatalf("the archive has %d images, %v", len(manifest), err)
	}
	if err := json.Unmarshal(entries[manifest[0].Config], &struct{ Config any }{&i.config}); err != nil {
		t.Fatal(err)
	}
	i.env = i.config.Env
	for _, layer := range manifest[0].Layers {
		eachEntry(t, entries[layer], func(header *tar.Header, body []byte) {
			target := filepath.Join(root, header.Name)
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				t.Fatal(err)
			}
			switch header.Typeflag {
			case tar.TypeDir:
				err = os.MkdirAll(target, 0o755)
			case tar.TypeReg:
				i.files = append(i.files, path.Clean("/"+header.Name))
				err = os.WriteFile(target, body, header.FileInfo().Mode().Perm())
			default:
				t.Errorf("the image has %s of type %c", header.Name, header.Typeflag)
			}
			if err != nil {
				t.Fatal(err)
			}
		})
	}
	slices.Sort(i.files)
	return i
}

func eachEntry(t *testing.T, archive []byte, do func(header *tar.Header, body []byte)) {
	t.Helper()
	for reader := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		do(header, body)
	}
}

// The image has the program and certificates and no other file, an unprivileged user, and a health check that needs no shell. In its
// files alone, the program serves on PostgreSQL.
func TestImage(t *testing.T) {
	t.Parallel()
	i := buildImage(t)
	if diff := cmp.Diff([]string{"/etc/ssl/certs/ca-certificates.crt", "/stripeonce"}, i.files); diff != "" {
		t.Errorf("the image's files (-want +got):\n%s", diff)
	}
	c := i.config
	if c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/stripeonce"}) || !slices.Equal(c.Cmd, []string{"serve"}) ||
		!slices.Equal(c.Healthcheck.Test, []string{"CMD", "/stripeonce", "healthcheck"}) || !slices.Contains(c.Env, "ADDR=0.0.0.0:4242") || len(c.ExposedPorts) != 1 {
		t.Errorf("the image's configuration is %+v", c)
	}
	file, err := elf.Open(i.root + "/stripeonce")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the program is linked dynamically, and the image has no libraries")
		}
	}
	if text, err := os.ReadFile(i.root + "/etc/ssl/certs/ca-certificates.crt"); err != nil || !x509.NewCertPool().AppendCertsFromPEM(text) {
		t.Errorf("the image's certificates: %v", err)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root may run the program in the image's files (chroot)")
	}
	i.exits(t, nil, 0, "stripeonce v1.2.3 (commit abc, go1.", "/stripeonce", "version")
	t.Run("serves", i.serves)
	t.Run("trusts", i.trusts)
}

// serves runs the image as a container is run: migrations, serve, and the health check while the database is there and when it is gone.
func (i *image) serves(t *testing.T) {
	t.Parallel()
	url, stopDatabase := reachable(t)
	write(t, 0o444, i.root+"/run/secrets/database-url", url+"\n", i.root+"/run/secrets/signing-secret", hooktest.Secret+"\n")
	env := []string{"DATABASE_URL_FILE=/run/secrets/database-url", "STRIPE_WEBHOOK_SECRET_FILE=/run/secrets/signing-secret", "ADDR=0.0.0.0:0", "TZ=Asia/Kathmandu"}
	i.exits(t, env, 0, "applied", append(i.config.Entrypoint, "migrate")...)
	s := serveBy(t, i.command(env, append(i.config.Entrypoint, i.config.Cmd...)...))
	s.expect(t, subscriptionEvent("evt_1", 1700000000, "active"), 200, "processed")
	s.expect(t, subscriptionEvent("evt_1", 1700000000, "active"), 200, "duplicate")
	if !strings.Contains(s.text(), `+05:45"`) { // in JSON, by the image's LOG_FORMAT
		t.Errorf("the log's time is not that of TZ:\n%s", s.text())
	}
	health, addr := i.config.Healthcheck.Test[1:], []string{"ADDR=0.0.0.0:" + portOf(t, s.url)}
	i.exits(t, addr, 0, "ready", health...)
	stopDatabase()
	i.exits(t, addr, 1, "not ready: PostgreSQL does not answer", health...)
	i.exits(t, addr, 0, "ok", append(health, "--live")...)
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("serve ended with %d:\n%s", code, s.text())
	}
	i.exits(t, addr, 1, "nothing listens on 0.0.0.0:", health...)
}

// trusts checks that the program uses the image's certificates for Stripe's API.
func (i *image) trusts(t *testing.T) {
	t.Parallel()
	api := httptest.NewUnstartedServer(stripesim.NewAPI(stripesim.New(1, stripesim.Epoch)))
	api.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // the program refuses a handshake
	api.StartTLS()
	t.Cleanup(api.Close)
	env := []string{"STRIPE_API_KEY=sk_test_of_a_test", "STRIPE_API_BASE=" + api.URL}
	i.exits(t, env, 1, "certificate signed by unknown authority", "/stripeonce", "endpoint")
	certificates, err := os.OpenFile(i.root+"/etc/ssl/certs/ca-certificates.crt", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = pem.Encode(certificates, &pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})
	if err := errors.Join(err, certificates.Close()); err != nil {
		t.Fatal(err)
	}
	i.exits(t, env, 1, "no webhook endpoint exists at Stripe", "/stripeonce", "endpoint")
}
