package pglocal

import (
	"context"
	"net"
	"sync/atomic"
)

// RoundTrips counts a client's writes to PostgreSQL. Pipelined messages are one write.
type RoundTrips struct{ n atomic.Int64 }

// Count returns the number of writes.
func (t *RoundTrips) Count() int64 { return t.n.Load() }

// Dial is a pgconn.DialFunc that counts the connection's writes.
func (t *RoundTrips) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	return &counted{conn, t}, err
}

type counted struct {
	net.Conn
	by *RoundTrips
}

func (c *counted) Write(p []byte) (int, error) {
	c.by.n.Add(1)
	return c.Conn.Write(p)
}
