// Package pgproxy is a proxy between a client and PostgreSQL that delays or swallows messages, and cuts connections at any
// message of the protocol. A proxy of bytes, such as toxiproxy, does not know messages.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html.
package pgproxy

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Message is one message of the protocol. Its type is 0 for a client's first message, which has none.
type Message struct {
	ToServer bool
	Type     byte
	Body     []byte // valid until the hook returns
}

// Action is what the proxy does with a message and its connection.
type Action int

// The actions.
const (
	Pass Action = iota
	CutBefore
	CutAfter
)

// Proxy forwards to one server. Create it with Start.
type Proxy struct {
	listener net.Listener
	socket   string

	latency atomic.Int64
	hook    atomic.Pointer[func(Message) Action]

	mu    sync.Mutex
	hole  chan struct{} // closed when nothing is swallowed
	conns map[*pair]bool
}

// pair is a client's connection and the matching connection to the server.
type pair struct{ client, server net.Conn }

// reset closes both connections, the client's with a TCP reset.
func (p *pair) reset() {
	if tcp, ok := p.client.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = p.client.Close()
	_ = p.server.Close()
}

// Start starts a proxy on a port of 127.0.0.1 to the server whose socket is in a folder.
func Start(socketFolder string) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: listener, socket: filepath.Join(socketFolder, ".s.PGSQL.5432"), conns: map[*pair]bool{}}
	p.hole = make(chan struct{})
	close(p.hole)
	go p.accept()
	return p, nil
}

// Close stops listening and resets every connection.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.BlackHole(false)
	p.Cut()
}

// URL returns the URL of a database through the proxy.
func (p *Proxy) URL(databaseURL string) (string, error) {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return "", err
	}
	query := u.Query()
	query.Del("host")
	query.Set("sslmode", "disable")
	u.Host, u.RawQuery = p.listener.Addr().String(), query.Encode()
	return u.String(), nil
}

// Delay sets the latency of every message, in each direction.
func (p *Proxy) Delay(latency time.Duration) { p.latency.Store(int64(latency)) }

// Watch sets the function that decides about every message. It is called for one message at a time in each direction of a
// connection. If fn is nil, every message passes.
func (p *Proxy) Watch(fn func(Message) Action) {
	if fn == nil {
		p.hook.Store(nil)
		return
	}
	p.hook.Store(&fn)
}

// Cut resets every connection.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		conn.reset()
	}
}

// BlackHole holds back all messages while it is on, also of new connections. No connection is closed.
func (p *Proxy) BlackHole(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.hole:
		if on {
			p.hole = make(chan struct{})
		}
	default:
		if !on {
			close(p.hole)
		}
	}
}

func (p *Proxy) pause() {
	if latency := time.Duration(p.latency.Load()); latency > 0 {
		time.Sleep(latency)
	}
	p.mu.Lock()
	hole := p.hole
	p.mu.Unlock()
	<-hole
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(client)
	}
}

func (p *Proxy) serve(client net.Conn) {
	server, err := net.Dial("unix", p.socket)
	if err != nil {
		_ = client.Close()
		return
	}
	conn := &pair{client, server}
	p.mu.Lock()
	p.conns[conn] = true
	p.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { p.pump(conn, client, server, true) })
	wg.Go(func() { p.pump(conn, server, client, false) })
	wg.Wait()
	p.mu.Lock()
	delete(p.conns, conn)
	p.mu.Unlock()
}

// pump forwards one direction, message by message, until either end closes.
func (p *Proxy) pump(conn *pair, from io.Reader, to io.Writer, toServer bool) {
	reader := bufio.NewReader(from)
	for first := toServer; ; first = false {
		message, kind, err := read(reader, first)
		if err != nil {
			// One end has closed, so the other is closed after the messages in flight.
			_ = conn.client.Close()
			_ = conn.server.Close()
			return
		}
		// Messages that arrive together are forwarded together.
		if reader.Buffered() == 0 || p.latency.Load() == 0 {
			p.pause()
		}
		action := Pass
		if hook := p.hook.Load(); hook != nil {
			action = (*hook)(Message{toServer, kind, message[len(message)-bodyLength(message, kind):]})
		}
		if action != CutBefore {
			_, err = to.Write(message)
		}
		if err != nil || action != Pass {
			conn.reset()
			return
		}
	}
}

const lengthBytes = 4

func bodyLength(message []byte, kind byte) int {
	if kind == 0 {
		return len(message) - lengthBytes
	}
	return len(message) - 1 - lengthBytes
}

// read returns one complete message. A client's first message has no type byte.
func read(r *bufio.Reader, first bool) (message []byte, kind byte, err error) {
	head := make([]byte, 1+lengthBytes)
	if first {
		head = head[1:]
	}
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, 0, err
	}
	if !first {
		kind = head[0]
	}
	length := int(binary.BigEndian.Uint32(head[len(head)-lengthBytes:])) - lengthBytes
	message = make([]byte, len(head)+max(length, 0))
	copy(message, head)
	_, err = io.ReadFull(r, message[len(head):])
	return message, kind, err
}
