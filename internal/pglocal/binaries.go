package pglocal

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// ErrNoBinaries reports that PostgreSQL's programs are not installed. The error that wraps it has the command to install
// them.
var ErrNoBinaries = errors.New("PostgreSQL's programs (initdb, postgres) are not installed")

// folders are the folders in which packages install PostgreSQL's programs outside of $PATH.
var folders = []string{
	"/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
	"/usr/pgsql-*/bin",                                   // PostgreSQL's own RPMs
	"/usr/libexec/postgresql*",                           // Alpine
	"/opt/homebrew/opt/postgresql@*/bin",                 // Homebrew on Apple silicon
	"/usr/local/opt/postgresql@*/bin",                    // Homebrew on Intel
	"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
}

// FindBinaries returns the folder that holds initdb and postgres: from $PATH, else from pg_config, else the newest of the
// folders of Linux distributions and Homebrew. A non-empty major selects a major version, such as "15".
func FindBinaries(major string) (string, error) {
	for _, dir := range candidates() {
		if found, err := MajorVersion(dir); err == nil && (major == "" || found == major) {
			return dir, nil
		}
	}
	if major != "" {
		return "", fmt.Errorf("%w in version %s, which made this data directory: install it with\n    %s%s",
			ErrNoBinaries, major, installCommand(major), orDownload(major))
	}
	return "", fmt.Errorf("%w: install them with\n    %s%s", ErrNoBinaries, installCommand(""), orDownload("18"))
}

func candidates() []string {
	var dirs []string
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, pattern := range folders {
		found, _ := filepath.Glob(pattern)
		sort.Slice(found, func(i, j int) bool { return versionIn(found[i]) > versionIn(found[j]) })
		dirs = append(dirs, found...)
	}
	return dirs
}

// versionIn returns the first number in a path, such as 15 in /usr/lib/postgresql/15/bin.
func versionIn(path string) int {
	digits := strings.FieldsFunc(path, func(r rune) bool { return r < '0' || r > '9' })
	if len(digits) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(digits[0])
	return n
}

// MajorVersion returns the major version of the postgres program in a folder, such as "18". It also requires initdb.
func MajorVersion(dir string) (string, error) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return "", err
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return "", err
	}
	return strconv.Itoa(versionIn(string(out))), nil
}

// orDownload returns the hint to download a version, if Download has it.
func orDownload(major string) string {
	if !slices.Contains(Versions(), major) {
		return ""
	}
	return "\nor have npm download it, with --postgres " + major + " (" + EnvVersion + "=" + major + ")"
}

func installCommand(major string) string {
	if runtime.GOOS == "darwin" {
		if major == "" {
			major = "17"
		}
		return "brew install postgresql@" + major
	}
	for _, manager := range []struct{ program, command, versioned string }{
		{"apt-get", "sudo apt-get install -y postgresql", "sudo apt-get install -y postgresql-"},
		{"dnf", "sudo dnf install -y postgresql-server", "sudo dnf install -y postgresql-server-"},
		{"apk", "sudo apk add postgresql", "sudo apk add postgresql"},
		{"pacman", "sudo pacman -S --noconfirm postgresql", ""},
	} {
		if _, err := exec.LookPath(manager.program); err != nil {
			continue
		}
		if major != "" && manager.versioned != "" {
			return manager.versioned + major
		}
		return manager.command
	}
	return "your system's package manager (the package is called postgresql or postgresql-server)"
}
