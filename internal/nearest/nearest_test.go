package nearest

import "testing"

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"adr", "addr", 1}, {"kitten", "sitting", 3}, {"since", "since", 0}, {"ab", "ba", 2}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("from %s to %s are %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	words := []string{"since", "limit", "list"}
	for word, want := range map[string]string{"sice": "since", "limt": "limit", "lis": "list", "zzzz": ""} {
		if got := Of(word, words, 3); got != want {
			t.Errorf("nearest to %q is %q, want %q", word, got, want)
		}
	}
}
