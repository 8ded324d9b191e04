// Package dburl normalizes DATABASE_URL.
package dburl

import "strings"

// Normalize escapes the second "=" of a parameter, as in "?options=-c search_path=billing", which libpq and pgx refuse but
// other clients accept. It returns a value that is not a URL unchanged.
func Normalize(databaseURL string) string {
	before, query, found := strings.Cut(databaseURL, "?")
	if !found || !strings.Contains(before, "://") {
		return databaseURL
	}
	parameters := strings.Split(query, "&")
	for i, parameter := range parameters {
		if name, value, ok := strings.Cut(parameter, "="); ok {
			parameters[i] = name + "=" + strings.ReplaceAll(value, "=", "%3D")
		}
	}
	return before + "?" + strings.Join(parameters, "&")
}
