package judge

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The checks of Failures.
const (
	CheckRecorded     = "every 500 has its record"
	CheckOnlyRecorded = "every failure record has its 500"
)

// CheckStillIgnored is the check of StillIgnored.
const CheckStillIgnored = "every event that no replica with a handler has seen is recorded as ignored, without an effect"

// Failed is an event of which a delivery was answered 500, or may have been. Its record must have at least AtLeast
// attempts and at most AtMost: duplicates that are in flight in one process share an attempt, so there may be fewer
// attempts than replies. AtLeast 0: there may be no record.
type Failed struct {
	EventID string
	AtLeast int
	AtMost  int
	// Payload is the payload that the record must have: the delivered body. Nil: any payload, or none.
	Payload []byte
}

// failuresQuery joins the failed events with the failure records. It compares the payloads as jsonb.
const failuresQuery = `
SELECT COALESCE(failed.event_id, f.event_id), failed.event_id IS NOT NULL, COALESCE(f.attempts, 0),
	COALESCE(failed.least, 0), COALESCE(failed.most, 0),
	failed.payload IS NULL OR f.event_id IS NULL OR f.payload IS NOT DISTINCT FROM failed.payload::jsonb
FROM unnest(@ids::text[], @least::int[], @most::int[], @payloads::text[]) AS failed (event_id, least, most, payload)
	FULL JOIN stripe_webhook_failures AS f ON f.event_id = failed.event_id
ORDER BY 1`

// Failures checks the failure records. failed has each event of which a delivery was answered 500 or got no response, once.
// Any other event must have no record.
func Failures(ctx context.Context, pool *pgxpool.Pool, failed []Failed) ([]Finding, error) {
	var ids []string
	var least, most []int
	var payloads []*string
	for _, f := range failed {
		ids, least, most = append(ids, f.EventID), append(least, f.AtLeast), append(most, f.AtMost)
		payloads = append(payloads, text(f.Payload))
	}
	rows, err := pool.Query(ctx, failuresQuery, pgx.NamedArgs{"ids": ids, "least": least, "most": most, "payloads": payloads})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CheckRecorded, err)
	}
	var findings []Finding
	var id string
	var known, kept bool
	var attempts, from, to int
	_, err = pgx.ForEachRow(rows, []any{&id, &known, &attempts, &from, &to, &kept}, func() error {
		switch {
		case !known:
			findings = append(findings, Finding{CheckOnlyRecorded, "failed attempts in the record of event " + id + ", which was never answered 500", 0, attempts})
		case attempts < from || attempts > to:
			findings = append(findings, Finding{CheckRecorded, "failed attempts in the record of event " + id, between(from, to), attempts})
		case !kept:
			findings = append(findings, Finding{CheckRecorded, "payload in the record of event " + id, "as delivered", "none, or another"})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CheckRecorded, err)
	}
	return findings, nil
}

func between(from, to int) any {
	if from == to {
		return from
	}
	return fmt.Sprintf("%d to %d", from, to)
}

func text(payload []byte) *string {
	if payload == nil {
		return nil
	}
	s := string(payload)
	return &s
}

// StillIgnored checks events that were delivered only to replicas without a handler: each is recorded as ignored and has no
// effect.
func StillIgnored(ctx context.Context, pool *pgxpool.Pool, ids []string) ([]Finding, error) {
	rows, err := pool.Query(ctx, `
SELECT id, COALESCE(l.outcome, 'no row'), (SELECT count(*)::int FROM effects WHERE event_id = id)
FROM unnest($1::text[]) AS id LEFT JOIN stripe_webhook_events AS l ON l.event_id = id ORDER BY id`, ids)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CheckStillIgnored, err)
	}
	var findings []Finding
	var id, outcome string
	var effects int
	_, err = pgx.ForEachRow(rows, []any{&id, &outcome, &effects}, func() error {
		if outcome != "ignored" {
			findings = append(findings, Finding{CheckStillIgnored, "outcome of event " + id, "ignored", outcome})
		}
		if effects != 0 {
			findings = append(findings, Finding{CheckStillIgnored, "effects of event " + id, 0, effects})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CheckStillIgnored, err)
	}
	return findings, nil
}
