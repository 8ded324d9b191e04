package stripesim

import (
	"slices"
	"strings"
	"time"

	"github.com/pook/stripeonce/internal/stripeobject"
)

// Address is the address of a customer. The zero value is null.
type Address struct {
	Line1, Line2, City, PostalCode, State string
	Country                               string // an ISO code of two letters, such as DE
}

// Customer is a customer of the account. Its methods change it and create the events of the change.
type Customer struct {
	customerResource

	oneOff        *Invoice // the newest one of no subscription that Account.Live created
	newest        newest
	subscriptions []*Subscription
	summary       *summary
}

type customerResource struct {
	resource[stripeobject.Customer, *stripeobject.Customer]
}

// AddCustomer creates a customer. Its events have an API version.
func (a *Account) AddCustomer(version string) *Customer {
	return a.addCustomer(a.ID, version, newID(a.billing, "cus_", 14))
}

func (a *Account) addCustomer(accountID, version, id string) *Customer {
	name := a.fullName()
	c := &Customer{customerResource: customerResource{newResource(a, Object{AccountID: accountID, Type: "customer", ID: id, Created: a.Now}, version, stripeobject.Customer{
		ID: id, Created: a.Now, Name: name, Email: strings.ToLower(newID(a.billing, "", 8)) + "@example.com", InvoicePrefix: strings.ToUpper(newID(a.billing, "", 8)), Metadata: map[string]string{},
	})}}
	a.Customers = append(a.Customers, c)
	a.keep(c)
	c.summary = a.newSummary(c)
	c.event(a.billing, "customer.created")
	return c
}

// Subscribe creates another subscription of the customer: status incomplete.
func (c *Customer) Subscribe() *Subscription {
	s := &Subscription{AccountID: c.about.AccountID, account: c.account, version: c.version, customer: c}
	s.state.ID, s.state.Customer = c.account.id("sub_1", 23), c.about.ID
	return s.begin("incomplete", 0)
}

// Subscriptions returns the customer's subscriptions, also the ended ones.
func (c *Customer) Subscriptions() []*Subscription { return slices.Clone(c.subscriptions) }

// Invoices returns the customer's invoices, also those of subscriptions, oldest first.
func (c *Customer) Invoices() []*Invoice {
	var all []*Invoice
	for _, i := range c.account.Invoices {
		if i.customer == c {
			all = append(all, i)
		}
	}
	return all
}

// update changes a customer who is not deleted.
func (c *Customer) update(change func(*stripeobject.Customer)) {
	if !c.about.Deleted {
		c.change("customer.updated", change)
	}
}

// SetName sets the name and the email address.
func (c *Customer) SetName(name, email string) {
	c.update(func(st *stripeobject.Customer) { st.Name, st.Email = name, email })
}

// SetMetadata sets a key. An empty value removes it.
func (c *Customer) SetMetadata(key, value string) {
	c.update(func(st *stripeobject.Customer) { setText(st.Metadata, key, value) })
}

// SetBalance sets the balance in cents. A negative balance is a credit for the next invoice.
func (c *Customer) SetBalance(balance int64) {
	c.update(func(st *stripeobject.Customer) { st.Balance = balance })
}

// SetAddress sets the address. Where there was one, previous_attributes have only what differs.
func (c *Customer) SetAddress(address Address) {
	c.update(func(st *stripeobject.Customer) { st.Address = stripeobject.Address(address) })
}

// SetPaymentMethod attaches a new payment method and makes it the default, in invoice_settings.
func (c *Customer) SetPaymentMethod() {
	id := newID(c.account.billing, "pm_1", 23)
	if c.about.Deleted {
		return
	}
	c.attach(id, c.version)
	c.update(func(st *stripeobject.Customer) { st.PaymentMethod = id })
}

// SetInvoiceFooter sets the footer in invoice_settings. Empty: null.
func (c *Customer) SetInvoiceFooter(footer string) {
	c.update(func(st *stripeobject.Customer) { st.Footer = footer })
}

// SetLocales sets the preferred locales.
func (c *Customer) SetLocales(locales ...string) {
	c.update(func(st *stripeobject.Customer) { st.Locales = locales })
}

// setDelinquent follows the most recent change of any invoice: a failed payment sets it, a paid or uncollectible invoice resets it.
func (c *Customer) setDelinquent(delinquent bool) {
	c.update(func(st *stripeobject.Customer) { st.Delinquent = delinquent })
}

// Delete deletes the customer. It ends the customer's subscriptions first. See https://docs.stripe.com/api/customers/delete.
func (c *Customer) Delete() {
	if c.about.Deleted {
		return
	}
	for _, s := range c.Subscriptions() {
		if !s.ended() {
			s.Delete()
		}
	}
	c.delete()
}

// AddInvoice creates a draft of an invoice of no subscription, with so many lines.
func (c *Customer) AddInvoice(lines int) *Invoice {
	a := c.account
	a.addCatalog(c.about.AccountID, c.version)
	i := a.newInvoice(c, newID(a.billing, "in_1", 23), nil)
	i.state.BillingReason, i.state.AutoAdvance = "manual", false
	for range lines {
		i.state.Lines = append(i.state.Lines, i.oneOff())
	}
	i.state.AmountDue = max(0, i.state.Total())
	i.event(a.billing, "invoice.created")
	return i
}

// The names and addresses of customers.
var (
	firstNames = []string{"Ada", "Björn", "Chloé", "Dmitri", "Emi", "Fatima", "Grace", "Håkon", "Inés", "Jürgen"}
	lastNames  = []string{"Lovelace", "Åkesson", "Dupont", "Ivanov", "Sato", "Haddad", "O'Brien", "Nygård", "Muñoz", "Groß"}
	cities     = []Address{
		{Line1: "1 Market St", City: "San Francisco", PostalCode: "94105", State: "CA", Country: "US"},
		{Line1: "354 Oyster Point Blvd", City: "San Francisco", PostalCode: "94080", State: "CA", Country: "US"},
		{Line1: "Torstraße 1", City: "Berlin", PostalCode: "10119", Country: "DE"},
		{Line1: "Torstraße 1", Line2: "Hinterhaus", City: "Berlin", PostalCode: "10119", Country: "DE"},
	}
)

const hour = int64(time.Hour / time.Second)

func (a *Account) fullName() string {
	return firstNames[a.billing.IntN(len(firstNames))] + " " + lastNames[a.billing.IntN(len(lastNames))]
}
