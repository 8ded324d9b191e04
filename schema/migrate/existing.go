package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/schema"
)

// existing is a migration that is not recorded although some of its objects exist.
type existing struct {
	schema.Migration
	tables []string // created by the migration
	found  []db.MigrationObjectListRow
	lacks  int // the number of the migration's objects that do not exist
}

var (
	makesTable  = regexp.MustCompile(`(?im)^CREATE (?:TABLE|VIEW) (?:IF NOT EXISTS )?(\w+)`)
	makesObject = regexp.MustCompile(`(?im)^CREATE (?:TABLE|VIEW|(?:UNIQUE )?INDEX) (?:IF NOT EXISTS )?(\w+)|^\s*CONSTRAINT (\w+) (?:PRIMARY KEY|UNIQUE)`)
)

// objects returns the names of the tables and views that a migration creates, and the names of all its objects, including
// indexes.
func objects(up string) (tables, all []string) {
	for _, match := range makesTable.FindAllStringSubmatch(up, -1) {
		tables = append(tables, match[1])
	}
	for _, match := range makesObject.FindAllStringSubmatch(up, -1) {
		all = append(all, match[1]+match[2])
	}
	return tables, all
}

// existing lists the migrations that cannot be applied as they are.
func (s *session) existing(ctx context.Context) ([]existing, error) {
	list, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	var inTheWay []existing
	for _, m := range list {
		if m.Applied {
			continue
		}
		up, _, err := parts(m.Name)
		if err != nil {
			return nil, err
		}
		tables, names := objects(up)
		found, err := db.New().MigrationObjectList(ctx, s.conn, s.schema, names)
		if err != nil {
			return nil, fmt.Errorf("look for the tables of %s: %w", m.Name, err)
		}
		if len(found) > 0 {
			inTheWay = append(inTheWay, existing{m.Migration, tables, found, len(names) - len(found)})
		}
	}
	return inTheWay, nil
}

// ownSchema is the advice if another application's table has the name.
const ownSchema = "Give stripeonce's tables a schema of their own: add search_path=stripeonce to DATABASE_URL, here and where the receiver runs"

// refuse returns an error that names the existing objects and what to do about them.
func (s *session) refuse(ctx context.Context, inTheWay []existing) error {
	if err := s.comparable(ctx, inTheWay); err != nil {
		return err
	}
	var tables []string
	for _, e := range inTheWay {
		tables = append(tables, e.tables...)
	}
	return fmt.Errorf("%w: the schema %s already has stripeonce's tables (%s), but %s does not record them, as after 'dbmate load'. "+
		"Nothing was changed. Record them with 'stripeonce migrate --adopt'", ErrNotRecorded, s.schema, strings.Join(tables, ", "), schema.MigrationsTable)
}

// adopt records the migrations whose tables exist already.
func (s *session) adopt(ctx context.Context, inTheWay []existing, log io.Writer) error {
	if len(inTheWay) == 0 {
		return nil
	}
	if err := s.comparable(ctx, inTheWay); err != nil {
		return err
	}
	if err := s.record(ctx, inTheWay); err != nil {
		return err
	}
	for _, e := range inTheWay {
		fmt.Fprintf(log, "Adopted: %s\n", e.Name)
	}
	return nil
}

// difference names what existing tables lack in comparison with the migrations.
type difference struct{ text string }

func (d *difference) Error() string { return d.text }

// comparable returns nil if the tables are as the migrations create them. Its error distinguishes stripeonce's tables that
// differ from another application's tables: for the former, another schema would be a second, empty ledger.
func (s *session) comparable(ctx context.Context, inTheWay []existing) error {
	err := s.compare(ctx, inTheWay)
	var differs *difference
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &differs):
		return fmt.Errorf("check whether the tables of the schema %s belong to stripeonce: %w", s.schema, err)
	}
	ours := slices.ContainsFunc(inTheWay, func(e existing) bool {
		return slices.ContainsFunc(e.found, func(o db.MigrationObjectListRow) bool {
			return o.Kind == "table" && (o.Name == "stripe_webhook_events" || o.Name == "stripe_webhook_failures")
		})
	})
	if ours {
		return fmt.Errorf("%w: the schema %s has tables of stripeonce that %s does not record and that differ from those that the migrations create: %w. "+
			"Nothing was changed. Change the tables to match, then run 'stripeonce migrate --adopt'", ErrNotRecorded, s.schema, schema.MigrationsTable, differs)
	}
	var names []string
	for _, e := range inTheWay {
		for _, object := range e.found {
			if object.Kind != "index" || len(e.found) == 1 {
				names = append(names, object.Kind+" "+object.Name)
			}
		}
	}
	return fmt.Errorf("%w: the schema %s already has another %s. Nothing was changed. %s",
		ErrNameTaken, s.schema, strings.Join(names, ", another "), ownSchema)
}

// errCompared ends the transaction in which tables are compared.
var errCompared = errors.New("compared")

// compare returns a difference that names what the existing tables lack. It runs the migrations on temporary tables and
// compares the catalog's entries. Additional objects, such as a column or an index of the host's, are no difference.
func (s *session) compare(ctx context.Context, inTheWay []existing) error {
	if len(inTheWay) == 0 {
		return nil
	}
	var tables []string
	for _, e := range inTheWay {
		if e.lacks > 0 {
			return &difference{fmt.Sprintf("%d of the objects that %s creates are missing", e.lacks, e.Name)}
		}
		tables = append(tables, e.tables...)
	}
	var want, got []string
	err := pgx.BeginFunc(ctx, s.conn, func(tx pgx.Tx) (err error) {
		if got, err = db.New().MigrationTableLines(ctx, tx, s.schema, tables); err != nil {
			return err
		}
		if want, err = makeTemporary(ctx, tx, tables); err != nil {
			return fmt.Errorf("create temporary tables (requires the privilege TEMPORARY on the database): %w", err)
		}
		return errCompared
	})
	if !errors.Is(err, errCompared) {
		return err
	}
	missing := slices.DeleteFunc(want, func(line string) bool { return slices.Contains(got, line) })
	if len(missing) > 0 {
		return &difference{"missing is " + strings.Join(missing, "; ")}
	}
	return nil
}

func makeTemporary(ctx context.Context, tx pgx.Tx, tables []string) (lines []string, err error) {
	if _, err := tx.Exec(ctx, "SET LOCAL search_path TO pg_temp"); err != nil {
		return nil, err
	}
	for _, m := range schema.Migrations() {
		up, _, err := parts(m.Name)
		if err != nil {
			return nil, err
		}
		if _, err := tx.Exec(ctx, up); err != nil {
			return nil, err
		}
	}
	temporary, err := db.New().MigrationTemporarySchema(ctx, tx)
	if err != nil {
		return nil, err
	}
	return db.New().MigrationTableLines(ctx, tx, temporary, tables)
}
