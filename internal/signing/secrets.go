package signing

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Split splits a text that holds several secrets, separated by commas or line ends, such as
// STRIPE_WEBHOOK_SECRET while a secret is rolled. White space around each is
// dropped; an empty entry is kept, for New to refuse.
func Split(value string) []string {
	return betweenSecrets.Split(strings.TrimSpace(value), -1)
}

var betweenSecrets = regexp.MustCompile(`\s*[,\n]\s*`)

// labelled is an entry of Config.Secrets with a label. What follows the first "=" must look like a secret,
// since secrets of other makers may end with "=".
var labelled = regexp.MustCompile(`^([A-Za-z0-9_.-]+)=(whsec_.*)$`)

// CutLabel takes apart an entry of Config.Secrets, "label=whsec_…". The label is empty if there is none.
func CutLabel(entry string) (label, secret string) {
	if parts := labelled.FindStringSubmatch(entry); parts != nil {
		return parts[1], parts[2]
	}
	return "", entry
}

// CheckSecrets says what is wrong with each entry of what would be Config.Secrets, without showing it.
func CheckSecrets(entries []string) error {
	if len(entries) == 0 {
		return errors.New("no secret is set: use the signing secret (whsec_…) that Stripe shows for the endpoint")
	}
	var errs []error
	labels, keys := map[string]int{}, map[string]int{}
	for i, entry := range entries {
		label, key := CutLabel(entry)
		if label == "" {
			label = strconv.Itoa(i + 1)
		}
		what := wrongWithSecret(key)
		if first := labels[label]; first > 0 {
			what = fmt.Sprintf("has the label %q, as secret %d has", label, first)
		}
		if first := keys[key]; first > 0 && what == "" {
			what = fmt.Sprintf("is the same as secret %d", first)
		}
		if what != "" {
			errs = append(errs, fmt.Errorf("secret %d %s", i+1, what))
		}
		labels[label], keys[key] = i+1, i+1
	}
	return errors.Join(errs...)
}

// otherKeys are what the beginnings of Stripe's other keys and ids stand for.
var otherKeys = map[string]string{
	"sk_": "a secret API key", "rk_": "a restricted API key", "pk_": "a publishable API key", "we_": "the id of an endpoint",
}

// placeholders are what examples put where a secret or a key goes, and elided is what is in such texts anywhere.
const (
	placeholders = `x{3,}|\*+|\.+|…|_*|your[_-].*|change[_-]?me|replace[_-]?(me|this|with.*)?|placeholder|todo`
	elided       = `…|\.\.\.|[<>{}$]`
)

// placeholder is what stands where a signing secret goes. Stripe's own are letters and digits after whsec_.
var placeholder = regexp.MustCompile(`(?i)^(whsec_)?(` + placeholders + `)$|` + elided)

// quoted is a secret with quotes around it, or behind its label.
var quoted = regexp.MustCompile("^[\"'`“]|=[\"'`“]|[\"'`”]$")

func wrongWithSecret(key string) string {
	switch {
	case strings.TrimSpace(key) == "":
		return "is empty: anyone could sign deliveries with it"
	case key != strings.TrimSpace(key):
		return "begins or ends with white space"
	case placeholder.MatchString(key):
		return "is a placeholder: replace it with the signing secret that Stripe shows for the endpoint"
	case quoted.MatchString(key):
		return "has quotes around it: remove them"
	case strings.ContainsAny(key, ",; \t\r\n"):
		return "contains several secrets or a separator: separate secrets by commas (in Go, split them with webhooks.SplitSecrets)"
	}
	for prefix, is := range otherKeys {
		if strings.HasPrefix(key, prefix) {
			return "is " + is + ", not a signing secret, which begins with whsec_"
		}
	}
	return ""
}
