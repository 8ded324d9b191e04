package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/stripesim"
)

// truthFile is the file of --truth. A regular one is replaced only when everything is written.
type truthFile struct {
	path string // empty: none
	file *os.File
}

// newTruth creates the file. An existing one keeps its content until write.
func newTruth(path string) (*truthFile, error) {
	t := &truthFile{path: path}
	if path == "" {
		return t, nil
	}
	existing, err := os.Stat(path)
	if err == nil && !existing.Mode().IsRegular() { // such as /dev/stdout
		t.file, err = os.OpenFile(path, os.O_WRONLY, 0)
	} else {
		t.file, err = os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
		if err == nil && existing != nil {
			err = t.file.Chmod(existing.Mode().Perm())
		}
	}
	if err != nil {
		return nil, cli.Usage("--truth: %w", err)
	}
	return t, nil
}

func (t *truthFile) isTemporary() bool { return t.file != nil && t.file.Name() != t.path }

// write writes the account's final objects.
func (t *truthFile) write(account *stripesim.Account) error {
	if t.file == nil {
		return nil
	}
	err := errors.Join(stripesim.WriteTruth(t.file, account), t.file.Close())
	if err == nil && t.isTemporary() {
		err = os.Rename(t.file.Name(), t.path)
	}
	if err != nil {
		return fmt.Errorf("--truth: %w", err)
	}
	return nil
}

// discard removes what was not written.
func (t *truthFile) discard() {
	if t.isTemporary() {
		_ = t.file.Close()
		_ = os.Remove(t.file.Name())
	}
}
