package mount_test

import (
	"net/http/httptest"
	"testing"

	"github.com/pook/stripeonce/internal/mount"
)

func TestBelow(t *testing.T) {
	for _, c := range []struct{ route, asked, path, escaped string }{
		{"/admin/stripe", "/admin/stripe", "", ""},
		{"/admin/stripe/*", "/admin/stripe/events", "/events", "/events"},
		{"/admin/:tenant/*", "/admin/a%20b/events/evt%2F1", "/events/evt/1", "/events/evt%2F1"},
		{"/*", "/events", "/events", "/events"},
		{"", "/", "/", "/"},
	} {
		below := mount.Below(httptest.NewRequest("GET", c.asked, nil), c.route)
		if below.URL.Path != c.path || below.URL.EscapedPath() != c.escaped {
			t.Errorf("%s at %s is %s (%s), want %s (%s)", c.asked, c.route, below.URL.Path, below.URL.EscapedPath(), c.path, c.escaped)
		}
	}
}
