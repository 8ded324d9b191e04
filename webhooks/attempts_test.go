package webhooks_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// A handler that does not return holds back no reply, also where an attempt before it got as far as COMMIT: what is being
// committed is waited for, and what is not is answered when its time is up.
func TestHandlerThatDoesNotReturnInSecondAttempt(t *testing.T) {
	t.Parallel()
	blocked, begun := make(chan struct{}), make(chan int, 10)
	attempts := 0
	host := newCounter(t, counting(func(ctx context.Context, tx pgx.Tx) error {
		attempts++
		begun <- attempts
		if attempts == 1 {
			return exec(`INSERT INTO refused VALUES (1)`)(ctx, tx)
		}
		<-blocked
		return nil
	}), func(c *webhooks.Config) { c.Timeout = 5 * time.Second })
	pgtest.Exec(t, host.Pool, `CREATE TABLE refused (n int);
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$`)
	pgtest.Exec(t, host.Pool, `CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON refused DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`)
	isReady(t, host)
	t.Cleanup(func() { close(blocked) })
	host.Expect(t, testEvent, 500, "")
	if n := len(begun); n != 2 {
		t.Errorf("the handler ran %d times, want 2", n)
	}
	if n := host.Receiver.Stats().InFlight; n != 1 {
		t.Errorf("%d are in flight, want the one that was left behind", n)
	}
	expectCounter(t, host, 0)
}
