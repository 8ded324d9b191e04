package pglocal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// ErrNoPgBouncer reports that PgBouncer is not installed.
var ErrNoPgBouncer = errors.New("PgBouncer is not installed")

// PgBouncer is a running PgBouncer in front of a server. Without passwords it connects to any database as the role stripeonce.
type PgBouncer struct {
	cmd       *exec.Cmd
	dir, port string
}

// StartPgBouncer starts PgBouncer in front of a server, such as "host=/tmp/x port=5432", with a pool mode, such as "transaction", and so
// many connections for each database. It returns when PgBouncer listens.
func StartPgBouncer(ctx context.Context, server, mode string, poolSize int) (*PgBouncer, error) {
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/pgbouncer"); err != nil {
			return nil, ErrNoPgBouncer
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &PgBouncer{}
	_, b.port, _ = net.SplitHostPort(listener.Addr().String())
	if err := listener.Close(); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("/tmp", "stripeonce-pgbouncer-"); err != nil {
		return nil, err
	}
	if err := b.start(ctx, program, fmt.Sprintf(`[databases]
* = %s user=stripeonce
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = %s
default_pool_size = %d
max_client_conn = 200
server_connect_timeout = 2
server_login_retry = 1
`, server, b.port, mode, poolSize)); err != nil {
		return nil, errors.Join(err, b.Stop())
	}
	return b, nil
}

func (b *PgBouncer) start(ctx context.Context, program, config string) error {
	file := filepath.Join(b.dir, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil { //nolint:gosec // the server's user reads it
		return err
	}
	if err := os.Chmod(b.dir, 0o755); err != nil { //nolint:gosec // likewise
		return err
	}
	cmd := exec.Command(program, file)
	if err := AsServer(cmd); err != nil {
		return err
	}
	cmd.Dir = "/"
	if err := cmd.Start(); err != nil {
		return err
	}
	b.cmd = cmd
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", "127.0.0.1:"+b.port)
		if err == nil {
			return conn.Close()
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("PgBouncer does not listen on port %s: %w", b.port, err)
		}
	}
}

// URL returns the address of a database behind PgBouncer.
func (b *PgBouncer) URL(database string) string {
	return "postgres://stripeonce@127.0.0.1:" + b.port + "/" + database + "?sslmode=disable"
}

// Stop ends PgBouncer at once, and removes its files.
func (b *PgBouncer) Stop() error {
	if b.cmd != nil {
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait()
	}
	return os.RemoveAll(b.dir)
}
