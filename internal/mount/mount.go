// Package mount has what the packages for Echo's major versions share.
package mount

import (
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Below returns the request for a handler mounted at a route, such as "/admin/:tenant/stripe/*". Its URL has only the part
// of the path below the route.
func Below(r *http.Request, route string) *http.Request {
	escaped := r.URL.EscapedPath()
	segments := strings.Split(escaped, "/")
	base := strings.Join(segments[:min(len(segments), len(strings.Split(strings.TrimSuffix(route, "/*"), "/")))], "/")
	if route == "/*" || route == "/" || route == "" {
		base = ""
	}
	below := r.Clone(r.Context())
	below.URL.RawPath = escaped[len(base):]
	if path, err := url.PathUnescape(below.URL.RawPath); err == nil {
		below.URL.Path = path
	}
	return below
}

// Body wraps a body that the router may limit. tooLarge reports whether an error is the router's error for a body that is
// too large.
func Body(body io.ReadCloser, tooLarge func(error) bool) io.ReadCloser {
	return &limited{body, tooLarge}
}

type limited struct {
	io.ReadCloser
	tooLarge func(error) bool
}

func (b *limited) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && b.tooLarge(err) {
		err = &http.MaxBytesError{}
	}
	return n, err
}
