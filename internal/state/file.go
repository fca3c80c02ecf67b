package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// fileMode is for the owner alone: balances are nobody else's business.
const fileMode fs.FileMode = 0o600

var (
	errInUse = errors.New("in use by another process: stop that one, or give each process a --state.url of its own")
	// errStuck means that an unusable file cannot be renamed.
	errStuck = errors.New("unusable, and cannot be set aside")
	// errPanicked means that bbolt has given up and may hold its locks for ever.
	errPanicked = errors.New("panic in bbolt")
)

// damage is the error of a file that cannot be used and has to make way.
type damage struct{ err error }

// Error returns what is wrong with the file.
func (d damage) Error() string { return d.err.Error() }

// Unwrap returns the cause.
func (d damage) Unwrap() error { return d.err }

// openFile opens or creates a state file for reading and writing.
func openFile(path string, logger log.Logger) (*os.File, error) {
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("state file %s: the directory %s does not exist; create it, and let the exporter write in it", path, dir)
	} else if err == nil && !info.IsDir() {
		return nil, fmt.Errorf("state file %s: %s is not a directory", path, dir)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("state file %s: not a regular file; give the path of a file", path)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fmt.Errorf("state file: %w", err)
	}
	if err := tighten(f, logger); err != nil {
		_ = level.Warn(logger).Log("msg", "state file can be read by others, and its mode cannot be changed", "file", path, "err", err)
	}
	return f, nil
}

// tighten takes the rights of everybody but the owner away.
func tighten(f *os.File, logger log.Logger) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	mode := info.Mode().Perm()
	if mode&0o077 == 0 {
		return nil
	}
	if err := f.Chmod(mode &^ 0o077); err != nil {
		return err
	}
	_ = level.Warn(logger).Log("msg", "state file could be read by others; that is ended", "file", f.Name(), "mode_was", fmt.Sprintf("%#o", mode))
	return nil
}

// openLocked opens or creates the file at path and locks it.
func openLocked(path string, logger log.Logger) (*os.File, error) {
	for {
		f, err := openFile(path, logger)
		if err != nil {
			return nil, err
		}
		if err := lockFile(f); err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("state file %s: %w", path, err)
		}
		// Another process may have set the file aside before the lock was ours.
		mine, err := f.Stat()
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("state file: %w", err)
		}
		if there, err := os.Stat(path); err == nil && os.SameFile(mine, there) {
			return f, nil
		}
		_ = f.Close()
	}
}

// setAside renames the file at path, so that a person can look at it and a new
// one can be made.
func setAside(path string, reason error, logger log.Logger) error {
	stamp := path + ".damaged-" + time.Now().UTC().Format("20060102T150405Z")
	name := stamp
	for i := 1; ; i++ {
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return fmt.Errorf("%w: %w (%w)", errStuck, err, reason)
		}
		name = fmt.Sprintf("%s-%d", stamp, i)
	}
	if err := os.Rename(path, name); err != nil {
		return fmt.Errorf("%w: %w (%w)", errStuck, err, reason)
	}
	_ = level.Error(logger).Log("msg", "state file cannot be used; it is set aside, and a new one begun",
		"file", path, "kept_as", name, "err", reason)
	return nil
}

// guard calls fn and turns a panic into [damage], the fault of a memory map
// included: a page that the disk cannot deliver raises one.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damage{fmt.Errorf("%w: %v", errPanicked, r)}
		}
	}()
	return fn()
}
