package state

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-kit/log"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const boltFormat = "1"

// The layout of the bolt file: meta/format is the format's version,
// sources/<account id>/<source key> is a record.
var (
	metaBucket    = []byte("meta")
	formatKey     = []byte("format")
	sourcesBucket = []byte("sources")
)

// openDB opens the bolt file, after setting an unusable one aside.
func openDB(path string, logger log.Logger) (*bbolt.DB, error) {
	for {
		f, err := openLocked(path, logger)
		if err != nil {
			return nil, err
		}
		info, err := f.Stat()
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("state file: %w", err)
		}
		db, err := openChecked(f, info.Size())
		if err == nil {
			return db, nil
		}
		_ = f.Close() // bbolt has often done so
		if d := (damage{}); !errors.As(err, &d) {
			return nil, fmt.Errorf("state file %s: %w", path, err)
		}
		if err := replace(path, info, err, logger); err != nil {
			return nil, err
		}
	}
}

// replace sets the unusable file at path aside. The lock went when bbolt gave the
// file back, so it is taken again: what is at path may be another process's new
// file by now.
func replace(path string, unusable os.FileInfo, reason error, logger log.Logger) error {
	if !errors.Is(reason, errPanicked) { // else bbolt still has the lock
		f, err := openLocked(path, logger)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		if info, err := f.Stat(); err != nil || !os.SameFile(info, unusable) {
			return err
		}
	}
	if err := setAside(path, reason, logger); err != nil {
		return fmt.Errorf("state file %s: %w", path, err)
	}
	return nil
}

// openChecked opens the locked file f, of size bytes, as a bolt file of this exporter. An error
// of kind [damage] means that the file has to make way.
func openChecked(f *os.File, size int64) (*bbolt.DB, error) {
	if size > 0 {
		if err := checkBolt(f, size); err != nil {
			return nil, damage{err}
		}
	}
	var db *bbolt.DB
	err := guard(func() error {
		var err error
		db, err = bbolt.Open(f.Name(), fileMode, &bbolt.Options{
			Timeout:      time.Nanosecond, // try once
			FreelistType: bbolt.FreelistMapType,
			NoStatistics: true,
			// The file that was locked and checked, not what is there by now.
			OpenFile: func(string, int, os.FileMode) (*os.File, error) { return f, nil },
		})
		if err != nil {
			return err
		}
		return prepare(db)
	})
	switch {
	case err == nil:
		return db, nil
	case db != nil && !errors.Is(err, errPanicked):
		_ = db.Close()
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, errInUse
	}
	return nil, err
}

// prepare makes the buckets of a new file, and checks those of an old one.
func prepare(db *bbolt.DB) error {
	empty := false
	err := db.View(func(tx *bbolt.Tx) error {
		if name, _ := tx.Cursor().First(); name == nil {
			empty = true
			return nil
		}
		return checkLayout(tx)
	})
	if err != nil || !empty {
		return err
	}
	return db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		if err := meta.Put(formatKey, []byte(boltFormat)); err != nil {
			return err
		}
		_, err = tx.CreateBucket(sourcesBucket)
		return err
	})
}

// checkLayout returns [damage] unless the file is laid out as described above.
func checkLayout(tx *bbolt.Tx) error {
	meta, sources := tx.Bucket(metaBucket), tx.Bucket(sourcesBucket)
	if meta == nil || meta.Get(formatKey) == nil {
		return damage{errors.New("not a file of this exporter")}
	}
	if format := meta.Get(formatKey); string(format) != boltFormat {
		return damage{fmt.Errorf("format %q, expected %q: written by another version of the exporter", format, boltFormat)}
	}
	if sources == nil {
		return damage{errors.New("no sources in it")}
	}
	return sources.ForEach(func(id, v []byte) error {
		if v != nil {
			return damage{fmt.Errorf("a value in the place of account %q", id)}
		}
		return sources.Bucket(id).ForEach(func(key, v []byte) error {
			if v == nil {
				return damage{fmt.Errorf("a bucket in the place of source %q", key)}
			}
			return nil
		})
	})
}
