package webhooks_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// Somebody cancels a COMMIT that waits for its synchronous standby: PostgreSQL warns, commits on this server alone, and
// says COMMIT. That is no success: 503, in the prepared protocol and in the simple one. The retry is acknowledged from
// what was committed here, as the docs say.
func TestCanceledWaitForTheStandby(t *testing.T) {
	t.Parallel()
	admin := pgtest.Connect(t, newCluster(t, pglocal.Config{}))
	pgtest.Exec(t, admin, `CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)`)
	hosts := map[string]*hooktest.Host{}
	for _, mode := range []string{"cache_statement", "exec"} {
		pool := pgtest.Connect(t, admin.Config().ConnString()+"&default_query_exec_mode="+mode)
		hosts[mode] = hooktest.On(t, pool, counting(succeed), func(c *webhooks.Config) { c.CommitTimeout, c.Timeout = time.Hour, time.Hour })
		isReady(t, hosts[mode])
	}
	pgtest.Exec(t, admin, `ALTER SYSTEM SET synchronous_standby_names = 'a_standby_that_is_not_there'`)
	pgtest.Exec(t, admin, `SELECT pg_reload_conf()`)
	type answer struct {
		body  []byte
		reply delivery.Reply
	}
	for mode, host := range hosts {
		for _, how := range []string{"pg_cancel_backend", "pg_terminate_backend"} {
			refused := make(chan answer, 1)
			go func() {
				for i := 0; ; i++ { // until the server has read its new setting, commits still succeed
					body := hooktest.Event(fmt.Sprint("evt_", mode, how, i), "test.event", 1, `{}`)
					reply, err := host.Sender.Send(context.Background(), body)
					if err != nil || reply.Status != http.StatusOK {
						refused <- answer{body, reply}
						return
					}
				}
			}()
			const waits = `FROM pg_stat_activity WHERE wait_event = 'SyncRep'`
			pgtest.AwaitSQL(t, admin, "COMMIT waits for the standby", `SELECT EXISTS (SELECT `+waits+`)`)
			pgtest.Exec(t, admin, `SELECT `+how+`(pid) `+waits)
			got := pgtest.Receive(t, "the reply", refused)
			if got.reply.Status != http.StatusServiceUnavailable {
				t.Errorf("%s in %s: the reply is %s, want 503", how, mode, got.reply)
			}
			host.Expect(t, got.body, 200, webhooks.OutcomeDuplicate)
		}
	}
	if n := hosts["exec"].Count(t, "stripe_webhook_failures"); n != 0 {
		t.Errorf("%d failures are recorded", n)
	}
}
