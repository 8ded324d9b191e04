package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

const nextVersion = "20990101000001"

// nextMigration does what a migration of the next release may do to the tables of this one: it adds.
const nextMigration = `-- migrate:up
ALTER TABLE stripe_webhook_events ADD COLUMN region VARCHAR;
ALTER TABLE subscriptions ADD COLUMN region VARCHAR NOT NULL DEFAULT 'eu';
CREATE INDEX stripe_webhook_events_region_idx ON stripe_webhook_events (region);
CREATE TABLE stripe_regions (name VARCHAR PRIMARY KEY);

-- migrate:down
DROP TABLE stripe_regions;
ALTER TABLE subscriptions DROP COLUMN region;
ALTER TABLE stripe_webhook_events DROP COLUMN region;
`

// buildNext builds the program with a further migration, as the next release.
func buildNext(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	migration := write(t, 0o600, dir+"/migration.sql", nextMigration)
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{root + "/schema/" + nextVersion + "_create_stripe_regions.sql": migration}})
	if err != nil {
		t.Fatal(err)
	}
	return build(t, root, dir+"/next", "-overlay", write(t, 0o600, dir+"/overlay.json", string(overlay)))
}

// buildLastRelease builds the program of the newest release before this commit. Before the first release, the test is skipped.
func buildLastRelease(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", "HEAD^").Output()
	if err != nil {
		t.Skip("there is no release before this commit (git describe HEAD^)")
	}
	dir := t.TempDir()
	archive := exec.CommandContext(t.Context(), "sh", "-c", `mkdir "$2" && git -C .. archive "$1" | tar -x -C "$2"`, "sh", strings.TrimSpace(string(out)), dir+"/source")
	if out, err := archive.CombinedOutput(); err != nil {
		t.Fatalf("git archive: %v\n%s", err, out)
	}
	return build(t, dir+"/source", dir+"/last")
}

func build(t *testing.T, source, target string, flags ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append(append([]string{"build", "-buildvcs=false"}, flags...), "-o", target, "./cmd/stripeonce")...)
	cmd.Dir = source
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return target
}

// The next release migrates while this one serves, and both serve beside each other afterwards.
func TestNextRelease(t *testing.T) {
	t.Parallel()
	u := &upgrade{older: program, newer: buildNext(t), database: pgtest.NewEmptyURL(t)}
	u.rolls(t)
	u.refuses(t)
	u.rollsBack(t)
}

// This version migrates while the release before it serves, and both serve beside each other afterwards.
func TestLastRelease(t *testing.T) {
	t.Parallel()
	u := &upgrade{older: buildLastRelease(t), newer: program, database: pgtest.NewEmptyURL(t)}
	u.rolls(t)
}

// upgrade is a rolling deploy of a newer build beside an older one.
type upgrade struct {
	older, newer, database string
	old, next              *server
}

// awaitReady waits until /readyz has a status and a text. On a busy machine PostgreSQL may not answer a probe in time.
func (s *server) awaitReady(t *testing.T, status int, text string) {
	t.Helper()
	pgtest.Await(t, fmt.Sprintf("/readyz of %s is %d with %q", s.url, status, text), func() bool {
		got, body := s.get(t, "/readyz")
		return got == status && strings.Contains(body, text)
	})
}

// rolls migrates and deploys the newer build under load. No event is lost, and the older build never refuses one.
func (u *upgrade) rolls(t *testing.T) {
	t.Helper()
	env := environ("DATABASE_URL=" + u.database)
	if r := runBuild(t, u.older, env, "", "migrate"); r.code != 0 {
		t.Fatalf("the older migrate: %s", r)
	}
	u.old, u.next = serveBuild(t, u.older, env), serveBuild(t, u.newer, env)
	if r := runBuild(t, u.newer, env, "", "migrate", "status"); r.code == 1 { // a release need not have migrations
		u.next.awaitReady(t, http.StatusServiceUnavailable, "the database is not migrated: it lacks ")
		u.next.expect(t, subscriptionEvent("evt_early", 1700000000, "active"), http.StatusServiceUnavailable, "")
	}
	u.old.expect(t, subscriptionEvent("evt_early", 1700000000, "active"), http.StatusOK, webhooks.OutcomeProcessed)

	s := &storm{servers: []*server{u.old, u.next}}
	s.start()
	pgtest.Await(t, "events take effect before the migration", func() bool { return s.accepted.Load() > 50 })
	if r := runBuild(t, u.newer, env, "", "migrate"); r.code != 0 {
		t.Errorf("the newer migrate: %s", r)
	}
	u.next.awaitReady(t, http.StatusOK, "ready") // without a restart
	before := s.accepted.Load()
	pgtest.Await(t, "events take effect after the migration", func() bool { return s.accepted.Load() > before+50 })
	s.stop()
	if refused := s.refused[0].Load(); refused > 0 {
		t.Errorf("the older one refused %d deliveries: %s", refused, u.old.text())
	}
	pool := pgtest.Connect(t, u.database)
	const query = `SELECT count(*) || ' events, ' || (SELECT count(*) FROM subscriptions) || ' subscriptions, ' || (SELECT count(*) FROM stripe_webhook_failures) || ' failures'
		FROM stripe_webhook_events WHERE outcome = 'processed'`
	n := s.sent.Load()
	if got, want := pgtest.Scan[string](t, pool, query), fmt.Sprintf("%d events, %d subscriptions, 0 failures", n+1, n+1); got != want || s.accepted.Load() != n {
		t.Errorf("of %d events the tables have %s", n, got)
	}
	t.Logf("%d events, each delivered to both; the newer one refused %d deliveries before the migration", n, s.refused[1].Load())
	for i, one := range []*server{u.old, u.next} {
		other, id := []*server{u.next, u.old}[i], fmt.Sprintf("evt_late_%d", i)
		one.expect(t, stormEvent(id), http.StatusOK, webhooks.OutcomeProcessed)
		other.expect(t, stormEvent(id), http.StatusOK, webhooks.OutcomeDuplicate)
		one.awaitReady(t, http.StatusOK, "ready")
	}
}

// storm delivers events to all servers, each until all have accepted it, as Stripe does to one address with several replicas.
type storm struct {
	servers        []*server
	sent, accepted atomic.Int64
	refused        [2]atomic.Int64
	ending         atomic.Bool
	wg             sync.WaitGroup
}

func stormEvent(id string) []byte {
	return []byte(strings.ReplaceAll(string(subscriptionEvent(id, time.Now().Unix(), "active")), "sub_1", "sub_"+id))
}

func (s *storm) start() {
	for worker := range 4 {
		s.wg.Go(func() {
			for !s.ending.Load() {
				s.deliver(worker, stormEvent(fmt.Sprintf("evt_%d", s.sent.Add(1))))
			}
		})
	}
}

// deliver delivers an event to each server, beginning with another one for each worker. A server that refuses it gets it again if
// no other has accepted it.
func (s *storm) deliver(worker int, body []byte) {
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); {
		done := false
		for i := range s.servers {
			at := (worker + i) % len(s.servers)
			if reply, err := s.servers[at].sender.Send(context.Background(), body); err == nil && reply.OK() {
				done = true
			} else {
				s.refused[at].Add(1)
			}
		}
		if done {
			s.accepted.Add(1)
			return
		}
	}
}

func (s *storm) stop() {
	s.ending.Store(true)
	s.wg.Wait()
}

// refuses checks what the older build says of the newer schema, and that its migrate changes nothing.
func (u *upgrade) refuses(t *testing.T) {
	t.Helper()
	const told = "a newer version of stripeonce has migrated the database"
	env := environ("DATABASE_URL=" + u.database)
	if log := u.old.text(); strings.Count(log, told) != 1 || !strings.Contains(log, "unknown_migrations="+nextVersion) {
		t.Errorf("the older one does not say once that the schema is newer:\n%s", log)
	}
	again := serveBuild(t, u.older, env) // a pod that restarts during the deploy, or after it was undone
	again.awaitReady(t, http.StatusOK, "ready")
	if !strings.Contains(again.text(), told) {
		t.Errorf("started again, the older one does not say that the schema is newer:\n%s", again.text())
	}
	r := runBuild(t, u.older, env, "", "migrate")
	if r.code != 0 || !strings.Contains(r.stderr, "No migrations to apply.") || !strings.Contains(r.stdout, "unknown  "+nextVersion+", which a newer version") {
		t.Errorf("the older migrate: %s", r)
	}
	r = runBuild(t, u.older, env, "", "migrate", "rollback")
	if r.code != 2 || !strings.Contains(r.stderr, told) || !strings.Contains(r.stderr, nextVersion+": use the version that applied it") {
		t.Errorf("the older migrate rollback: %s", r)
	}
	if r := runBuild(t, u.newer, env, "", "migrate", "status"); r.code != 0 {
		t.Errorf("the older one changed the schema: %s", r)
	}
	if r := runBuild(t, u.older, env, "", "events", "--limit", "1", "--json"); r.code != 0 || !strings.Contains(r.stdout, `"evt_`) {
		t.Errorf("the older events: %s", r)
	}
}

// rollsBack undoes the migration while both serve: the newer one stops taking deliveries, the older one goes on.
func (u *upgrade) rollsBack(t *testing.T) {
	t.Helper()
	if r := runBuild(t, u.newer, environ("DATABASE_URL="+u.database), "", "migrate", "rollback"); r.code != 0 {
		t.Fatalf("the newer migrate rollback: %s", r)
	}
	u.next.awaitReady(t, http.StatusServiceUnavailable, nextVersion)
	u.next.expect(t, stormEvent("evt_after"), http.StatusServiceUnavailable, "")
	u.old.expect(t, stormEvent("evt_after"), http.StatusOK, webhooks.OutcomeProcessed)
}

// A schema that is too new for this version, which lacks a column that it writes, costs no event: deliveries are answered 503 with the
// reason in /readyz, and take effect once a newer version, or the column, is there.
func TestSchemaTooNew(t *testing.T) {
	t.Parallel()
	database := pgtest.NewURL(t)
	pool := pgtest.Connect(t, database)
	s := serve(t, environ("DATABASE_URL="+database))
	s.expect(t, stormEvent("evt_before"), http.StatusOK, webhooks.OutcomeProcessed)
	pgtest.Exec(t, pool, `ALTER TABLE stripe_webhook_events DROP COLUMN receiver`)
	s.expect(t, stormEvent("evt_1"), http.StatusServiceUnavailable, "")
	s.awaitReady(t, http.StatusServiceUnavailable, `column \"receiver\"`)
	pgtest.Exec(t, pool, `ALTER TABLE stripe_webhook_events ADD COLUMN receiver VARCHAR NOT NULL DEFAULT ''`)
	s.awaitReady(t, http.StatusOK, "ready")
	s.expect(t, stormEvent("evt_1"), http.StatusOK, webhooks.OutcomeProcessed)
}
