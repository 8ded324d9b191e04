package pgpipe

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgtest"
)

// readCommit reads a stream as PostgreSQL's protocol. It reports whether COMMIT's tag and, after it, ReadyForQuery are in
// it, and whether the stream ends there.
func readCommit(stream []byte) (committed, toTheEnd bool) {
	unread := bytes.NewReader(stream)
	frontend := pgproto3.NewFrontend(unread, nil)
	frontend.SetMaxBodyLen(1 << 20)
	consumed, hasTag := 0, false
	for {
		message, err := frontend.Receive()
		if err != nil {
			return false, false
		}
		consumed += length(stream[consumed:])
		switch message := message.(type) {
		case *pgproto3.CommandComplete:
			hasTag = hasTag || string(message.CommandTag) == commitStatement
		case *pgproto3.ReadyForQuery:
			if hasTag {
				return true, consumed == len(stream)
			}
		}
	}
}

// length is that of the first message of a stream: its type, and what its length says.
func length(stream []byte) int {
	return 1 + int(stream[1])<<24 + int(stream[2])<<16 + int(stream[3])<<8 + int(stream[4])
}

// Commit returns in time, whatever bytes it reads. It returns nil only if they contain COMMIT's tag and then
// ReadyForQuery. If nothing follows, the next query on an open connection gets its own answer.
func FuzzBackendMessages(f *testing.F) {
	for _, c := range exchanges {
		var stream []byte
		for _, step := range c.steps {
			stream, _ = step.(pgproto3.BackendMessage).Encode(stream)
		}
		f.Add(stream, true)
		f.Add(stream[:len(stream)/2], true)
	}
	var stream []byte
	for _, message := range []pgproto3.BackendMessage{
		bound, inserted, warning("01000", "SyncRepWaitForLSN"), &pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"}, bound, inserted, bound, inserted,
		&pgproto3.NotificationResponse{PID: 7, Channel: "c", Payload: "p"}, bound, warning(fault.QueryCanceled, ""), committed,
		failure("FATAL", fault.AdminShutdown), ready,
	} {
		stream, _ = message.Encode(stream)
	}
	f.Add(stream, true)
	f.Add(stream[:len(stream)-6], false)
	f.Add([]byte{}, false)
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), true)
	f.Fuzz(func(t *testing.T, stream []byte, ends bool) {
		const timeout = 20 * time.Millisecond
		steps := []any{raw(stream)}
		if ends {
			steps = append(steps, hangUp{})
		}
		committed, toTheEnd := readCommit(stream)
		if committed && toTheEnd {
			steps = steps[:1] // the session goes on
		}
		b := answering(t, steps)
		conn, near, _ := b.connect(t, "cache_statement", nil)
		prepared(t, conn, near, inserts())
		began := time.Now()
		err := commitOn(t, conn, inserts(), timeout)
		if took := time.Since(began); took > pgtest.WaitLimit/4 {
			t.Errorf("it took %v, with a timeout of %v", took, timeout)
		}
		if (err == nil || errors.Is(err, errNotReplicated)) && !committed {
			t.Errorf("the error is %v without COMMIT's tag and ReadyForQuery", err)
		}
		if err == nil && conn.IsClosed() {
			t.Error("the connection is closed after success")
		}
		if !conn.IsClosed() && toTheEnd {
			if near.hasDeadline() {
				t.Error("the connection keeps its deadline")
			}
			inStep(t, conn)
		}
	})
}
