package state

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/go-kit/log/level"
	"modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"
)

const (
	pageSize = 4096
	// schema has the records of an account in the order in which they came, which is
	// that of polling: those that are written at about the same time share pages, and
	// are loaded in the order that the cache has them in.
	schema = "records (id BLOB, place INTEGER, key BLOB, value BLOB, written INTEGER, PRIMARY KEY (id, place), UNIQUE (id, key)) WITHOUT ROWID"

	// setUp prepares the connection and the file. It writes in any case, because
	// the library opens a read-only file read-only without an error. NORMAL does
	// not sync commits: they survive the end of the process, and a checkpoint
	// makes them survive a power cut.
	setUp = `PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 16777216;
		PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS ` + schema + `; PRAGMA user_version = %d;
		DELETE FROM records WHERE written < %d OR value IS NULL`
)

var (
	errDamaged = errors.New("file is damaged")
	errStuck   = errors.New("damaged, and cannot be renamed")
)

// open opens the file, or a new one if it is damaged. The exporter never opens it
// by itself: to close it again would drop the library's lock.
func (f *file) open() error {
	err := f.tryOpen()
	if damaged(err) {
		if err := f.quarantine(err); err != nil {
			return err
		}
		err = f.tryOpen()
	}
	if err == nil {
		return nil
	}
	f.closeDB()
	switch c := code(err); {
	case c == codes.SQLITE_BUSY:
		err = errors.New("in use by another process: stop that one, or give each process a --state.url of its own")
	case !temporary(err):
		err = fmt.Errorf("%w: give a path in an existing directory, with permission to write the file and the directory", err)
	}
	return fmt.Errorf("state file %s: %w", f.path, err)
}

func (f *file) tryOpen() (err error) {
	if err := f.prepare(); err != nil {
		return err
	}
	// An exclusive lock before the WAL mode makes shared memory unnecessary.
	pragmas := url.Values{"_pragma": {"busy_timeout(0)", "locking_mode(EXCLUSIVE)"}}
	path := url.URL{Path: filepath.ToSlash(f.path)}
	if f.db, err = sql.Open("sqlite", "file:"+path.EscapedPath()+"?"+pragmas.Encode()); err != nil {
		return err
	}
	f.db.SetMaxOpenConns(1)
	isNew, err := f.check()
	if err != nil {
		return err
	}
	_, err = f.db.Exec(fmt.Sprintf(setUp, formatVersion, time.Now().Add(-Retention).Unix()))
	for i, suffix := range []string{"", "-wal"} {
		f.opened[i], _ = os.Stat(f.path + suffix)
	}
	if code(err) == codes.SQLITE_READONLY && os.Truncate(f.path, f.opened[0].Size()) == nil {
		return fmt.Errorf("%w: %w", errDamaged, err) // its header forbids writing, the system does not
	}
	if err != nil && (isNew || !temporary(err)) {
		return err
	}
	f.report(err) // on a full disk, what the file holds counts
	f.checkpointErr = nil
	f.put, err = f.db.Prepare(putSQL)
	return err
}

// prepare creates the file unless it exists, and removes the rights of others. The
// library gives the -wal file the mode of the file.
func (f *file) prepare() error {
	created, err := os.OpenFile(f.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return created.Close()
	}
	info, statErr := os.Stat(f.path)
	if statErr != nil {
		return err
	}
	mode := info.Mode()
	if !mode.IsRegular() {
		return errors.New("not a regular file")
	}
	if mode.Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		err := os.Chmod(f.path, mode.Perm()&^0o077)
		_ = level.Warn(f.logger).Log("msg", "state file could be read by others; its mode is corrected", "file", f.path, "mode_was", fmt.Sprintf("%#o", mode.Perm()), "err", err)
	}
	return nil
}

// check reports whether the file is new, or an error if it is damaged. It writes
// nothing: the file may be another program's.
func (f *file) check() (isNew bool, err error) {
	var version int
	var found, result string
	// A flipped bit in the schema passes quick_check and is fatal later.
	err = f.db.QueryRow("SELECT user_version, (SELECT coalesce(group_concat(sql), '') FROM sqlite_schema) FROM pragma_user_version").Scan(&version, &found)
	if err != nil || found == "" && version == 0 {
		return true, err
	}
	if version != formatVersion && version != 0 || found != "CREATE TABLE "+schema {
		return false, fmt.Errorf("%w: format %d, expected %d: written by another version of the exporter or by another program", errDamaged, version, formatVersion)
	}
	// quick_check passes a file that is cut in its last page. With a -wal file the
	// page may be in that.
	info, err := os.Stat(f.path)
	if wal, walErr := os.Stat(f.path + "-wal"); err == nil && info.Size()%pageSize != 0 && (walErr != nil || wal.Size() == 0) {
		return false, fmt.Errorf("%w: %d bytes are not a multiple of the page size", errDamaged, info.Size())
	}
	if err := f.db.QueryRow("PRAGMA quick_check(1)").Scan(&result); err != nil || result != "ok" {
		return false, errors.Join(err, fmt.Errorf("%w: %s", errDamaged, result))
	}
	return false, nil
}

// inPlace reports whether the file and its -wal file are still the ones at the
// path.
func (f *file) inPlace() bool {
	for i, suffix := range []string{"", "-wal"} {
		if info, err := os.Stat(f.path + suffix); err != nil || !os.SameFile(info, f.opened[i]) {
			return false
		}
	}
	return true
}

// quarantine renames a damaged file, so that a person can look at it and a new one
// can be created.
func (f *file) quarantine(reason error) error {
	to := f.path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000Z")
	err := os.Rename(f.path, to) // while it is locked
	f.closeDB()
	if err != nil {
		err = os.Rename(f.path, to) // Windows does not rename an open file
	}
	if err != nil {
		return fmt.Errorf("%w: %w (%w)", errStuck, err, reason)
	}
	for _, suffix := range []string{"-wal", "-journal"} {
		_ = os.Rename(f.path+suffix, to+suffix)
	}
	_ = level.Error(f.logger).Log("msg", "state file cannot be used; it is renamed and a new one is created", "file", f.path, "renamed_to", to, "err", reason)
	return nil
}

// code returns the primary result code of the library; 0 for another error.
func code(err error) int {
	var e *sqlite.Error
	switch {
	case !errors.As(err, &e):
		return 0
	case e.Code() == codes.SQLITE_IOERR_LOCK: // a file that is open for reading only cannot be locked
		return codes.SQLITE_PERM
	}
	return e.Code() & 0xff
}

// damaged reports whether the file that returned err has to be replaced.
func damaged(err error) bool {
	c := code(err)
	return c == codes.SQLITE_CORRUPT || c == codes.SQLITE_NOTADB || c == codes.SQLITE_ERROR || errors.Is(err, errDamaged)
}

// temporary reports whether err can pass without a change of the configuration.
func temporary(err error) bool {
	c := code(err)
	return c == codes.SQLITE_FULL || c == codes.SQLITE_IOERR || errors.Is(err, errStuck) ||
		errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EIO)
}
