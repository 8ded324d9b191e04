package webhooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/schema"
)

// readyPoll is how often Ready, while it waits for a connection, looks whether deliveries take effect.
const readyPoll = 100 * time.Millisecond

// Ready returns nil if deliveries can take effect: the database answers, can be written to, has every
// migration, and is not behind a pooler that does not go together with the pool's settings; the role has the
// privileges that it needs; and the receiver is not shutting down. Otherwise the error says what is wrong and wraps
// ErrUnavailable.
//
// The first call that finds it so, and the first after an error that casts doubt on the database, also tries a delivery: it writes
// rows with random ids to every table that deliveries write, in the pool's own query exec mode, reads them back, and
// rolls back. A constraint, a trigger or a row level security policy of the host's that rejects such a row shows that
// the table accepts writes. While every connection is in use, an event that takes effect is proof enough.
func (r *Receiver) Ready(ctx context.Context) error {
	if r.gate.isClosed() {
		return fmt.Errorf("%w: %w", ErrUnavailable, ErrShutdown)
	}
	began := time.Now().UnixNano()
	for {
		err := r.check(ctx, r.acquireForReady, r.checkProbe, r.trialState.Load() != trialPassed)
		busy := errors.Is(err, errNotAcquired)
		if (busy || errors.Is(err, errTrialInProgress)) && r.ready.Load() && r.lastCommit.Load() > began {
			return nil
		}
		if err == nil || !busy {
			return err
		}
		if waiting := errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil; !waiting || time.Now().UnixNano()-began > int64(r.config.AcquireTimeout) {
			return err
		}
	}
}

func (r *Receiver) acquireForReady(ctx context.Context) (*pgxpool.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, readyPoll)
	defer cancel()
	conn, err := r.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w: %w", ErrUnavailable, errNotAcquired, err)
	}
	return conn, nil
}

// ensureReady asks the database only until it has once been found ready. One asks, the others wait for it.
func (r *Receiver) ensureReady(ctx context.Context) error {
	if r.ready.Load() {
		return nil
	}
	select {
	case r.checking <- struct{}{}:
		defer func() { <-r.checking }()
	case <-ctx.Done():
		return fmt.Errorf("%w: whether the database is ready is not known yet", ErrUnavailable)
	}
	if r.ready.Load() {
		return nil
	}
	return r.check(ctx, r.acquire, r.checkReady, r.trialState.Load() == trialNeeded)
}

var errNotAcquired = errors.New("no connection to PostgreSQL was acquired")

func (r *Receiver) check(ctx context.Context, acquire func(context.Context) (*pgxpool.Conn, error),
	look func(context.Context, *pgxpool.Conn) error, withTrial bool,
) error {
	err := r.checkOnFitConn(ctx, acquire, look)
	if err == nil && withTrial {
		err = r.awaitTrial(ctx)
	}
	if err == nil && r.trialState.Load() != trialNeeded { // as it is if something has cast doubt meanwhile
		r.ready.Store(true)
		r.served.Store(true)
	}
	return err
}

// checkOnFitConn checks on a connection of the pool. Where one that has been used says that the tables are not there, or
// may not be written, its session may have been spoilt by somebody: it is closed, and the next one is asked, down to a
// new one.
func (r *Receiver) checkOnFitConn(ctx context.Context, acquire func(context.Context) (*pgxpool.Conn, error),
	check func(context.Context, *pgxpool.Conn) error,
) error {
	for unfit := 0; ; unfit++ {
		again, err := r.checkOnOneConn(ctx, acquire, check)
		if !again || unfit == r.maxDeadConns() {
			return err
		}
	}
}

func (r *Receiver) checkOnOneConn(ctx context.Context, acquire func(context.Context) (*pgxpool.Conn, error),
	check func(context.Context, *pgxpool.Conn) error,
) (unfit bool, err error) {
	conn, opened, err := r.acquireBy(ctx, acquire)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	switch err = fault.Classify(check(ctx, conn), fault.Circumstances{}); {
	case err == nil:
		return false, nil
	case !errors.Is(err, ErrUnavailable):
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if fault.IsDoubtful(err) && !opened && r.served.Load() {
		_ = conn.Conn().Close(ctx)
		return true, err
	}
	return false, err
}

func (r *Receiver) checkReady(ctx context.Context, conn *pgxpool.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, r.config.AcquireTimeout)
	defer cancel()
	err := checkEncoding(conn.Conn().PgConn())
	if err == nil {
		err = r.checkPooler(ctx, conn)
	}
	if err == nil {
		err = r.checkPermitted(ctx, conn)
	}
	if err == nil && !r.config.AssumeMigrated {
		err = r.checkMigrated(ctx, conn)
	}
	if err == nil {
		err = r.checkWritable(ctx, conn)
	}
	return err
}

// checkEncoding reads what PostgreSQL reports when a connection begins: in another encoding than UTF-8 the database cannot
// hold all of Stripe's text, and a client that names another would have it taken for that.
// See https://www.postgresql.org/docs/current/multibyte.html.
func checkEncoding(conn *pgconn.PgConn) error {
	if server := conn.ParameterStatus("server_encoding"); !isUTF8(server) {
		return fmt.Errorf("%w: it cannot hold all of Stripe's text, since its encoding is %s: create the database with ENCODING 'UTF8'", ErrUnsuitable, server)
	}
	if client := conn.ParameterStatus("client_encoding"); !isUTF8(client) {
		return fmt.Errorf("%w: client_encoding is %s, and Stripe's text is UTF-8: add client_encoding=UTF8 to the database's URL", ErrUnsuitable, client)
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

func (r *Receiver) checkMigrated(ctx context.Context, conn *pgxpool.Conn) error {
	applied, err := r.queries.MigrationList(ctx, conn)
	if err != nil && !fault.LacksMigration(err) {
		return err
	}
	if missing := missingMigrations(applied); len(missing) > 0 {
		r.unready()
		return notMigrated(errors.New("it lacks " + strings.Join(missing, ", ") + ": " + r.adviceToMigrate(ctx, conn, len(applied) > 0)))
	}
	return nil
}

// checkProbe also finds a table that is gone, or that search_path finds elsewhere, which a delivery that needs it finds by
// itself.
func (r *Receiver) checkProbe(ctx context.Context, conn *pgxpool.Conn) error {
	if err := r.checkReady(ctx, conn); err != nil || r.config.AssumeMigrated {
		return err
	}
	found, err := r.queries.ServerStrayTables(ctx, conn, r.tables())
	switch {
	case err != nil:
		return err
	case found.Gone != "":
		r.unready()
		return notMigrated(errors.New("a table that stripeonce_migrations records is not there: " + found.Gone))
	case found.Stray != "":
		r.unready()
		return notMigrated(errors.New("search_path leads to another table first: " + found.Stray +
			": put the schema that has stripeonce's tables before the others in search_path"))
	}
	return nil
}

// adviceToMigrate says what helps where migrations are missing, some or all of them.
func (r *Receiver) adviceToMigrate(ctx context.Context, conn *pgxpool.Conn, some bool) string {
	const migrate = "run 'stripeonce migrate' or 'dbmate up'"
	where, err := r.queries.ServerSchemas(ctx, conn)
	switch {
	case err != nil || some:
		return migrate
	case where.Visible:
		return "the tables are there, but stripeonce_migrations does not say so: run 'stripeonce migrate --adopt'"
	case where.Closed != "":
		return "the role " + where.Role + " may not use the schema " + where.Closed + ", which has stripeonce's tables: GRANT USAGE ON SCHEMA"
	case where.Elsewhere != "":
		return migrate + "; or, if the tables of the schema " + where.Elsewhere + " are this receiver's, add search_path to the database's URL: it does not lead there"
	}
	return migrate
}

// checkWritable opens a transaction as a delivery does, which a pooler may refuse. A connection to a server
// that cannot be written to is given up, so that the pool looks for another.
func (r *Receiver) checkWritable(ctx context.Context, conn *pgxpool.Conn) error {
	tx, err := conn.BeginTx(ctx, isolation)
	if err != nil {
		return err
	}
	defer rollback(ctx, tx)
	state, err := r.queries.ServerState(ctx, tx)
	if err != nil {
		return err
	}
	if state.ReadOnly {
		_ = conn.Conn().Close(ctx)
		return ErrReadOnly
	}
	if state.Forgetful && !r.ready.Load() {
		r.config.Logger.WarnContext(ctx, "synchronous_commit or fsync is off: an event that was acknowledged can be lost if PostgreSQL crashes")
	}
	return nil
}

// writes are the privileges that serving needs, beside those that the projections have named. With an API key it also
// needs to remove the provisional row of a thin event whose twin is recorded.
var writes = []tablePrivilege{
	{"stripe_webhook_events", "SELECT"}, {"stripe_webhook_events", "INSERT"}, {"stripe_webhook_events", "UPDATE"},
	{"stripe_webhook_failures", "SELECT"}, {"stripe_webhook_failures", "INSERT"}, {"stripe_webhook_failures", "UPDATE"},
}

// tablePrivilege is a privilege that the receiver's role needs on a table.
type tablePrivilege struct{ table, privilege string }

// needs are the privileges that serving needs.
func (r *Receiver) needs() []tablePrivilege {
	needs := append(slices.Clone(writes), r.handlers.needs...)
	if r.config.APIKey != "" {
		needs = append(needs, tablePrivilege{"stripe_webhook_events", "DELETE"})
	}
	if !r.config.AssumeMigrated {
		needs = append(needs, tablePrivilege{schema.MigrationsTable, "SELECT"})
	}
	return needs
}

// tables are those that serving needs, each once.
func (r *Receiver) tables() (tables []string) {
	for _, needed := range r.needs() {
		if !slices.Contains(tables, needed.table) {
			tables = append(tables, needed.table)
		}
	}
	return tables
}

// checkPermitted names the privileges that the role lacks on the tables that exist.
func (r *Receiver) checkPermitted(ctx context.Context, conn *pgxpool.Conn) error {
	var tables, privileges []string
	for _, needed := range r.needs() {
		tables, privileges = append(tables, needed.table), append(privileges, needed.privilege)
	}
	missing, err := r.queries.ServerMissingPrivileges(ctx, conn, tables, privileges)
	if err != nil || len(missing) == 0 {
		return err
	}
	r.unready()
	var rights, policies []string
	for _, m := range missing {
		if text := m.Privilege + " on " + m.TableName; m.ByPolicy {
			policies = append(policies, text)
		} else {
			rights = append(rights, text)
		}
	}
	if len(rights) > 0 {
		return fmt.Errorf("%w: it lacks %s", ErrNotPermitted, strings.Join(rights, ", "))
	}
	return fmt.Errorf("%w: no policy allows %s", ErrRowSecurity, strings.Join(policies, ", "))
}

// unready has the next delivery wait until a trial has passed: something cast doubt on the database.
func (r *Receiver) unready() {
	r.trialState.Store(trialNeeded)
	r.ready.Store(false)
}

func notMigrated(cause error) error {
	return fmt.Errorf("%w: %w: %w", ErrUnavailable, ErrNotMigrated, cause)
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
