package pglocal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// If PostgreSQL's programs are not installed, the error has the command that installs them.
func TestNoBinaries(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	t.Setenv(EnvVersion, "")
	saved := folders
	folders = nil
	t.Cleanup(func() { folders = saved })
	expect := func(major, text string) {
		t.Helper()
		if _, err := FindBinaries(major); !errors.Is(err, ErrNoBinaries) || !strings.Contains(err.Error(), text) {
			t.Errorf("for version %q it is %v, want %q", major, err, text)
		}
	}
	expect("", "install them with")
	if err := os.WriteFile(filepath.Join(dir, "apt-get"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	expect("", "sudo apt-get install -y postgresql")
	expect("9", "in version 9, which made this data directory: install it with\n    sudo apt-get install -y postgresql-9")
	if _, err := Start(t.Context(), Config{}); !errors.Is(err, ErrNoBinaries) {
		t.Errorf("Start gives %v", err)
	}
}

func TestReason(t *testing.T) {
	for output, want := range map[string]string{
		"": "no output",
		"The files belonging to this database system\ninitdb: error: could not create directory \"x\": No space left on device\n":      `could not create directory "x": No space left on device`,
		"2026-11-26 04:47:04 UTC [12] LOG:  starting\n2026-11-26 04:47:04 UTC [12] FATAL:  no\n2026-11-26 04:47:04 UTC [12] HINT:  do": "no; do",
		"one\ntwo": "two",
	} {
		if got := reason(output); got != want {
			t.Errorf("the reason of %q is %q, want %q", output, got, want)
		}
	}
}
