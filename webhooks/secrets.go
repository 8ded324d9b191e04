package webhooks

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// SplitSecrets splits a text that holds several secrets, separated by commas or line ends, such as
// STRIPE_WEBHOOK_SECRET while a secret is rolled. White space around each is
// dropped; an empty entry is kept, for New to refuse.
func SplitSecrets(value string) []string {
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

// secret is one signing secret with the account of what it has verified.
type secret struct {
	label     string
	key       string
	matched   atomic.Uint64
	lastMatch atomic.Int64 // in nanoseconds since 1970, 0 for never
}

func newSecrets(entries []string) []*secret {
	secrets := make([]*secret, len(entries))
	for i, entry := range entries {
		label, key := CutLabel(entry)
		secrets[i] = &secret{label: either(label, strconv.Itoa(i+1)), key: key}
	}
	return secrets
}

func (s *secret) match(at time.Time) {
	s.matched.Add(1)
	s.lastMatch.Store(at.UnixNano())
}

// SecretStats say what one signing secret has verified since New.
type SecretStats struct {
	// Label is the secret's label, else its place in Config.Secrets, "1" for the first.
	Label string
	// Matched is how many deliveries it verified that no secret before it did.
	Matched uint64
	// LastMatch is when it last did. Zero if it never has.
	LastMatch time.Time
}

func (s *secret) stats() SecretStats {
	stats := SecretStats{Label: s.label, Matched: s.matched.Load()}
	if at := s.lastMatch.Load(); at != 0 {
		stats.LastMatch = time.Unix(0, at)
	}
	return stats
}

// CheckSecrets says what is wrong with each entry of what would be Config.Secrets, without showing it: New
// refuses the same.
func CheckSecrets(entries []string) error {
	if len(entries) == 0 {
		return errors.New("there is none: give it the signing secret (whsec_…) that Stripe shows for the endpoint")
	}
	var errs []error
	labels, keys := map[string]int{}, map[string]int{}
	for i, entry := range entries {
		label, key := CutLabel(entry)
		label = either(label, strconv.Itoa(i+1))
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

// CheckAPIKey says what is wrong with what would be Config.APIKey, without showing it: New refuses the same. White
// space around the key is trimmed, and an empty key is no error: Stripe is never asked then.
func CheckAPIKey(key string) error {
	key = trimKey(key)
	if key == "" {
		return nil
	}
	if is := wrongWithKey(key); is != "" {
		return fmt.Errorf("it %s: give it a secret or a restricted key (sk_…, rk_…) from Stripe's dashboard", is)
	}
	return nil
}

// trimKey takes off what a file or a shell leaves around a key, such as the end of a line.
func trimKey(key string) string { return strings.TrimSpace(key) }

var (
	bearer = regexp.MustCompile(`(?i)^(authorization:\s*)?bearer\b`)
	// noKey is what examples put in place of a key: behind its prefix or instead of it.
	noKey = regexp.MustCompile(`(?i)^([sr]k_((org_)?(test|live)_)?)?(` + placeholders + `)$|` + elided)
	// Of the key itself nothing is shown, so the prefix is what stands before the first "_", if that is short.
	keyPrefix = regexp.MustCompile(`^[A-Za-z]{2,8}_`)
	keyText   = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
)

func wrongWithKey(key string) string {
	prefix := keyPrefix.FindString(key)
	switch {
	case quoted.MatchString(key):
		return "stands in quotes, which are not part of it"
	case bearer.MatchString(key):
		return `begins with "Bearer", which is not part of it`
	case noKey.MatchString(key):
		return "is a placeholder"
	case strings.ContainsAny(key, " \t\r\n\v\f"):
		return "has white space inside"
	case prefix == "pk_":
		return "is a publishable key, with which nothing can be read"
	case prefix == "whsec_":
		return "is a signing secret"
	case prefix == "we_":
		return "is the id of a webhook endpoint"
	case !keyText.MatchString(key):
		return "has a character that is in no key, which is of letters, digits and _"
	case prefix != "" && prefix != "sk_" && prefix != "rk_":
		return "begins with " + prefix + ", as an id or a key of another kind"
	}
	return ""
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
		return "is empty: anybody could sign with it"
	case key != strings.TrimSpace(key):
		return "begins or ends with white space"
	case placeholder.MatchString(key):
		return "is a placeholder: put the signing secret there that Stripe shows for the endpoint"
	case quoted.MatchString(key):
		return "stands in quotes, which are not part of it"
	case strings.ContainsAny(key, ",; \t\r\n"):
		return "holds several, or what stands between them: give each as an entry of its own, as SplitSecrets does"
	}
	for prefix, is := range otherKeys {
		if strings.HasPrefix(key, prefix) {
			return "is " + is + ", not a signing secret, which begins with whsec_"
		}
	}
	return ""
}
