package pglocal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ErrFolder reports that a folder is not a cluster's. It is not used, since its owner would be changed.
var ErrFolder = errors.New("it is not the data folder of a private PostgreSQL")

// checkFolder returns an error if a folder holds anything but a cluster of this package. A missing or empty folder is valid.
func checkFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		if info, statErr := os.Stat(dir); statErr == nil && !info.IsDir() {
			return fmt.Errorf("%s is a file: %w", dir, ErrFolder)
		}
		return err
	}
	if version, err := os.ReadFile(filepath.Join(dir, "data", "PG_VERSION")); err == nil {
		if major := strings.TrimSpace(string(version)); strings.Trim(major, "0123456789.") != "" || major == "" {
			return fmt.Errorf("%s/data/PG_VERSION holds no version: %w", dir, ErrFolder)
		}
		return nil
	}
	for _, entry := range entries {
		name := entry.Name()
		if name == "PG_VERSION" {
			return fmt.Errorf("%s is the data directory of another PostgreSQL: %w", dir, ErrFolder)
		}
		left, _ := os.ReadDir(filepath.Join(dir, name))
		emptyData := name == "data" && entry.IsDir() && len(left) == 0
		if !emptyData && !ours(name) {
			return fmt.Errorf("%s holds something else (%s): %w", dir, name, ErrFolder)
		}
	}
	return nil
}

// ours reports whether a file comes from an interrupted start of a cluster, or from the file system.
func ours(name string) bool {
	return name == "data.unfinished" || name == "downloaded" || name == "postgresql.log" || name == "lost+found" || strings.HasPrefix(name, ".s.PGSQL.")
}

// reason extracts the errors, details and hints from the output of PostgreSQL's programs, as one line. Without any, it
// returns the last line.
func reason(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	var told []string
	for _, line := range lines {
		for _, mark := range []string{"PANIC:", "FATAL:", "ERROR:", "error:", "DETAIL:", "HINT:", "detail:", "hint:"} {
			if _, text, found := strings.Cut(line, mark); found {
				told = append(told, strings.TrimSpace(text))
				break
			}
		}
	}
	if len(told) == 0 {
		told = lines[len(lines)-1:]
	}
	text := strings.Join(told, "; ")
	if text == "" {
		return "no output"
	}
	return fmt.Sprintf("%.500s", text)
}
