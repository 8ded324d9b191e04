package schema

import (
	"embed"
	"io/fs"
	"strings"
)

// FS holds the migration files, one up and one down in each.
//
//go:embed 2*.sql
var FS embed.FS

// MigrationsTable is the table in which dbmate records the versions that are applied.
const MigrationsTable = "stripeonce_migrations"

// Migration is one migration file.
type Migration struct {
	Version string // the digits that the file's name begins with
	Name    string // the file's name
}

// Migrations lists every migration, the oldest first.
func Migrations() []Migration {
	names, err := fs.Glob(FS, "*.sql") // sorted
	if err != nil {
		panic(err) // only a malformed pattern
	}
	list := make([]Migration, len(names))
	for i, name := range names {
		version, _, _ := strings.Cut(name, "_")
		list[i] = Migration{Version: version, Name: name}
	}
	return list
}
