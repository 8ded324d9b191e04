package console

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxSummary is how many characters of each part a summary has.
const maxSummary = 60

// glance has the members of any type of object that a person recognizes it by.
type glance struct {
	Number, Name, Email, Nickname, Description, Code, Currency string
	Total, AmountTotal, Amount, UnitAmount, AmountOff          *int64
	PercentOff                                                 *float64
	Card                                                       card
}

type card struct{ Brand, Last4 string }

// glanceAt reads an object's members. A member of another type, such as an amount that is a text, is left out.
func glanceAt(object []byte) (g glance) {
	var m map[string]json.RawMessage
	if json.Unmarshal(object, &m) != nil {
		return g
	}
	g.Number, g.Name, g.Email, g.Nickname = member[string](m["number"]), member[string](m["name"]), member[string](m["email"]), member[string](m["nickname"])
	g.Description, g.Code, g.Currency = member[string](m["description"]), member[string](m["code"]), member[string](m["currency"])
	g.Total, g.AmountTotal, g.Amount = member[*int64](m["total"]), member[*int64](m["amount_total"]), member[*int64](m["amount"])
	g.UnitAmount, g.AmountOff, g.PercentOff = member[*int64](m["unit_amount"]), member[*int64](m["amount_off"]), member[*float64](m["percent_off"])
	g.Card = member[card](m["card"])
	return g
}

// member decodes a member; the zero T if it is missing or not a T.
func member[T any](text json.RawMessage) T {
	var value, none T
	if json.Unmarshal(text, &value) != nil {
		return none
	}
	return value
}

// summary describes an object in a few words: its amount, number, name and so on.
func summary(object []byte) string {
	g := glanceAt(object)
	var parts []string
	for _, n := range []*int64{g.Total, g.AmountTotal, g.Amount, g.UnitAmount, g.AmountOff} {
		if n != nil {
			parts = append(parts, amount(*n, g.Currency))
			break
		}
	}
	if g.PercentOff != nil {
		parts = append(parts, strconv.FormatFloat(*g.PercentOff, 'f', -1, 64)+" %")
	}
	if g.Card.Last4 != "" {
		parts = append(parts, strings.TrimSpace(g.Card.Brand+" •••• "+g.Card.Last4))
	}
	for _, text := range []string{g.Number, g.Name, g.Email, g.Nickname, g.Code, g.Description} {
		if text = strings.TrimSpace(text); text != "" && !slices.Contains(parts, text) {
			parts = append(parts, cut(text))
		}
	}
	return strings.Join(parts, " · ")
}

func cut(text string) string {
	if runes := []rune(text); len(runes) > maxSummary {
		return string(runes[:maxSummary]) + "…"
	}
	return text
}

// The currencies whose minor units are not hundredths: https://docs.stripe.com/currencies.
var (
	zeroDecimals  = []string{"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"}
	threeDecimals = []string{"bhd", "jod", "kwd", "omr", "tnd"}
)

// amount formats an amount in the currency's minor units.
func amount(n int64, currency string) string {
	digits, sign := 2, ""
	switch {
	case currency == "":
		return count(n)
	case slices.Contains(zeroDecimals, currency):
		digits = 0
	case slices.Contains(threeDecimals, currency):
		digits = 3
	}
	text := strings.TrimPrefix(strconv.FormatInt(n, 10), "-")
	if n < 0 {
		sign = "-"
	}
	if len(text) <= digits {
		text = strings.Repeat("0", digits+1-len(text)) + text
	}
	whole, fraction := text[:len(text)-digits], text[len(text)-digits:]
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if digits > 0 {
		whole += "." + fraction
	}
	return fmt.Sprintf("%s%s %s", sign, whole, strings.ToUpper(currency))
}

// statusTone returns the CSS class of the status of any object.
func statusTone(status string) string {
	switch status {
	case "paid", "succeeded", "active", "complete", "won", "warning_closed", "accepted", "available":
		return "good"
	case "open", "pending", "processing", "past_due", "uncollectible", "needs_response", "under_review", "warning_needs_response", "warning_under_review",
		"requires_payment_method", "requires_confirmation", "requires_action", "requires_capture":
		return "warn"
	case "failed", "lost":
		return "bad"
	default:
		return "quiet"
	}
}

// dashboardPages are the sections of Stripe's dashboard that have a page for each object of a type. Its search finds the others.
var dashboardPages = map[string]string{
	"customer": "customers", "subscription": "subscriptions", "invoice": "invoices", "charge": "payments", "payment_intent": "payments",
	"product": "products", "price": "prices", "coupon": "coupons", "payout": "payouts", "quote": "quotes",
	"subscription_schedule": "subscription_schedules", "event": "events", "payment_link": "payment-links", "tax_rate": "tax-rates",
	"webhook_endpoint": "webhooks",
}

// dashboard returns the URL of an object in Stripe's dashboard.
func (p place) dashboard(kind, id string) string {
	base := "https://dashboard.stripe.com"
	if p.Account != "" {
		base += "/" + url.PathEscape(p.Account)
	}
	if !p.Livemode {
		base += "/test"
	}
	if section, known := dashboardPages[kind]; known {
		return base + "/" + section + "/" + url.PathEscape(id)
	}
	return base + "/search?" + url.Values{"query": {id}}.Encode()
}

// piece is a piece of a JSON text. One with the ID of another object, and the member that has it, links to the search.
type piece struct{ Text, ID string }

// stripeID matches ids that Stripe makes, of the objects and events that the search finds, each with its member.
var stripeID = regexp.MustCompile(`(?:"\w+": )?"((?:cus|sub|sub_sched|in|ii|inpay|ch|py|pi|seti|pm|re|pyr|du|dp|cn|prod|price|plan|promo|txi|txr|cs|qt|po|tr|tu|plink|mandate|evt)_\w+)"`)

// pieces splits a JSON text at the ids in it.
func pieces(text string) (list []piece) {
	end := 0
	for _, at := range stripeID.FindAllStringSubmatchIndex(text, -1) {
		list = append(list, piece{Text: text[end:at[0]]}, piece{text[at[0]:at[1]], text[at[2]:at[3]]})
		end = at[1]
	}
	return append(list, piece{Text: text[end:]})
}
