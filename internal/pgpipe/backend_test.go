package pgpipe

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pook/stripeonce/internal/pgtest"
)

// backend is a PostgreSQL without tables that answers as a test's script says. Without a script a SELECT returns its
// parameters as its columns, and every other statement succeeds.
type backend struct {
	socket string // the folder of its socket
	// script replaces the answers of a round trip that executed some statements. Nil: it replaces none.
	script func(executed []string, answers []any) []any
	// deaf makes the backend stop reading at the first Bind.
	deaf bool

	conns   chan net.Conn // the backend's side of each session
	dials   atomic.Int64  // connections that the client opened, those for cancel requests included
	cancels atomic.Int64
	ended   chan []byte // the bytes that each session received after silence
	stopped chan struct{}
}

// The steps of a script beside the messages of pgproto3.
type (
	raw     []byte   // bytes as they are
	hangUp  struct{} // closes the connection
	silence struct{} // sends nothing more, and collects what the client sends
)

// newBackend listens until the test ends.
func newBackend(tb testing.TB) *backend {
	tb.Helper()
	dir, err := os.MkdirTemp("", "pgpipe") // t.TempDir is too long for a socket's path
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		tb.Fatal(err)
	}
	b := &backend{socket: dir, conns: make(chan net.Conn, 8), ended: make(chan []byte, 8), stopped: make(chan struct{})}
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() { b.serve(conn) })
		}
	})
	tb.Cleanup(func() {
		close(b.stopped)
		_ = listener.Close()
		sessions.Wait()
	})
	return b
}

// client is the client's side of a connection, with faults.
type client struct {
	net.Conn
	dribbles bool        // each Read returns one byte
	reset    atomic.Bool // every Read and Write fails, as after a TCP reset
	mute     atomic.Bool // every Write fails

	mu       sync.Mutex
	deadline time.Time
	sent     []byte
}

func (c *client) Read(p []byte) (int, error) {
	if c.reset.Load() {
		return 0, syscall.ECONNRESET
	}
	if c.dribbles && len(p) > 1 {
		p = p[:1]
	}
	return c.Conn.Read(p)
}

func (c *client) Write(p []byte) (int, error) {
	switch {
	case c.reset.Load():
		return 0, syscall.ECONNRESET
	case c.mute.Load():
		return 0, syscall.EPIPE
	}
	n, err := c.Conn.Write(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, p[:n]...)
	return n, err
}

func (c *client) SetDeadline(at time.Time) error {
	c.mu.Lock()
	c.deadline = at
	c.mu.Unlock()
	return c.Conn.SetDeadline(at)
}

// take returns what was sent since the last call.
func (c *client) take() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	sent := c.sent
	c.sent = nil
	return sent
}

func (c *client) hasDeadline() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.deadline.IsZero()
}

// connect opens a session in an exec mode, and returns both its sides.
func (b *backend) connect(tb testing.TB, mode string, change func(c *client)) (conn *pgx.Conn, near *client, far net.Conn) {
	tb.Helper()
	config, err := pgx.ParseConfig("host=" + b.socket + " user=test dbname=test sslmode=disable default_query_exec_mode=" + mode)
	if err != nil {
		tb.Fatal(err)
	}
	config.MaxProtocolMessageBodyLen = 1 << 20
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		b.dials.Add(1)
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if near != nil || err != nil { // a cancel request's
			return c, err
		}
		near = &client{Conn: c}
		if change != nil {
			change(near)
		}
		return near, nil
	}
	ctx, cancel := context.WithTimeout(tb.Context(), pgtest.WaitLimit)
	defer cancel()
	if conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = near.Close() })
	return conn, near, pgtest.Receive(tb, "the backend accepts the session", b.conns)
}

// session is the state of one connection.
type session struct {
	statements map[string]string // the text of each prepared statement
	portal     string            // the text of the statement that was bound
	parameters [][]byte
	status     byte
	executed   []string
	answers    []any
}

func (b *backend) serve(conn net.Conn) {
	defer conn.Close()
	go func() { // ends a session that the client leaves open
		<-b.stopped
		_ = conn.Close()
	}()
	frontend := pgproto3.NewBackend(conn, conn)
	startup, err := frontend.ReceiveStartupMessage()
	if err != nil {
		return
	}
	if _, cancel := startup.(*pgproto3.CancelRequest); cancel {
		b.cancels.Add(1)
		return
	}
	s := &session{statements: map[string]string{}, status: txIdle}
	open := b.send(conn, []any{
		&pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"},
		&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"},
		&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}}, &pgproto3.ReadyForQuery{TxStatus: txIdle},
	})
	b.conns <- conn
	for open {
		message, err := frontend.Receive()
		if _, terminate := message.(*pgproto3.Terminate); terminate || err != nil {
			return
		}
		if _, bind := message.(*pgproto3.Bind); bind && b.deaf {
			<-b.stopped
			return
		}
		if end := s.answer(message); !end {
			continue
		}
		answers := s.answers
		if b.script != nil && len(s.executed) > 0 {
			answers = b.script(s.executed, answers)
		}
		s.executed, s.answers = nil, nil
		open = b.send(conn, answers)
	}
}

// send plays the steps. It returns false if one of them ended the session.
func (b *backend) send(conn net.Conn, steps []any) (open bool) {
	var stream []byte
	for _, step := range steps {
		var err error
		switch step := step.(type) {
		case pgproto3.BackendMessage:
			stream, err = step.Encode(stream)
		case raw:
			stream = append(stream, step...)
		case hangUp:
			_, _ = conn.Write(stream)
			return false
		case silence:
			_, _ = conn.Write(stream)
			rest, _ := io.ReadAll(conn)
			b.ended <- rest
			return false
		default:
			err = fmt.Errorf("the script has a %T", step)
		}
		if err != nil {
			panic(err)
		}
	}
	_, err := conn.Write(stream)
	return err == nil
}

// answer adds the answer to a message. It returns true at the end of a round trip.
func (s *session) answer(message pgproto3.FrontendMessage) (end bool) {
	add := func(messages ...any) { s.answers = append(s.answers, messages...) }
	switch message := message.(type) {
	case *pgproto3.Parse:
		s.statements[message.Name] = message.Query
		add(&pgproto3.ParseComplete{})
	case *pgproto3.Describe:
		if message.ObjectType == 'S' {
			sql := s.statements[message.Name]
			add(&pgproto3.ParameterDescription{ParameterOIDs: parameterOIDs(sql)}, columns(sql))
		} else {
			add(columns(s.portal))
		}
	case *pgproto3.Bind:
		s.portal, s.parameters = s.statements[message.PreparedStatement], nil
		for _, parameter := range message.Parameters {
			s.parameters = append(s.parameters, slices.Clone(parameter))
		}
		add(&pgproto3.BindComplete{})
	case *pgproto3.Execute:
		add(s.execute(s.portal)...)
	case *pgproto3.Query:
		s.parameters = nil
		add(s.execute(message.String)...)
		add(&pgproto3.ReadyForQuery{TxStatus: s.status})
		return true
	case *pgproto3.Close:
		add(&pgproto3.CloseComplete{})
	case *pgproto3.Sync:
		add(&pgproto3.ReadyForQuery{TxStatus: s.status})
		return true
	}
	return false
}

func (s *session) execute(sql string) []any {
	s.executed = append(s.executed, sql)
	verb, _, _ := strings.Cut(strings.ToUpper(sql), " ")
	tag := verb
	switch verb {
	case "BEGIN":
		s.status = 'T'
	case commitStatement, rolledBackTag:
		s.status = txIdle
	case "SELECT":
		return []any{&pgproto3.DataRow{Values: s.parameters}, &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}}
	case "INSERT":
		tag = "INSERT 0 1"
	}
	return []any{&pgproto3.CommandComplete{CommandTag: []byte(tag)}}
}

var parameter = regexp.MustCompile(`\$(\d+)::(\w+)`)

var typeOIDs = map[string]uint32{
	"text": pgtype.TextOID, "bigint": pgtype.Int8OID, "timestamptz": pgtype.TimestamptzOID, "jsonb": pgtype.JSONBOID,
}

// parameterOIDs finds the types of the parameters in casts such as $1::text.
func parameterOIDs(sql string) (oids []uint32) {
	seen := map[string]bool{}
	for _, match := range parameter.FindAllStringSubmatch(sql, -1) {
		if !seen[match[1]] {
			seen[match[1]] = true
			oids = append(oids, typeOIDs[match[2]])
		}
	}
	return oids
}

func columns(sql string) pgproto3.BackendMessage {
	if !strings.HasPrefix(sql, "SELECT") {
		return &pgproto3.NoData{}
	}
	description := &pgproto3.RowDescription{}
	for i, oid := range parameterOIDs(sql) {
		format := int16(pgx.TextFormatCode)
		if oid == pgtype.Int8OID || oid == pgtype.TimestamptzOID {
			format = pgx.BinaryFormatCode // in which pgx sends them, and asks for them
		}
		description.Fields = append(description.Fields, pgproto3.FieldDescription{
			Name: fmt.Appendf(nil, "column_%d", i+1), DataTypeOID: oid, DataTypeSize: -1, TypeModifier: -1, Format: format,
		})
	}
	return description
}
