package dburl_test

import (
	"testing"

	"github.com/pook/stripeonce/internal/dburl"
)

func TestNormalize(t *testing.T) {
	for given, want := range map[string]string{
		"": "",
		"host=/tmp dbname=app options='-c search_path=billing'":              "host=/tmp dbname=app options='-c search_path=billing'",
		"postgres://u:p=w@db/app":                                            "postgres://u:p=w@db/app",
		"postgres://db/app?sslmode=disable":                                  "postgres://db/app?sslmode=disable",
		"postgres://db/app?options=-c%20search_path=billing&sslmode=require": "postgres://db/app?options=-c%20search_path%3Dbilling&sslmode=require",
		"postgres://db/app?options=-c%20search_path%3Dbilling":               "postgres://db/app?options=-c%20search_path%3Dbilling",
		"postgres://db/app?flag&options=-ca=b=c":                             "postgres://db/app?flag&options=-ca%3Db%3Dc",
	} {
		if got := dburl.Normalize(given); got != want {
			t.Errorf("%s gives %s, want %s", given, got, want)
		}
	}
}
