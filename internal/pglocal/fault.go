package pglocal

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// Kill ends the server and all its processes as a power cut would, with SIGKILL, and leaves the data as it
// is. Restart runs it again.
func (c *Cluster) Kill() error {
	c.watcher.dismiss()
	pid := c.server.Process.Pid
	// Stopped, it starts no further process meanwhile.
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	children, _ := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output()
	for _, child := range strings.Fields(string(children)) {
		if n, err := strconv.Atoi(child); err == nil {
			_ = syscall.Kill(n, syscall.SIGKILL)
		}
	}
	err := syscall.Kill(pid, syscall.SIGKILL)
	<-c.exited
	return err
}

// Exited is closed when the server's process has ended.
func (c *Cluster) Exited() <-chan struct{} { return c.exited }

// Promote makes a standby a primary, and returns when it is one.
func (c *Cluster) Promote(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "SELECT pg_promote()")
	return err
}

// Socket is the folder of the server's socket, which is the host in libpq's words.
func (c *Cluster) Socket() string { return c.socket }

// Data is the folder of the server's data.
func (c *Cluster) Data() string { return c.data() }

// AsServer makes another program run as the user that the server runs as.
func (c *Cluster) AsServer(cmd *exec.Cmd) { c.owner.apply(cmd) }
