package pglocal

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// Kill ends the server and all its processes with SIGKILL, like a power failure, and does not change the data. Restart
// starts it again.
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

// Exited returns a channel that is closed when the server's process has ended.
func (c *Cluster) Exited() <-chan struct{} { return c.exited }

// Promote promotes a standby, and returns when it is a primary.
func (c *Cluster) Promote(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "SELECT pg_promote()")
	return err
}

// Socket returns the folder of the server's socket, which is the host in a libpq URL.
func (c *Cluster) Socket() string { return c.socket }

// Data returns the folder of the server's data.
func (c *Cluster) Data() string { return c.data() }

// AsServer sets the user of another program to that of the server.
func (c *Cluster) AsServer(cmd *exec.Cmd) { c.owner.apply(cmd) }

// AsServer makes another program run as the user that this process would run a server as.
func AsServer(cmd *exec.Cmd) error {
	user, err := serverUser()
	if err != nil {
		return err
	}
	user.apply(cmd)
	return nil
}

// TakeFolder makes a folder that belongs to the user of AsServer.
func TakeFolder(dir string) error {
	user, err := serverUser()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return user.take(dir)
}
