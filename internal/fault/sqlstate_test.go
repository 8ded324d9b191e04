package fault

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestPredicates(t *testing.T) {
	t.Parallel()
	pg := func(code string) error { return fmt.Errorf("doing: %w", &pgconn.PgError{Code: code}) }
	inHandler := func(err error) error { return InHandler("test.event", err) }
	predicates := map[string]func(error) bool{
		"IsRetryable": IsRetryable, "LacksMigration": LacksMigration, "IsUnreadable": IsUnreadable, "IsRefusedByHost": IsRefusedByHost,
		"IsPassing": IsPassing, "SpoilsConnection": SpoilsConnection, "IsInfrastructure": IsInfrastructure, "IsDoubtful": IsDoubtful,
	}
	for _, c := range []struct {
		name string
		err  error
		want []string
	}{
		{"not PostgreSQL's", errors.New("no"), nil},
		{"a serialization failure", pg(SerializationFailure), []string{"IsRetryable", "IsPassing"}},
		{"a deadlock", pg(DeadlockDetected), []string{"IsRetryable", "IsPassing"}},
		{"a lock that is not available", pg(LockNotAvailable), []string{"IsPassing"}},
		{"no table", pg(UndefinedTable), []string{"LacksMigration", "SpoilsConnection"}},
		{"no column", pg(UndefinedColumn), []string{"LacksMigration", "SpoilsConnection"}},
		{"no table, in a function", &pgconn.PgError{Code: UndefinedTable, InternalQuery: "SELECT"}, nil},
		{"no table, in a handler", inHandler(pg(UndefinedTable)), []string{"LacksMigration"}},
		{"read-only", pg(ReadOnlyTransaction), []string{"SpoilsConnection"}},
		{"read-only, in a handler", inHandler(pg(ReadOnlyTransaction)), nil},
		{"a standby", Unavailable(ErrReadOnly), []string{"SpoilsConnection", "IsInfrastructure"}},
		{"no privilege", pg(InsufficientPrivilege), []string{"SpoilsConnection"}},
		{"a policy", &pgconn.PgError{Code: InsufficientPrivilege, Routine: "ExecWithCheckOptions"}, []string{"SpoilsConnection", "IsRefusedByHost"}},
		{"a stale plan", pg(StalePlan), []string{"SpoilsConnection"}},
		{"a stale plan, in a handler", inHandler(pg(StalePlan)), []string{"SpoilsConnection"}},
		{"no such statement", pg(NoSuchPrepared), []string{"SpoilsConnection"}},
		{"a constraint", pg("23514"), []string{"IsRefusedByHost"}},
		{"a RAISE", pg(RaiseException), []string{"IsRefusedByHost"}},
		{"data", pg(InvalidText), []string{"IsRefusedByHost"}},
		{"an encoding", pg(UntranslatableChar), nil},
		{"another encoding", pg(CharacterNotInEncoding), nil},
		{"an unreadable result", pgx.ScanArgError{ColumnIndex: 1, Err: errors.New("no")}, []string{"IsUnreadable"}},
		{"not migrated", Unavailable(ErrNotMigrated), []string{"IsInfrastructure", "IsDoubtful"}},
		{"not permitted", Unavailable(ErrNotPermitted), []string{"IsInfrastructure", "IsDoubtful"}},
		{"not migrated, in a handler", inHandler(Unavailable(ErrNotMigrated)), nil},
	} {
		want := map[string]bool{}
		for _, name := range c.want {
			want[name] = true
		}
		for name, holds := range predicates {
			if got := holds(c.err); got != want[name] {
				t.Errorf("%s: %s is %v", c.name, name, got)
			}
		}
	}
}

func TestUniqueViolationOf(t *testing.T) {
	t.Parallel()
	violated := &pgconn.PgError{Code: UniqueViolation, TableName: "stripe_webhook_events_p07"}
	for _, c := range []struct {
		err  error
		want *pgconn.PgError
	}{
		{fmt.Errorf("doing: %w", violated), violated}, {&pgconn.PgError{Code: "23503"}, nil}, {errors.New("no"), nil}, {nil, nil},
	} {
		if got := UniqueViolationOf(c.err); got != c.want {
			t.Errorf("of %v it is %v", c.err, got)
		}
	}
}
