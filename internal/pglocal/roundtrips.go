package pglocal

import (
	"context"
	"net"
	"sync/atomic"
)

// RoundTrips counts what a client sends to PostgreSQL: messages that travel together are one write.
type RoundTrips struct{ n atomic.Int64 }

// Count is how many there have been.
func (t *RoundTrips) Count() int64 { return t.n.Load() }

// Dial is a pgconn.DialFunc whose connections are counted.
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
