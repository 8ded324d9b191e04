package pglocal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
)

// backup copies the data of a running cluster into dir, as the data of a streaming standby. It replaces pg_basebackup,
// which not every build of PostgreSQL includes.
// See https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP.
func (c *Cluster) backup(ctx context.Context, dir string) error {
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var version int
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		return err
	}
	start, stop := "SELECT pg_backup_start('standby', true)", "SELECT labelfile FROM pg_backup_stop(false)"
	if version < 150000 {
		start, stop = "SELECT pg_start_backup('standby', true, false)", "SELECT labelfile FROM pg_stop_backup(false, false)"
	}
	// The slot keeps the write-ahead log that the copy needs until the standby streams.
	if _, err := conn.Exec(ctx, "SELECT pg_create_physical_replication_slot('standby', true)"); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, start); err != nil {
		return err
	}
	if err := copyData(c.data(), dir); err != nil {
		return err
	}
	var label string
	if err := conn.QueryRow(ctx, stop).Scan(&label); err != nil {
		return err
	}
	conninfo := fmt.Sprintf("\nprimary_conninfo = 'host=%s user=%s application_name=standby'\nprimary_slot_name = 'standby'\n", c.socket, superuser)
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "backup_label"), []byte(label), 0o600),
		os.WriteFile(filepath.Join(dir, "standby.signal"), nil, 0o600),
		appendFile(filepath.Join(dir, "postgresql.auto.conf"), conninfo),
	)
}

// notCopied are the files of a server's data that a backup leaves out. Of the folders, only the content is left out.
var notCopied = []string{"postmaster.pid", "postmaster.opts", "pg_wal/", "pg_replslot/", "pg_dynshmem/", "pg_notify/",
	"pg_serial/", "pg_snapshots/", "pg_stat_tmp/", "pg_subtrans/"}

// copyData copies a folder whose files may change or vanish meanwhile. The write-ahead log repairs such files.
func copyData(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != from {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		for _, prefix := range notCopied {
			if strings.HasPrefix(name, prefix) && name != "pg_wal/archive_status" {
				return nil
			}
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, name), 0o700)
		}
		err = copyFile(path, filepath.Join(to, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
