// Package pglocal runs a private PostgreSQL for the demo, for `serve --local` and for tests. It listens on a Unix socket in
// a folder that only its user can enter, so it needs no password.
package pglocal

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	superuser    = "stripeonce"
	startTimeout = 60 * time.Second
	stopTimeout  = 30 * time.Second
	pollInterval = 20 * time.Millisecond
)

// Config configures a cluster.
type Config struct {
	// Dir is the cluster's folder, which is kept by Stop. Empty: a temporary folder, which Stop removes.
	Dir string
	// Version is the major version, such as "18", of a PostgreSQL that is downloaded once (see Download). Defaults to the
	// environment variable STRIPEONCE_POSTGRES. If that is empty, the installed PostgreSQL is used.
	Version string
	// Notify is called with a message before a download. Optional.
	Notify func(message string)
	// Disposable turns off durability (fsync) for speed, for data that is not needed later.
	Disposable bool
	// Settings are more settings of the server, such as {"max_connections": "200"}.
	Settings map[string]string
	// StandbyOf makes a new cluster a streaming standby of a running one, with the application_name "standby".
	StandbyOf *Cluster
}

// Cluster is a running PostgreSQL.
type Cluster struct {
	config    Config
	owner     *owner
	bin       string // the folder of PostgreSQL's programs
	dir       string // the cluster's root: data, socket and log
	socket    string
	temporary bool
	server    *exec.Cmd
	exited    chan struct{} // closed when the server's process has ended
	watcher   *watcher
}

// Start creates the cluster if necessary and starts its server, as an unprivileged user if this process runs as root. The
// server stops with Stop, and also when this process dies. The error wraps ErrNoBinaries if PostgreSQL is not installed,
// and ErrDownload if Config.Version cannot be downloaded.
func Start(ctx context.Context, config Config) (*Cluster, error) {
	owner, err := serverUser()
	if err != nil {
		return nil, err
	}
	c := &Cluster{config: config, owner: owner, dir: config.Dir, temporary: config.Dir == ""}
	if err := c.makeFolders(); err != nil {
		return nil, err
	}
	if err := c.start(ctx); err != nil {
		c.remove()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	major, err := os.ReadFile(filepath.Join(c.data(), "PG_VERSION"))
	fresh := errors.Is(err, os.ErrNotExist)
	if err != nil && !fresh {
		return err
	}
	if c.bin, err = c.findPrograms(ctx, strings.TrimSpace(string(major))); err != nil {
		return err
	}
	if fresh {
		if err := c.make(ctx); err != nil {
			return err
		}
	}
	return c.Restart(ctx)
}

// findPrograms returns the folder of PostgreSQL's programs. made is the major version of the data directory, or "".
func (c *Cluster) findPrograms(ctx context.Context, made string) (string, error) {
	version := c.config.Version
	if version == "" {
		version = os.Getenv(EnvVersion)
	}
	_, err := os.Stat(c.downloaded())
	byDownload := err == nil
	switch {
	case made != "" && version == "" && byDownload:
		return "", fmt.Errorf("%s holds data of a downloaded PostgreSQL: run it with --postgres %s", c.dir, made)
	case made != "" && version != "" && (made != version || !byDownload): // builds of one version differ, in lz4 for one
		return "", fmt.Errorf("%s holds data of PostgreSQL %s, which the downloaded version %s may not be able to read: remove --postgres", c.dir, made, version)
	case version == "":
		return FindBinaries(made)
	}
	return Download(ctx, version, c.config.Notify)
}

// downloaded returns the path of a file that exists if a downloaded PostgreSQL created the data.
func (c *Cluster) downloaded() string { return filepath.Join(c.dir, "downloaded") }

// Restart starts the server of a cluster again after Kill, or after the server has exited.
func (c *Cluster) Restart(ctx context.Context) error {
	for began := time.Now(); ; {
		if err := c.run(); err != nil {
			return err
		}
		err := c.awaitReady(ctx)
		if err == nil {
			return nil
		}
		// Processes of a killed server may take a moment to exit.
		if !strings.Contains(c.logTail(), "pre-existing shared memory block") || ctx.Err() != nil || time.Since(began) > startTimeout {
			return errors.Join(err, c.Stop())
		}
		c.watcher.dismiss()
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// pause waits for one polling interval.
func pause(ctx context.Context) error {
	select {
	case <-time.After(pollInterval):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// PID returns the id of the server's process, the postmaster.
func (c *Cluster) PID() int { return c.server.Process.Pid }

func (c *Cluster) data() string    { return filepath.Join(c.dir, "data") }
func (c *Cluster) logFile() string { return filepath.Join(c.dir, "postgresql.log") }

// makeFolders creates the cluster's folder, owned by the server's user. It also holds the socket, unless the socket's path
// would be longer than the limit of 107 bytes.
func (c *Cluster) makeFolders() error {
	var err error
	if c.temporary {
		// Not os.TempDir: a long TMPDIR would make the socket's path too long.
		if c.dir, err = os.MkdirTemp("/tmp", "stripeonce-pg-"); err != nil {
			return err
		}
	} else if c.dir, err = filepath.Abs(c.dir); err != nil {
		return err
	}
	if err := checkFolder(c.dir); err != nil {
		return err
	}
	// The folders above are not secret, and the server's user must be able to pass through them.
	if err := os.MkdirAll(filepath.Dir(c.dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(c.dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := c.owner.take(c.dir); err != nil {
		return err
	}
	if err := c.owner.canReach(c.dir); err != nil {
		return err
	}
	c.socket = c.dir
	if len(filepath.Join(c.dir, ".s.PGSQL.5432.lock")) > 100 {
		if c.socket, err = os.MkdirTemp("/tmp", "stripeonce-pg-"); err != nil {
			return err
		}
		return c.owner.take(c.socket)
	}
	return nil
}

// make creates the cluster's data under another name first, so that incomplete data is never used.
func (c *Cluster) make(ctx context.Context) error {
	unfinished := c.data() + ".unfinished"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if primary := c.config.StandbyOf; primary != nil {
		if err := primary.backup(ctx, unfinished); err != nil {
			return fmt.Errorf("copy the primary: %w", err)
		}
		return errors.Join(c.owner.takeAll(unfinished), os.Rename(unfinished, c.data()))
	}
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "initdb"), "--pgdata="+unfinished, "--username="+superuser,
		"--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	c.owner.apply(cmd)
	cmd.Dir = c.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd.Path, err, reason(string(out)))
	}
	if c.config.Version != "" || os.Getenv(EnvVersion) != "" {
		if err := os.WriteFile(c.downloaded(), nil, 0o600); err != nil {
			return err
		}
	}
	return os.Rename(unfinished, c.data())
}

func (c *Cluster) run() error {
	args := []string{"-D", c.data()}
	for name, value := range settings(c.config, c.socket) {
		args = append(args, "-c", name+"="+value)
	}
	if pid, running := c.runningServer(); running {
		return fmt.Errorf("another program (PostgreSQL's process %s) uses %s: stop it", pid, c.dir)
	}
	log, err := os.Create(c.logFile())
	if err != nil {
		return err
	}
	defer log.Close()
	c.server = exec.Command(filepath.Join(c.bin, "postgres"), args...)
	c.server.Stdout, c.server.Stderr = log, log
	c.server.Dir = c.dir
	c.owner.apply(c.server)
	if err := c.server.Start(); err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	server, exited := c.server, make(chan struct{})
	c.exited = exited
	go func() {
		_ = server.Wait()
		close(exited)
	}()
	c.watcher, err = watch(c, c.owner)
	if err != nil {
		return errors.Join(err, c.Stop())
	}
	return nil
}

func settings(config Config, socket string) map[string]string {
	all := map[string]string{
		"listen_addresses":           "",
		"unix_socket_directories":    socket,
		"unix_socket_permissions":    "0700",
		"max_connections":            "100",
		"log_line_prefix":            "%m [%p] ",
		"lc_messages":                "C",
		"dynamic_shared_memory_type": "posix",
	}
	if config.Disposable {
		for _, off := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
			all[off] = "off"
		}
	}
	for name, value := range config.Settings {
		all[name] = value
	}
	return all
}

func (c *Cluster) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := c.ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-c.exited:
			return fmt.Errorf("postgres did not start: %s", reason(c.logTail()))
		case <-ctx.Done():
			return fmt.Errorf("postgres did not start: %w: %w: %s", ctx.Err(), err, reason(c.logTail()))
		case <-time.After(pollInterval):
		}
	}
}

// runningServer reports whether a server is using the folder. A lock file of a crashed server does not count.
func (c *Cluster) runningServer() (pid string, running bool) {
	text, err := os.ReadFile(filepath.Join(c.data(), "postmaster.pid"))
	if err != nil {
		return "", false
	}
	pid, _, _ = strings.Cut(string(text), "\n")
	number, err := strconv.Atoi(pid)
	if err != nil {
		return "", false
	}
	// The socket's lock file has the same process id, unless the id belongs to another program by now.
	lock, err := os.ReadFile(filepath.Join(c.socket, ".s.PGSQL.5432.lock"))
	return pid, err == nil && strings.HasPrefix(string(lock), pid+"\n") && syscall.Kill(number, 0) == nil
}

// ping succeeds once the server that was started here answers. Another server on the same folder would answer on the same
// socket, and makes ours exit.
func (c *Cluster) ping(ctx context.Context) error {
	text, err := os.ReadFile(filepath.Join(c.data(), "postmaster.pid"))
	if err != nil {
		return err
	}
	pid, _, _ := strings.Cut(string(text), "\n")
	if pid != strconv.Itoa(c.server.Process.Pid) {
		return fmt.Errorf("process %s uses the folder", pid)
	}
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

func (c *Cluster) logTail() string {
	text, _ := os.ReadFile(c.logFile())
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

// URL returns the libpq URL of one of the cluster's databases, for pgx, dbmate and psql.
func (c *Cluster) URL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database}
	u.RawQuery = "host=" + url.QueryEscape(c.socket)
	return u.String()
}

// CreateDatabase creates a database unless it exists.
func (c *Cluster) CreateDatabase(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var exists bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists)
	if err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	return err
}

// Stop ends the server with a fast shutdown and removes a temporary cluster.
func (c *Cluster) Stop() error {
	defer c.remove()
	if c.watcher != nil {
		c.watcher.dismiss()
	}
	if err := c.server.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-c.exited:
		return nil
	case <-time.After(stopTimeout):
		_ = c.server.Process.Signal(syscall.SIGQUIT)
		<-c.exited
		return errors.New("postgres did not stop in time and was killed")
	}
}

func (c *Cluster) remove() {
	if c.temporary {
		_ = os.RemoveAll(c.dir)
	}
	if c.socket != "" && c.socket != c.dir {
		_ = os.RemoveAll(c.socket)
	}
}
