package stripesim

import (
	"fmt"

	"github.com/pook/stripeonce/internal/stripeobject"
)

// CreditNote is a credit note of an invoice. Its methods change it and create the events of the change, also those of the invoice.
// They do nothing where Stripe would refuse the change: https://docs.stripe.com/invoicing/integration/programmatic-credit-notes.
type CreditNote struct {
	creditNoteResource

	invoice *Invoice
}

type creditNoteResource struct {
	resource[stripeobject.CreditNote, *stripeobject.CreditNote]
}

// creditedLine is the amount of one line of a credit note, in cents.
const creditedLine = 10

// AddCreditNote credits 10 cents each for so many lines of an open or a paid invoice: invoice.updated and credit_note.created. It
// returns nil where Stripe would refuse it, or an open invoice would be paid by it.
func (i *Invoice) AddCreditNote(lines int) *CreditNote {
	a, total := i.account, int64(lines)*creditedLine
	st := &i.state
	paid := i.hasStatus("paid")
	if !i.hasStatus("open", "paid") || lines < 1 || total+st.CreditedAfter >= st.AmountDue {
		return nil
	}
	a.credited++
	id := newID(a.others, "cn_1", 23)
	n := &CreditNote{invoice: i, creditNoteResource: creditNoteResource{newResource(a, i.customer.owns("credit_note", id), i.version, stripeobject.CreditNote{
		ID: id, Invoice: i.about.ID, Customer: i.customer.about.ID, Number: fmt.Sprintf("%s-CN-%02d", st.Number, a.credited), Status: "issued",
		AfterPayment: paid, Created: a.Now, Metadata: map[string]string{},
	})}}
	for at := range lines {
		n.state.Lines = append(n.state.Lines, stripeobject.CreditNoteLine{
			ID: newID(a.others, "cnli_1", 23), InvoiceLine: st.Lines[at%len(st.Lines)].ID, Amount: creditedLine,
		})
	}
	a.CreditNotes = append(a.CreditNotes, n)
	a.keep(n)
	i.newestCredit = n
	i.credited(paid, total)
	n.event(a.others, "credit_note.created")
	return n
}

// credited changes what is due by a credit note, or what was credited after the payment.
func (i *Invoice) credited(paid bool, total int64) {
	i.happen("invoice.updated", func(st *stripeobject.BilledInvoice) {
		if paid {
			st.CreditedAfter += total
			return
		}
		st.Credited += total
		st.AmountDue -= total
	})
}

// Status returns the current status: issued or void.
func (n *CreditNote) Status() string { return n.state.Status }

// SetMemo sets the memo.
func (n *CreditNote) SetMemo(memo string) {
	n.happen("credit_note.updated", func(st *stripeobject.CreditNote) { st.Memo = memo })
}

// SetMetadata sets a key. An empty value removes it.
func (n *CreditNote) SetMetadata(key, value string) {
	n.happen("credit_note.updated", func(st *stripeobject.CreditNote) { setText(st.Metadata, key, value) })
}

// Void voids a credit note of an invoice that is still open: credit_note.voided and invoice.updated.
func (n *CreditNote) Void() {
	if n.state.Status == "void" || n.state.AfterPayment || !n.invoice.hasStatus("open") {
		return
	}
	n.happen("credit_note.voided", func(st *stripeobject.CreditNote) { st.Status, st.VoidedAt = "void", n.account.Now })
	n.invoice.credited(false, -n.state.Total())
}
