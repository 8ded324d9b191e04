package judge

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The checks of Acknowledged.
const (
	CheckAcknowledged = "every acknowledged event took effect exactly once"
	CheckAtMostOnce   = "every event took effect at most once"
	CheckOneToOne     = "every ledger row has its effect and every effect its ledger row"
)

// acknowledgedQueries select events that fail a check, with the number of their effects.
var acknowledgedQueries = []struct{ check, what, query string }{
	{CheckAcknowledged, "effects of the acknowledged event ", `
SELECT id, count(e.event_id)::int FROM unnest(@acknowledged::text[]) AS id LEFT JOIN effects AS e ON e.event_id = id
GROUP BY id HAVING count(e.event_id) <> 1 ORDER BY id`},
	{CheckAtMostOnce, "effects of event ", `
SELECT event_id, count(*)::int FROM effects WHERE @acknowledged::text[] IS NOT NULL
GROUP BY event_id HAVING count(*) > 1 ORDER BY event_id`},
	{CheckOneToOne, "ledger rows and effects, paired, of event ", `
SELECT COALESCE(l.event_id, e.event_id), 0 FROM
	(SELECT event_id FROM stripe_webhook_events WHERE outcome <> 'ignored' AND @acknowledged::text[] IS NOT NULL) AS l
	FULL JOIN effects AS e ON e.event_id = l.event_id
WHERE l.event_id IS NULL OR e.event_id IS NULL ORDER BY 1`},
}

// Acknowledged checks a receiver under faults. acknowledged has the id of each event that was answered with a 2xx, once.
// An event without a response may have taken effect or not.
func Acknowledged(ctx context.Context, pool *pgxpool.Pool, acknowledged []string) ([]Finding, error) {
	var findings []Finding
	for _, q := range acknowledgedQueries {
		rows, err := pool.Query(ctx, q.query, pgx.NamedArgs{"acknowledged": acknowledged})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", q.check, err)
		}
		var id string
		var times int
		_, err = pgx.ForEachRow(rows, []any{&id, &times}, func() error {
			findings = append(findings, Finding{q.check, q.what + id, 1, times})
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", q.check, err)
		}
	}
	return findings, nil
}
