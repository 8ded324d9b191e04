package signing

import (
	"fmt"
	"regexp"
	"strings"
)

// CheckAPIKey returns an error that explains why key cannot be Config.APIKey, without showing the key. White space around
// the key is trimmed. An empty key is no error: nothing is fetched from Stripe then.
func CheckAPIKey(key string) error {
	key = TrimAPIKey(key)
	if key == "" {
		return nil
	}
	if is := wrongWithKey(key); is != "" {
		return fmt.Errorf("the key %s: use a secret or restricted key (sk_…, rk_…) from Stripe's dashboard", is)
	}
	return nil
}

// TrimAPIKey removes what a file or a shell leaves around a key, such as the end of a line.
func TrimAPIKey(key string) string { return strings.TrimSpace(key) }

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
		return "has quotes around it: remove them"
	case bearer.MatchString(key):
		return `begins with "Bearer": remove it`
	case noKey.MatchString(key):
		return "is a placeholder"
	case strings.ContainsAny(key, " \t\r\n\v\f"):
		return "has white space inside"
	case prefix == "pk_":
		return "is a publishable key, which cannot read objects"
	case prefix == "whsec_":
		return "is a signing secret"
	case prefix == "we_":
		return "is the id of a webhook endpoint"
	case !keyText.MatchString(key):
		return "has a character that is not valid in a key: keys consist of letters, digits and _"
	case prefix != "" && prefix != "sk_" && prefix != "rk_":
		return "begins with " + prefix + ", like an id or another kind of key"
	}
	return ""
}
