package console

import (
	"html/template"
	"net/url"
	"time"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/subscriptions"
)

// table is a table of a page.
type table struct {
	Columns []string
	Rows    [][]cell
}

// cell is a cell of a table: an id, which may be a link, a text, pills or a time.
type cell struct {
	ID    string
	Path  template.URL // of the id; empty: no link
	Text  string
	Pills []pill
	At    *time.Time
}

// pill is a short text with a color.
type pill struct{ Text, Tone string }

// objectColumns are the columns of a table of objects that not every table has.
type objectColumns struct{ kind, customer, updated bool }

func (c *Console) objectTable(rows []db.StripeObject, columns objectColumns) *table {
	t := &table{Columns: []string{"Object"}}
	for _, column := range []struct {
		name  string
		shown bool
	}{
		{"Type", columns.kind}, {"Status", true}, {"Summary", !c.config.HidePayloads}, {"Customer", columns.customer},
		{"Created", true}, {"Row updated", columns.updated},
	} {
		if column.shown {
			t.Columns = append(t.Columns, column.name)
		}
	}
	for i := range rows {
		t.Rows = append(t.Rows, c.objectRow(&rows[i], columns))
	}
	return t
}

func (c *Console) objectRow(o *db.StripeObject, columns objectColumns) []cell {
	at := placeOf(o)
	row := []cell{{ID: o.ID, Path: at.object(o.ObjectType, o.ID)}}
	if columns.kind {
		row = append(row, cell{Text: o.ObjectType})
	}
	row = append(row, cell{Pills: pillsOf(o)})
	if !c.config.HidePayloads {
		row = append(row, cell{Text: summary(o.Object)})
	}
	if columns.customer {
		row = append(row, customerCell(at, orEmpty(o.CustomerID)))
	}
	row = append(row, cell{At: o.StripeCreatedAt})
	if columns.updated {
		row = append(row, cell{At: &o.UpdatedAt})
	}
	return row
}

func customerCell(at place, id string) cell {
	if id == "" {
		return cell{}
	}
	return cell{ID: id, Path: at.object("customer", id)}
}

// pillsOf returns an object's status, and that it is deleted or incomplete.
func pillsOf(o *db.StripeObject) (pills []pill) {
	if o.Status != nil && *o.Status != "" {
		pills = append(pills, pill{*o.Status, statusTone(*o.Status)})
	}
	if o.Deleted {
		pills = append(pills, pill{"deleted", "bad"})
	}
	if !o.ListsComplete {
		pills = append(pills, pill{"incomplete", "warn"})
	}
	return pills
}

func subscriptionTable(list []*subscriptions.Subscription) *table {
	t := &table{Columns: []string{"Subscription", "Status", "Price", "Quantity", "Period ends", "Created"}}
	for _, s := range list {
		t.Rows = append(t.Rows, []cell{
			{ID: s.ID, Path: template.URL("/subscriptions/" + url.PathEscape(s.ID))}, //nolint:gosec // encoded here
			{Pills: []pill{{string(s.Status), tone(s.Status)}}}, {ID: s.PriceID}, {Text: quantity(s.Quantity)}, {At: s.CurrentPeriodEnd}, {At: s.Created},
		})
	}
	return t
}
