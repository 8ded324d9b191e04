package stripesim

import (
	"slices"
	"strings"

	"github.com/pook/stripeonce/internal/stripeobject"
)

// Product is a product of the account. Its methods change it and create the events of the change.
type Product struct {
	productResource

	features []*Feature // see Account.AttachFeature
}

type productResource struct {
	resource[stripeobject.Product, *stripeobject.Product]
}

// AddProduct creates a product, whose events have an API version. An empty id is drawn. Another id is the caller's choice, as at
// Stripe: it may be that of a deleted product. If the product exists, AddProduct returns it.
func (a *Account) AddProduct(version, id, name string) *Product {
	if id == "" {
		id = newID(a.billing, "prod_", 14)
	}
	return a.addProduct(a.ID, version, id, name)
}

func (a *Account) addProduct(accountID, version, id, name string) *Product {
	if old := a.product(accountID, id); old != nil {
		if !old.about.Deleted {
			return old
		}
		a.Products = slices.DeleteFunc(a.Products, func(p *Product) bool { return p == old })
		a.replaceStored(old)
	}
	p := &Product{productResource: productResource{newResource(a, Object{AccountID: accountID, Type: "product", ID: id, Created: a.Now}, version, stripeobject.Product{
		ID: id, Name: name, Active: true, Created: a.Now, Updated: a.Now, Metadata: map[string]string{},
	})}}
	a.Products = append(a.Products, p)
	a.keep(p)
	p.event(a.billing, "product.created")
	return p
}

func (a *Account) product(accountID, id string) *Product {
	for _, p := range a.Products {
		if p.about.AccountID == accountID && p.about.ID == id {
			return p
		}
	}
	return nil
}

// update also sets the member updated, as Stripe does.
func (p *Product) update(change func(*stripeobject.Product)) {
	now := p.account.Now
	if !p.about.Deleted {
		p.change("product.updated", func(st *stripeobject.Product) {
			change(st)
			st.Updated = now
		})
	}
}

// SetName sets the name and the description.
func (p *Product) SetName(name, description string) {
	p.update(func(st *stripeobject.Product) { st.Name, st.Description = name, description })
}

// SetMetadata sets a key. An empty value removes it.
func (p *Product) SetMetadata(key, value string) {
	p.update(func(st *stripeobject.Product) { setText(st.Metadata, key, value) })
}

// SetFeatures sets the names of the marketing features, an array that previous_attributes have complete.
func (p *Product) SetFeatures(names ...string) {
	p.update(func(st *stripeobject.Product) { st.Features = names })
}

// SetDefaultPrice sets the default price.
func (p *Product) SetDefaultPrice(price *Price) {
	p.update(func(st *stripeobject.Product) { st.DefaultPrice = price.about.ID })
}

// SetActive archives the product, or makes it active again.
func (p *Product) SetActive(active bool) {
	p.update(func(st *stripeobject.Product) { st.Active = active })
}

// Delete deletes the product, unless it has prices: Stripe refuses that.
func (p *Product) Delete() {
	priced := slices.ContainsFunc(p.account.Prices, func(price *Price) bool {
		return price.about.AccountID == p.about.AccountID && price.state.Product == p.about.ID
	})
	if !priced && !p.about.Deleted {
		p.delete()
	}
}

// Price is a price of a product. Its methods change it and create the events of the change.
type Price struct {
	priceResource
}

type priceResource struct {
	resource[stripeobject.Price, *stripeobject.Price]
}

// AddPrice creates a price of the product, in cents, for an interval: month, year, or none for a one-time price.
func (p *Product) AddPrice(amount int64, interval string) *Price {
	return p.addPrice(newID(p.account.billing, "price_1", 23), amount, interval)
}

func (p *Product) addPrice(id string, amount int64, interval string) *Price {
	a, accountID := p.account, p.about.AccountID
	price := &Price{priceResource{newResource(a, Object{AccountID: accountID, Type: "price", ID: id, Created: a.Now}, p.version, stripeobject.Price{
		ID: id, Product: p.about.ID, Active: true, Amount: amount, Interval: interval, Created: a.Now, Metadata: map[string]string{},
	})}}
	a.Prices = append(a.Prices, price)
	a.keep(price)
	price.event(a.billing, "price.created")
	return price
}

func (p *Price) update(change func(*stripeobject.Price)) { p.change("price.updated", change) }

// SetNickname sets the nickname.
func (p *Price) SetNickname(nickname string) {
	p.update(func(st *stripeobject.Price) { st.Nickname = nickname })
}

// SetMetadata sets a key. An empty value removes it.
func (p *Price) SetMetadata(key, value string) {
	p.update(func(st *stripeobject.Price) { setText(st.Metadata, key, value) })
}

// SetActive archives the price, or makes it active again.
func (p *Price) SetActive(active bool) {
	p.update(func(st *stripeobject.Price) { st.Active = active })
}

// SetLookupKey sets the lookup key. A price that had it loses it first, as with transfer_lookup_key: see
// https://docs.stripe.com/api/prices/update.
func (p *Price) SetLookupKey(key string) {
	for _, other := range p.account.Prices {
		if key != "" && other != p && other.about.AccountID == p.about.AccountID && other.state.LookupKey == key {
			other.update(func(st *stripeobject.Price) { st.LookupKey = "" })
		}
	}
	p.update(func(st *stripeobject.Price) { st.LookupKey = key })
}

// addCatalog creates the products and prices of subscriptions in an account that does not have them yet.
func (a *Account) addCatalog(accountID, version string) {
	if a.product(accountID, catalog[0].Product) != nil {
		return
	}
	for i, name := range []string{"Basic", "Team", "Audit add-on", "Seats add-on"} {
		p := a.addProduct(accountID, version, catalog[i].Product, name)
		monthly := p.addPrice(catalog[i].Price, catalog[i].Amount, "month")
		if i < 2 {
			p.AddPrice(10*catalog[i].Amount, "year").SetNickname(name + ", yearly")
			p.SetDefaultPrice(monthly)
		}
		for _, key := range catalogFeatures[i] {
			a.AttachFeature(p, a.addFeature(accountID, key, strings.ReplaceAll(key, "-", " ")))
		}
	}
}
