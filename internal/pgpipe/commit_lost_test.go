package pgpipe

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgtest"
)

// A connection that ends before ReadyForQuery, at any byte, leaves the result unknown. No cancel request goes out before
// PostgreSQL has replied to COMMIT.
func TestExchangeIsCut(t *testing.T) {
	t.Parallel()
	var stream []byte
	replied := 0 // so many bytes are the messages up to COMMIT's tag
	for _, step := range success() {
		stream, _ = step.(pgproto3.BackendMessage).Encode(stream)
		if step == committed {
			replied = len(stream)
		}
	}
	for cut := range len(stream) {
		t.Run(fmt.Sprint("after ", cut, " bytes"), func(t *testing.T) {
			t.Parallel()
			b := answering(t, []any{raw(stream[:cut]), hangUp{}})
			conn, near, _ := b.connect(t, "cache_statement", nil)
			prepared(t, conn, near, inserts())
			check(t, commitOn(t, conn, inserts(), pgtest.WaitLimit), conn, near, unsure)
			if dials := b.dials.Load(); cut < replied && dials != 1 {
				t.Errorf("%d connections were opened", dials)
			}
		})
	}
}

// After the timeout Commit closes the socket. It sends neither a cancel request nor another byte.
func TestExchangeIsNotAnswered(t *testing.T) {
	t.Parallel()
	for answered := range len(success()) {
		t.Run(fmt.Sprint("after ", answered, " messages"), func(t *testing.T) {
			t.Parallel()
			b := answering(t, append(success()[:answered], silence{}))
			conn, near, _ := b.connect(t, "cache_statement", nil)
			prepared(t, conn, near, inserts())
			began := time.Now()
			check(t, commitOn(t, conn, inserts(), soon), conn, near, unanswered)
			if took := time.Since(began); took < soon {
				t.Errorf("it gave up after %v", took)
			}
			if rest := pgtest.Receive(t, "the backend sees the end of the session", b.ended); len(rest) > 0 {
				t.Errorf("%q was sent after COMMIT", rest)
			}
			if b.dials.Load() != 1 || b.cancels.Load() != 0 {
				t.Errorf("%d connections were opened and %d cancel requests sent", b.dials.Load(), b.cancels.Load())
			}
		})
	}
}

// The timeout bounds sending, too, since PostgreSQL may have stopped reading.
func TestExchangeIsNotRead(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	b.deaf = true
	conn, near, _ := b.connect(t, "cache_statement", nil)
	large := insert(strings.Repeat("x", 8<<20))
	prepared(t, conn, near, []Query{large})
	check(t, commitOn(t, conn, []Query{large}, soon), conn, near, unanswered)
	if dials := b.dials.Load(); dials != 1 {
		t.Errorf("%d connections were opened", dials)
	}
}

// PostgreSQL ends a session with a FATAL error. Two SQLSTATEs say that the session was idle: nothing was executed.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	idle := func(code string) want { return want{text: "first: FATAL: on purpose", code: code, closed: true} }
	for _, c := range []struct {
		name    string
		steps   []any
		before  bool // the steps come before the message
		failing bool // the client's Write fails
		want
	}{
		{"an administrator ends it", []any{bound, inserted, failure("FATAL", fault.AdminShutdown), hangUp{}}, false, false, unsure},
		{"an administrator ends it after COMMIT", []any{bound, inserted, bound, inserted, bound, inserted, bound, committed,
			failure("FATAL", fault.AdminShutdown), hangUp{}}, false, false, want{text: unsure.text, code: fault.AdminShutdown, unsure: true, closed: true}},
		{"it was ended by an administrator before", []any{failure("FATAL", fault.AdminShutdown), hangUp{}}, true, false, unsure},
		{"it was ended by an administrator before, and the write fails", []any{failure("FATAL", fault.AdminShutdown), hangUp{}}, true, true, unsure},
		{"idle_in_transaction_session_timeout", []any{failure("FATAL", fault.IdleInTransaction), hangUp{}}, true, false, idle(fault.IdleInTransaction)},
		{"idle_in_transaction_session_timeout, and the write fails", []any{failure("FATAL", fault.IdleInTransaction), hangUp{}}, true, true,
			idle(fault.IdleInTransaction)},
		{"transaction_timeout", []any{failure("FATAL", fault.TransactionTimeout), hangUp{}}, true, false, idle(fault.TransactionTimeout)},
		{"transaction_timeout, and the write fails", []any{failure("FATAL", fault.TransactionTimeout), hangUp{}}, true, true,
			idle(fault.TransactionTimeout)},
		{"transaction_timeout in the second write", []any{bound, inserted, bound, failure("FATAL", fault.TransactionTimeout), hangUp{}}, false, false,
			want{text: "second: FATAL: on purpose", code: fault.TransactionTimeout, closed: true}},
		{"it had ended before", []any{hangUp{}}, true, false, unsure},
		{"it had ended before, and the write fails", []any{hangUp{}}, true, true, unsure},
		{"the answer is whole, and the write fails", success(), true, true, unsure},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := answering(t, c.steps)
			conn, near, far := b.connect(t, "cache_statement", nil)
			prepared(t, conn, near, inserts())
			if c.before {
				if open := b.send(far, c.steps); !open {
					_ = far.Close()
				}
			}
			near.mute.Store(c.failing)
			check(t, commitOn(t, conn, inserts(), pgtest.WaitLimit), conn, near, c.want)
		})
	}
}

// The error of an idle session closes the connection, also where the end of the stream does not follow.
func TestSessionEndsSlowly(t *testing.T) {
	t.Parallel()
	for _, code := range []string{fault.IdleInTransaction, fault.TransactionTimeout} {
		b := answering(t, []any{failure("FATAL", code), silence{}})
		conn, near, _ := b.connect(t, "cache_statement", nil)
		prepared(t, conn, near, inserts())
		check(t, commitOn(t, conn, inserts(), soon), conn, near, want{text: "first: FATAL: on purpose", code: code, closed: true})
	}
}

// A connection that was reset fails at once.
func TestResetConnection(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	conn, near, _ := b.connect(t, "cache_statement", nil)
	prepared(t, conn, near, inserts())
	near.reset.Store(true)
	check(t, commitOn(t, conn, inserts(), pgtest.WaitLimit), conn, near, unsure)
	if dials := b.dials.Load(); dials != 1 {
		t.Errorf("%d connections were opened", dials)
	}
}

// A connection whose deadline cannot be set is given up before anything is sent.
func TestClosedConnection(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	conn, near, _ := b.connect(t, "cache_statement", nil)
	prepared(t, conn, near, inserts())
	_ = near.Close()
	check(t, commitOn(t, conn, inserts(), pgtest.WaitLimit), conn, near, unsure)
	if sent := near.take(); len(sent) > 0 {
		t.Errorf("it sent %q", sent)
	}
}

// Bytes that are no message of PostgreSQL's leave the result unknown.
func TestExchangeOfNonsense(t *testing.T) {
	t.Parallel()
	for name, stream := range map[string]raw{
		"an unknown type":          raw("?\x00\x00\x00\x04"),
		"a length that is too low": raw("C\x00\x00\x00\x03"),
		"a length that is huge":    raw("C\x7f\xff\xff\xff"),
		"a tag without an end":     raw("C\x00\x00\x00\x0aCOMMIT"),
		"HTTP":                     raw("HTTP/1.1 400 Bad Request\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, after := range []int{0, 3, 8} {
				b := answering(t, append(success()[:after], stream, ready))
				conn, near, _ := b.connect(t, "cache_statement", nil)
				prepared(t, conn, near, inserts())
				check(t, commitOn(t, conn, inserts(), pgtest.WaitLimit), conn, near, unsure)
			}
		})
	}
}
