// Package spantest records spans in memory, and checks them.
package spantest

import (
	"slices"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// Span is a span that has ended.
type Span = tracetest.SpanStub

// Recorder records the spans of a TracerProvider.
type Recorder struct {
	Provider *trace.TracerProvider
	exporter *tracetest.InMemoryExporter
}

// New returns a Recorder.
func New(options ...trace.TracerProviderOption) *Recorder {
	exporter := tracetest.NewInMemoryExporter()
	return &Recorder{trace.NewTracerProvider(append(options, trace.WithSyncer(exporter))...), exporter}
}

// All returns the spans that have ended so far, in the order of their ends.
func (r *Recorder) All() []Span { return r.exporter.GetSpans() }

// Named returns the spans of a name. It fails the test unless there are as many as wanted.
func (r *Recorder) Named(tb testing.TB, name string, want int) []*Span {
	tb.Helper()
	var list []*Span
	var names []string
	for _, span := range r.All() {
		names = append(names, span.Name)
		if span.Name == name {
			list = append(list, &span)
		}
	}
	if len(list) != want {
		tb.Fatalf("there are %d spans named %q, want %d, of %q", len(list), name, want, names)
	}
	return list
}

// One returns the one span of a name.
func (r *Recorder) One(tb testing.TB, name string) *Span {
	tb.Helper()
	return r.Named(tb, name, 1)[0]
}

// Has checks attributes of a span, given as "key=value".
func Has(tb testing.TB, span *Span, want ...string) {
	tb.Helper()
	var got []string
	for _, a := range span.Attributes {
		got = append(got, string(a.Key)+"="+a.Value.String())
	}
	for _, one := range want {
		if !slices.Contains(got, one) {
			tb.Errorf("the span %q lacks %s: it has %q", span.Name, one, got)
		}
	}
}

// Lacks checks that a span has no attribute of a key.
func Lacks(tb testing.TB, span *Span, key string) {
	tb.Helper()
	if value := Value(span, key); value != "" {
		tb.Errorf("the span %q has %s=%s", span.Name, key, value)
	}
}

// IsChild reports whether a span is the child of another one.
func IsChild(child, parent *Span) bool {
	return child.Parent.SpanID() == parent.SpanContext.SpanID() && child.SpanContext.TraceID() == parent.SpanContext.TraceID()
}

// Links reports whether a span has a link to another one.
func Links(from, to *Span) bool {
	return slices.ContainsFunc(from.Links, func(l trace.Link) bool { return l.SpanContext.SpanID() == to.SpanContext.SpanID() })
}

// Value returns the value of a span's attribute. Empty: it has none.
func Value(span *Span, key string) string {
	for _, a := range span.Attributes {
		if string(a.Key) == key {
			return a.Value.String()
		}
	}
	return ""
}
