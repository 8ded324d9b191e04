package torture

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v79/webhook"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/internal/server"
	"github.com/pook/stripeonce/internal/signing"
)

// dial opens a connection to a receiver, for bytes that no HTTP client would send.
func (p *process) dial() net.Conn {
	p.t.Helper()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// raw sends a request's bytes and returns the status, or 0 if the connection was closed without a response.
func (p *process) raw(request io.Reader) int {
	p.t.Helper()
	conn := p.dial()
	go func() { _, _ = io.Copy(conn, request) }()
	_ = conn.SetReadDeadline(time.Now().Add(waitLimit))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func head(headers ...string) string {
	return "POST " + server.WebhookPath + " HTTP/1.1\r\nHost: x\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n"
}

func signed(body string) string {
	return "Stripe-Signature: " + signing.Sign([]byte(body), hooktest.Secret)
}

func lengthOf(body string) string { return fmt.Sprintf("Content-Length: %d", len(body)) }

func post(body string, headers ...string) string {
	return head(append([]string{lengthOf(body), signed(body)}, headers...)...) + body
}

// endless returns a request with a chunked body of 100 MB that does not end.
func endless() io.Reader {
	chunk := "10000\r\n" + strings.Repeat("x", 0x10000) + "\r\n"
	return io.MultiReader(strings.NewReader(head("Transfer-Encoding: chunked")), io.LimitReader(repeat(chunk), 100<<20))
}

type repeated struct {
	text string
	rest *strings.Reader
}

func repeat(text string) io.Reader { return &repeated{text, strings.NewReader(text)} }

func (r *repeated) Read(p []byte) (int, error) {
	if r.rest.Len() == 0 {
		r.rest.Reset(r.text)
	}
	return r.rest.Read(p)
}

func zipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

func event(id, more string) string {
	return `{"id":"` + id + `","object":"event","type":"x.y","created":1700000000,"livemode":false,"data":{"object":{"id":"obj_1"` + more + `}}}`
}

func TestHostileClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pglocal.Config{})
	p := w.start(standard, w.url, "127.0.0.1:0")
	old := webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{
		Payload: []byte(event("evt_old", "")), Secret: hooktest.Secret, Timestamp: time.Now().Add(-time.Hour),
	}).Header
	many := signing.Sign([]byte(event("evt_many", "")), hooktest.Secret) + strings.Repeat(",v1="+strings.Repeat("0", 64), 700)
	deep := strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000)
	deeper := strings.Repeat("[", 500_000)
	cases := map[string]struct {
		request  io.Reader
		statuses []int // 0: closed without a response
	}{
		"a body that ends too early":         {strings.NewReader(head("Content-Length: 1000", "Connection: close") + "{}"), []int{400, 0}},
		"a length that is too small":         {strings.NewReader(head("Content-Length: 5", signed(event("evt_short", ""))) + event("evt_short", "")), []int{400}},
		"two lengths":                        {strings.NewReader(head("Content-Length: 2", "Content-Length: 3") + "{}"), []int{400}},
		"a length that is none":              {strings.NewReader(head("Content-Length: -1") + "{}"), []int{400}},
		"a length and chunks":                {strings.NewReader(head("Content-Length: 2", "Transfer-Encoding: chunked") + "0\r\n\r\n"), []int{400}},
		"chunks that are none":               {strings.NewReader(head("Transfer-Encoding: chunked") + "zz\r\n"), []int{400}},
		"100 MB that are announced":          {strings.NewReader(head("Content-Length: 104857600")), []int{413}},
		"100 MB in chunks":                   {endless(), []int{413}},
		"a header of 1 MB":                   {strings.NewReader(head("X-Long: " + strings.Repeat("x", 1<<20))), []int{431, 0}},
		"a signature of 1 MB":                {strings.NewReader(head("Stripe-Signature: t=1" + strings.Repeat(",v1=00", 170_000))), []int{431, 0}},
		"700 signatures":                     {strings.NewReader(head(lengthOf(event("evt_many", "")), "Stripe-Signature: "+many) + event("evt_many", "")), []int{400}},
		"an old signature":                   {strings.NewReader(head(lengthOf(event("evt_old", "")), "Stripe-Signature: "+old) + event("evt_old", "")), []int{400}},
		"gzip, signed as it is":              {strings.NewReader(post(zipped(event("evt_gzip", "")), "Content-Encoding: gzip")), []int{400}},
		"gzip, signed as it was":             {strings.NewReader(head(lengthOf(zipped(event("evt_gzip", ""))), signed(event("evt_gzip", "")), "Content-Encoding: gzip") + zipped(event("evt_gzip", ""))), []int{400}},
		"an object 5,000 levels deep":        {strings.NewReader(post(event("evt_deep", `,"a":`+deep))), []int{200, 500}},
		"500,000 open brackets":              {strings.NewReader(post(deeper)), []int{400}},
		"an id that is not UTF-8":            {strings.NewReader(post(event("evt_\xff", ""))), []int{400}},
		"an id with a NUL":                   {strings.NewReader(post(event(`evt_\u0000`, ""))), []int{400}},
		"an object that is not UTF-8":        {strings.NewReader(post(event("evt_utf8", `,"name":"`+"\xff\xfe"+`"`))), []int{200}},
		"an id of 1,000 letters":             {strings.NewReader(post(event(strings.Repeat("e", 1000), ""))), []int{400}},
		"null":                               {strings.NewReader(post("null")), []int{400}},
		"another method":                     {strings.NewReader(strings.Replace(head(), "POST", "TRACE", 1)), []int{405}},
		"a path that climbs":                 {strings.NewReader(strings.Replace(head(lengthOf("")), server.WebhookPath, "/../../etc/passwd", 1)), []int{404, 405}},
		"no HTTP at all":                     {strings.NewReader("\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n"), []int{400, 0}},
		"an answer that is written by hand":  {strings.NewReader("HTTP/1.1 200 OK\r\n\r\n"), []int{400}},
		"a type with a NUL":                  {strings.NewReader(post(`{"id":"evt_t","type":"a\u0000b"}`)), []int{400}},
		"an id that is a number":             {strings.NewReader(post(`{"id":1,"type":"x"}`)), []int{400}},
		"created in the year 300,000":        {strings.NewReader(post(`{"id":"evt_c","type":"x","created":9e12}`)), []int{400}},
		"a subscription that is a list":      {strings.NewReader(post(`{"id":"evt_l","type":"customer.subscription.updated","data":{"object":[]}}`)), []int{500}},
		"a quantity that no column can hold": {strings.NewReader(post(`{"id":"evt_q","type":"customer.subscription.updated","created":1,"data":{"object":{"id":"sub_q","object":"subscription","status":"active","quantity":1e30}}}`)), []int{500}},
	}
	failures := 0
	for name, c := range cases {
		status := p.raw(c.request)
		if !slices.Contains(c.statuses, status) {
			t.Errorf("%s: the status is %d, want %d", name, status, c.statuses)
		}
		if status == http.StatusInternalServerError {
			failures++
		}
	}
	if n := w.failures(); n != failures {
		t.Errorf("%d deliveries were answered 500, and %d events have a failure record", failures, n)
	}
	// If a key is repeated, the last value counts for the ledger, the object and PostgreSQL alike.
	twice := `{"id":"evt_first","id":"evt_last","ID":"evt_case","type":"a","type":"customer.subscription.updated","created":1700000000,` +
		`"data":{"object":{"id":"sub_first"}},"data":{"object":{"id":"sub_last","object":"subscription","customer":"cus_1","status":"trialing","status":"active"}}}`
	if status := p.raw(strings.NewReader(post(twice))); status != 200 {
		t.Errorf("repeated keys: the status is %d", status)
	}
	pool := w.pool()
	for query, want := range map[string]string{
		`SELECT string_agg(event_id, ' ') FROM stripe_webhook_events WHERE object_id = 'sub_last'`: "evt_last",
		`SELECT string_agg(event_id, ' ') FROM effects WHERE event_id LIKE 'evt\_%st'`:             "evt_last",
		`SELECT string_agg(id || ' ' || status || ' ' || (object->>'status'), ' ') FROM subscriptions
			WHERE id IN ('sub_first', 'sub_last')`: "sub_last active active",
	} {
		if got := pgtest.Scan[string](t, pool, query); got != want {
			t.Errorf("%s gives %q, want %q", query, got, want)
		}
	}
	w.deliver(p.url(), 4, plan(w.newEvents(10)))
	if mib := p.peak(); mib > maxHerdMemory && !pgtest.Race {
		t.Errorf("the receiver took %d MiB", mib)
	}
	addRow(t, "09a", "hostile requests", fmt.Sprintf("%d kinds: wrong lengths, 100 MB, headers of 1 MB, 700 signatures, gzip, deep nesting, wrong UTF-8, repeated keys, no HTTP at all", len(cases)+1),
		"each refused with a 4xx or a closed connection, a genuine event that cannot be read with a 500 and a record; at most %d MiB; honest deliveries go on", p.peak())
}

// Clients that stop in the middle of a request hold only their own connection, and not for long.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pglocal.Config{})
	p := w.start(standard, w.url, "127.0.0.1:0")
	n := times(300, 1500)
	var slow []net.Conn
	for i := range n {
		conn := p.dial()
		slow = append(slow, conn)
		begin := head("Content-Length: 1000")
		if i%2 == 0 {
			begin = begin[:30] // in the middle of its header
		}
		if _, err := io.WriteString(conn, begin); err != nil {
			t.Fatal(err)
		}
	}
	w.deliver(p.url(), 8, plan(w.newEvents(50)))
	w.only(200)
	for _, conn := range slow {
		_ = conn.SetReadDeadline(time.Now().Add(waitLimit))
		// The receiver may respond (408 or 400), and closes the connection.
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Fatalf("the connection stays open: %v", err)
		}
	}
	w.judge()
	addRow(t, "09b", "slow clients", fmt.Sprintf("%d connections that stop in the middle of a header or a body", n),
		"honest deliveries are all answered 200 meanwhile; the slow ones are closed")
}
