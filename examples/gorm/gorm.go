// Package gorm adds up payments in a GORM model (https://gorm.io), in the event's transaction.
package gorm

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"
	"github.com/stripe/stripe-go/v85"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/sqltx"
)

// Account is one of the application's models.
type Account struct {
	CustomerID string `gorm:"primaryKey"`
	PaidCents  int64
}

// Register registers a handler that adds up each customer's payments. db is the application's, as gorm.Open returned it.
func Register(h *webhooks.Handlers, db *gorm.DB) {
	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, inv *stripe.Invoice) error {
		if inv.Customer == nil {
			return nil
		}
		conn := sqltx.Open(tx)
		defer conn.Close()
		return inTx(ctx, db, conn).Clauses(clause.OnConflict{
			Columns:   []clause.Column{{Name: "customer_id"}},
			DoUpdates: clause.Assignments(map[string]any{"paid_cents": gorm.Expr("accounts.paid_cents + excluded.paid_cents")}),
		}).Create(&Account{CustomerID: inv.Customer.ID, PaidCents: inv.AmountPaid}).Error
	})
}

// inTx returns db on the connection of the event's transaction. Transactions that GORM begins by itself become savepoints.
func inTx(ctx context.Context, db *gorm.DB, conn *sql.DB) *gorm.DB {
	session := db.Session(&gorm.Session{Context: ctx, NewDB: true})
	session.Statement.ConnPool = conn
	return session
}
