// Package mount is what the packages for Echo's major versions share: a receiver and a console below a path of another router.
package mount

import (
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Below returns the request as a handler sees it that is mounted at a route, such as "/admin/:tenant/stripe/*": with the part of
// the path that is below it.
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

// Body is a body that a limit of the router's may cut, which it says in its own way: tooLarge tells.
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
