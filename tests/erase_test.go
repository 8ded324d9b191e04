package tests

import (
	"testing"

	"github.com/pook/stripeonce/internal/pgtest"
)

// noWait stands for an erasure of long ago, so that the first one of a test need not wait for a minute.
const noWait = `INSERT INTO stripe_erasures (id_hash, livemode, customer_hash, erased_at) VALUES ('', FALSE, '', now() - INTERVAL '1 hour')`

// deliverAll delivers each event of the account once.
func (st *station) deliverAll(t *testing.T) {
	t.Helper()
	for _, ev := range st.account.Events {
		if reply, err := st.sender.Send(t.Context(), ev.Body); err != nil || reply.Status != 200 {
			t.Errorf("%s: %s, %v", ev.Type, reply, err)
		}
	}
}

// erase shows what it would remove, refuses wrong use, removes it with --yes, and verify and backfill leave it that way.
func TestErase(t *testing.T) {
	t.Parallel()
	st := newStation(t, 2)
	st.deliverAll(t)
	pool := pgtest.Connect(t, st.databaseURL)
	pgtest.Exec(t, pool, noWait)
	sub := st.account.Subscriptions[0]
	customer := sub.CustomerObject().ID()
	st.expect(t, 2, "erase", "--customer is missing")
	st.expect(t, 2, "erase --customer "+sub.ID(), "is not the id of a customer (cus_…)")
	st.expect(t, 2, "erase --customer in_1", "is not the id of a customer (cus_…)")
	st.expect(t, 2, "erase --yes --customer "+customer, "--reason is missing")
	st.expect(t, 2, "erase --yes --reason of_"+customer+" --customer "+customer, "the reason contains the customer's id")
	st.expect(t, 1, "erase --customer cus_unknown", "no data is stored of the customer cus_unknown of the receiver's own account", "check the id")
	st.expect(t, 1, "erase --account acct_1 --customer "+customer, "of account acct_1")
	dry := st.expect(t, 0, "erase --customer "+customer, "subscriptions", "Dry run: nothing was removed. To remove it: --yes --reason TEXT")
	if n := pgtest.Scan[int](t, pool, `SELECT count(*)::int FROM subscriptions`); n != 2 {
		t.Errorf("after a dry run there are %d subscriptions: %s", n, dry)
	}
	listed := lines(t, st.expect(t, 0, "erase --json --yes --reason request_4711 --customer "+customer))
	if len(listed) != 2 || listed[0]["table"] != "subscriptions" || listed[0]["id"] != sub.ID() || listed[1]["subscriptions"] != 1.0 || listed[1]["dry_run"] != false {
		t.Errorf("erase lists %v", listed)
	}
	st.expect(t, 0, "erase --yes --reason request_4711 --customer "+customer, "Nothing is stored of "+customer+" any more: it was erased before.")
	st.deliverAll(t)
	st.expect(t, 0, "backfill --here --type subscription")
	st.expect(t, 0, "verify --type subscription", "1 checked, 0 drifted, 0 fixed")
	const left = `SELECT concat_ws(' ', (SELECT count(*) FROM subscriptions), (SELECT count(*) FROM stripe_webhook_events WHERE object_id = $1),
		(SELECT string_agg(kind || ' ' || (arguments ->> 'customer_sha256') || ' ' || reason, ' ') FROM stripe_webhook_runs WHERE kind = 'erase'))`
	want := "1 0 erase " + pgtest.Scan[string](t, pool, `SELECT encode(sha256(convert_to($1, 'UTF8')), 'hex')`, customer) + " request_4711"
	if got := pgtest.Scan[string](t, pool, left, sub.ID()); got != want {
		t.Errorf("afterwards there are %s, want %s", got, want)
	}
}
