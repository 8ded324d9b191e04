package notifications_test

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"net/smtp"
	"os"

	"github.com/getsentry/sentry-go"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/examples/notifications"
	"github.com/pook/stripeonce/webhooks"
)

// In a host application these exist already.
var (
	pool     *pgxpool.Pool
	handlers = webhooks.NewHandlers()
)

func ExampleSlack() {
	slack := notifications.Slack(os.Getenv("SLACK_WEBHOOK_URL"), slog.Default())
	r, err := webhooks.New(pool, handlers, &webhooks.Config{
		Secrets:   webhooks.SplitSecrets(os.Getenv("STRIPE_WEBHOOK_SECRET")),
		OnFailure: notifications.FirstAttempts(slack),
		OnParked:  slack,
	})
	if err != nil {
		log.Fatal(err)
	}
	slack(context.Background(), webhooks.Notice{EventID: "evt_test", Attempts: 1, Err: errors.New("a test of the alert")})
	_ = r // to be mounted
}

func ExampleEmail() {
	email := notifications.Email(notifications.Mail{
		Addr: "smtp.example.com:587",
		Auth: smtp.PlainAuth("", "alerts", os.Getenv("SMTP_PASSWORD"), "smtp.example.com"),
		From: "alerts@example.com",
		To:   "ops@example.com",
	}, slog.Default())
	_ = webhooks.Config{OnFailure: notifications.FirstAttempts(email), OnParked: email}
}

func ExampleSentry() {
	if err := sentry.Init(sentry.ClientOptions{Dsn: os.Getenv("SENTRY_DSN")}); err != nil {
		log.Fatal(err)
	}
	toSentry := notifications.Sentry(sentry.CurrentHub(), slog.Default())
	_ = webhooks.Config{OnFailure: toSentry, OnParked: toSentry}
}
