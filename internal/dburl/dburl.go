// Package dburl reads DATABASE_URL as users write it.
package dburl

import "strings"

// Normalize escapes the second "=" of a parameter, as in "?options=-c search_path=billing", which libpq and pgx refuse
// and other clients take. A value that is no URL is returned as it is.
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
