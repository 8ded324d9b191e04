package main

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/schema/migrate"
)

func newMigrate() *cobra.Command {
	var adopt bool
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Apply missing database migrations",
		Long: `Applies the migrations that are missing in the database at DATABASE_URL, with an embedded
dbmate, and records them in the table stripeonce_migrations. Several processes can run it
concurrently. DATABASE_URL must connect to PostgreSQL directly, not through a pooler in
transaction mode.

The tables are created in the first schema of search_path that already has some of them, or
else in the first schema. If that schema has a table, view, index, sequence or type of the
same name that does not belong to stripeonce, nothing is changed and the exit code is 2.

--adopt is for a database whose tables exist but whose migrations are not recorded, such as
after 'dbmate load'. It records each migration whose tables are exactly as the migration
creates them, and applies the others.`,
		Example: "  DATABASE_URL=postgres://owner@db/app stripeonce migrate\n" +
			"  DATABASE_URL='postgres://owner@db/app?search_path=stripeonce' stripeonce migrate\n  stripeonce migrate --adopt\n  stripeonce migrate status",
		Args: cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			url, err := databaseURL()
			if err != nil {
				return err
			}
			apply := migrate.Up
			if adopt {
				apply = migrate.Adopt
			}
			if list, err := migrate.List(cmd.Context(), url); err == nil && missing(list) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "No migrations to apply.")
			} else if err := apply(cmd.Context(), url, cmd.ErrOrStderr()); err != nil {
				return refusal(err)
			}
			return printStatus(cmd, url)
		},
	}
	cmd.Flags().BoolVar(&adopt, "adopt", false, "record migrations whose tables already exist, instead of applying them")
	cmd.AddCommand(newMigrateStatus(), newMigrateRollback())
	return cmd
}

// refusal turns an error that changed nothing into one of wrong use.
func refusal(err error) error {
	if errors.Is(err, migrate.ErrNameTaken) || errors.Is(err, migrate.ErrNotRecorded) || errors.Is(err, migrate.ErrDatabase) ||
		errors.Is(err, migrate.ErrNewer) {
		return cli.Usage("%w", err)
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42501" {
		return fmt.Errorf("%w: use the role that owns the tables, or see deploy/roles.sql", err)
	}
	return err
}

func newMigrateStatus() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "List applied and missing migrations",
		Long:    "Lists the migrations of this version and whether each is applied. The exit code is 1 if one is\nmissing.",
		Example: "  stripeonce migrate status",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			url, err := databaseURL()
			if err != nil {
				return err
			}
			return printStatus(cmd, url)
		},
	}
}

func newMigrateRollback() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Roll back the newest migration",
		Long: `Rolls back the newest applied migration. It refuses to drop a table that has rows: without the
rows of the ledger, events that Stripe redelivers take effect again. It also refuses if a newer
version of stripeonce has migrated the database; use that version instead.`,
		Example: "  stripeonce migrate rollback\n  stripeonce migrate rollback --force",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			url, err := databaseURL()
			if err != nil {
				return err
			}
			err = migrate.Rollback(cmd.Context(), url, force, cmd.ErrOrStderr())
			if errors.Is(err, migrate.ErrHasRows) {
				return cli.Usage("%w: --force drops it anyway", err)
			}
			return refusal(err)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also drop tables that have rows")
	return cmd
}

func printStatus(cmd *cobra.Command, url string) error {
	list, err := migrate.List(cmd.Context(), url)
	if err != nil {
		return refusal(err)
	}
	for _, m := range list {
		switch {
		case m.Unknown:
			fmt.Fprintf(cmd.OutOrStdout(), "unknown  %s, which a newer version of stripeonce has applied\n", m.Version)
		case m.Applied:
			fmt.Fprintf(cmd.OutOrStdout(), "applied  %s\n", m.Name)
		default:
			fmt.Fprintf(cmd.OutOrStdout(), "missing  %s\n", m.Name)
		}
	}
	if n := missing(list); n > 0 {
		return fmt.Errorf("%d of %d migrations are missing: run 'stripeonce migrate'", n, len(list))
	}
	return nil
}

func missing(list []migrate.Status) (n int) {
	for _, m := range list {
		if !m.Applied {
			n++
		}
	}
	return n
}
