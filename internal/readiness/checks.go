package readiness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/schema"
)

func (c *Checker) checkReady(ctx context.Context, conn *pgxpool.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, c.Pool.AcquireTimeout)
	defer cancel()
	err := checkEncoding(conn.Conn().PgConn())
	if err == nil {
		err = c.checkPooler(ctx, conn)
	}
	if err == nil {
		err = c.checkPermitted(ctx, conn)
	}
	if err == nil && !c.AssumeMigrated {
		err = c.checkMigrated(ctx, conn)
	}
	if err == nil {
		err = c.checkWritable(ctx, conn)
	}
	return err
}

// checkEncoding requires UTF-8 on both sides: another server_encoding cannot store all of Stripe's text, and another
// client_encoding would misinterpret it. PostgreSQL reports both when a connection begins.
// See https://www.postgresql.org/docs/current/multibyte.html.
func checkEncoding(conn *pgconn.PgConn) error {
	if server := conn.ParameterStatus("server_encoding"); !isUTF8(server) {
		return fmt.Errorf("%w: its encoding is %s, which cannot store all of Stripe's text: create the database with ENCODING 'UTF8'", fault.ErrUnsuitable, server)
	}
	if client := conn.ParameterStatus("client_encoding"); !isUTF8(client) {
		return fmt.Errorf("%w: client_encoding is %s, but Stripe's text is UTF-8: add client_encoding=UTF8 to the database URL", fault.ErrUnsuitable, client)
	}
	return nil
}

// isUTF8 compares an encoding's name as PostgreSQL does, since a pooler reports it as the client has spelled it. A pooler may also
// report none.
func isUTF8(encoding string) bool {
	name := strings.Map(func(c rune) rune {
		if unicode.IsLetter(c) || unicode.IsDigit(c) {
			return unicode.ToLower(c)
		}
		return -1
	}, encoding)
	return name == "utf8" || name == "unicode" || encoding == ""
}

func (c *Checker) checkMigrated(ctx context.Context, conn *pgxpool.Conn) error {
	applied, err := c.queries.MigrationList(ctx, conn)
	if err != nil && !fault.LacksMigration(err) {
		return err
	}
	if missing := missingMigrations(applied); len(missing) > 0 {
		c.Doubt()
		return notMigrated(errors.New("it lacks " + strings.Join(missing, ", ") + ": " + c.adviceToMigrate(ctx, conn, len(applied) > 0)))
	}
	if newer := unknownMigrations(applied); len(newer) > 0 && c.newer.CompareAndSwap(false, true) {
		c.Logger.InfoContext(ctx, "a newer version of stripeonce has migrated the database: this version keeps working if it is the previous release",
			"unknown_migrations", strings.Join(newer, ","))
	}
	return nil
}

// checkProbe also finds a table that is gone, or that search_path finds elsewhere, which a delivery that needs it finds by
// itself.
func (c *Checker) checkProbe(ctx context.Context, conn *pgxpool.Conn) error {
	if err := c.checkReady(ctx, conn); err != nil || c.AssumeMigrated {
		return err
	}
	found, err := c.queries.ServerStrayTables(ctx, conn, c.tables())
	switch {
	case err != nil:
		return err
	case found.Gone != "":
		c.Doubt()
		return notMigrated(errors.New("stripeonce_migrations records a table that does not exist: " + found.Gone))
	case found.Stray != "":
		c.Doubt()
		return notMigrated(errors.New("search_path finds another table first: " + found.Stray +
			": put the schema of stripeonce's tables first in search_path"))
	}
	return nil
}

// adviceToMigrate says what helps where migrations are missing, some or all of them.
func (c *Checker) adviceToMigrate(ctx context.Context, conn *pgxpool.Conn, some bool) string {
	const migrate = "run 'stripeonce migrate' or 'dbmate up'"
	where, err := c.queries.ServerSchemas(ctx, conn)
	switch {
	case err != nil || some:
		return migrate
	case where.Visible:
		return "the tables are there, but stripeonce_migrations does not say so: run 'stripeonce migrate --adopt'"
	case where.Closed != "":
		return "the role " + where.Role + " may not use the schema " + where.Closed + ", which has stripeonce's tables: GRANT USAGE ON SCHEMA"
	case where.Elsewhere != "":
		return migrate + "; or, if the tables of the schema " + where.Elsewhere + " are this receiver's, add search_path to the database URL: it does not lead there"
	}
	return migrate
}

// checkWritable opens a transaction as a delivery does, which a pooler may refuse. A connection to a server
// that cannot be written to is given up, so that the pool looks for another.
func (c *Checker) checkWritable(ctx context.Context, conn *pgxpool.Conn) error {
	tx, err := conn.BeginTx(ctx, pgpipe.Isolation)
	if err != nil {
		return err
	}
	defer pgpipe.Rollback(ctx, tx, rollbackTimeout)
	state, err := c.queries.ServerState(ctx, tx)
	if err != nil {
		return err
	}
	if state.ReadOnly {
		_ = conn.Conn().Close(ctx)
		return fault.ErrReadOnly
	}
	if state.Forgetful && !c.forgetful.Swap(true) {
		c.Logger.WarnContext(ctx, "synchronous_commit or fsync is off: acknowledged events can be lost if PostgreSQL crashes")
	}
	return nil
}

// checkPermitted names the privileges that the role lacks on the tables that exist.
func (c *Checker) checkPermitted(ctx context.Context, conn *pgxpool.Conn) error {
	var tables, privileges []string
	for _, table := range c.needs() {
		for _, privilege := range table.Privileges {
			tables, privileges = append(tables, table.Name), append(privileges, privilege)
		}
	}
	missing, err := c.queries.ServerMissingPrivileges(ctx, conn, tables, privileges)
	if err != nil || len(missing) == 0 {
		return err
	}
	c.Doubt()
	var rights, policies []string
	for _, m := range missing {
		if text := m.Privilege + " on " + m.TableName; m.ByPolicy {
			policies = append(policies, text)
		} else {
			rights = append(rights, text)
		}
	}
	if len(rights) > 0 {
		return fmt.Errorf("%w: it lacks %s", fault.ErrNotPermitted, strings.Join(rights, ", "))
	}
	return fmt.Errorf("%w: no policy allows %s", fault.ErrRowSecurity, strings.Join(policies, ", "))
}

func notMigrated(cause error) error {
	return fault.Unavailable(fmt.Errorf("%w: %w", fault.ErrNotMigrated, cause))
}

// unknownMigrations returns the applied versions that this version does not have.
func unknownMigrations(applied []string) []string {
	return slices.DeleteFunc(slices.Clone(applied), func(version string) bool {
		return slices.ContainsFunc(schema.Migrations(), func(m schema.Migration) bool { return m.Version == version })
	})
}

func missingMigrations(applied []string) []string {
	has := map[string]bool{}
	for _, version := range applied {
		has[version] = true
	}
	var missing []string
	for _, m := range schema.Migrations() {
		if !has[m.Version] {
			missing = append(missing, m.Name)
		}
	}
	return missing
}
