package state

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

const (
	// checkpointDelay bounds what a power cut loses: a commit is not synced, a
	// checkpoint is.
	checkpointDelay = 500 * time.Millisecond
	// portion is how many records are read or written at a time. It bounds the
	// memory, and what a call repeats while the disk is full.
	portion = 1000
)

// putSQL writes a record in the place of the one with its name, or behind all others of
// the account.
const putSQL = `INSERT INTO records (id, place, key, value, written)
	VALUES (?1, (SELECT ifnull(max(place), 0) + 1 FROM records WHERE id = ?1), ?2, ?3, ?4)
	ON CONFLICT (id, key) DO UPDATE SET value = excluded.value, written = excluded.written`

// name is what a record is found by.
type name struct{ id, key string }

// file is a table of records in one SQLite file. An empty record stands for a
// deleted one, until the file is opened again.
//
// Records that the file lacks are in memory, and each flush writes all of them:
// concurrent calls share a transaction, and a failed one is repeated.
type file struct {
	path   string
	logger log.Logger
	// gather is how long a flush waits for records of others, which it writes, too.
	gather time.Duration
	// all returns every record, for a file that replaces a lost one. Nil if they
	// are not in memory.
	all func() map[name][]byte

	mu      sync.Mutex
	missing map[name][]byte // the records that the file lacks
	flushes uint64          // number of calls of flush

	access        sync.Mutex     // guards what follows; locked before mu
	db            *sql.DB        // nil if the file is not open
	put           *sql.Stmt      // putSQL, of db
	opened        [2]fs.FileInfo // the file and its -wal file
	flushed       uint64         // value of flushes at the last transaction
	flushErr      error          // of that transaction
	checkpoint    *time.Timer    // nil unless it is going to run
	checkpointErr error          // of the last checkpoint
	failing       bool           // the last error is logged
	closed        bool
}

// add adds records to those that the file lacks.
func (f *file) add(records map[name][]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.Copy(f.missing, records)
}

// flush writes the records that the file lacks.
func (f *file) flush() error {
	f.mu.Lock()
	f.flushes++
	mine := f.flushes
	f.mu.Unlock()
	time.Sleep(f.gather)
	f.access.Lock()
	defer f.access.Unlock()
	if f.closed {
		return errClosed
	}
	if f.flushed >= mine {
		return f.flushErr // another call has written them
	}
	f.mu.Lock()
	records := f.missing
	f.missing, f.flushed = make(map[name][]byte), f.flushes
	f.mu.Unlock()
	err := f.write(records)
	if err != nil {
		f.mu.Lock()
		maps.Copy(records, f.missing) // these are newer
		f.missing = records
		f.mu.Unlock()
	}
	if err == nil && f.checkpointErr != nil {
		err = f.sync()
	}
	f.flushErr = err
	f.report(err)
	return err
}

// write writes records, to a new file if the old one was lost, and deletes what it
// has written from records.
func (f *file) write(records map[name][]byte) error {
	if len(records) == 0 {
		return nil
	}
	if f.db != nil && !f.inPlace() {
		_ = level.Error(f.logger).Log("msg", "state file was removed or replaced; it is opened again", "file", f.path)
		f.closeDB()
	}
	if f.db == nil {
		if err := f.open(); err != nil {
			return err
		}
		if f.all != nil {
			maps.Copy(records, f.all())
		}
	}
	// In the order of the index a transaction touches each page of that once.
	names := slices.SortedFunc(maps.Keys(records), func(a, b name) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.key, b.key))
	})
	for part := range slices.Chunk(names, portion) {
		err := f.transaction(part, records)
		if damaged(err) {
			return errors.Join(err, f.quarantine(err))
		}
		if err != nil {
			return err
		}
		for _, n := range part {
			delete(records, n)
		}
	}
	if f.checkpoint == nil {
		f.checkpoint = time.AfterFunc(checkpointDelay, f.runCheckpoint)
	}
	return nil
}

func (f *file) transaction(names []name, records map[name][]byte) error {
	tx, err := f.db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	put := tx.Stmt(f.put)
	for _, n := range names {
		if _, err := put.Exec([]byte(n.id), []byte(n.key), records[n], time.Now().Unix()); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (f *file) runCheckpoint() {
	f.access.Lock()
	defer f.access.Unlock()
	f.checkpoint = nil
	if f.db == nil {
		return
	}
	if err := f.sync(); err != nil {
		f.report(err)
		f.checkpoint = time.AfterFunc(checkpointDelay, f.runCheckpoint)
	}
}

// sync moves commits from the -wal file to the file, and syncs both.
func (f *file) sync() error {
	_, f.checkpointErr = f.db.Exec("PRAGMA wal_checkpoint(PASSIVE)")
	return f.checkpointErr
}

// report logs the first of consecutive errors, and the recovery.
func (f *file) report(err error) {
	if err != nil && !f.failing {
		_ = level.Error(f.logger).Log("msg", "state file cannot be written; the state is in memory until it can", "file", f.path, "err", err)
	} else if err == nil && f.failing {
		_ = level.Info(f.logger).Log("msg", "state file can be written again", "file", f.path)
	}
	f.failing = err != nil
}

// each calls fn for every record of an account, or for those of the keys if they are not
// nil, until fn returns false. fn may use the file. A record is valid during the call.
func (f *file) each(id string, keys []string, fn func(key string, record []byte) bool) error {
	f.access.Lock() // no record is on its way to the file
	f.mu.Lock()
	newer := maps.Clone(f.missing)
	f.mu.Unlock()
	f.access.Unlock()
	wanted := make(map[string]bool, len(keys))
	for _, key := range keys {
		wanted[key] = true
	}
	maps.DeleteFunc(newer, func(n name, _ []byte) bool { return n.id != id || keys != nil && !wanted[n.key] })
	for n, record := range newer {
		if len(record) > 0 && !fn(n.key, record) {
			return nil
		}
	}
	var read []record
	query := func(condition string, args ...any) (more bool, err error) {
		f.access.Lock()
		read, err = f.query(read[:0], "SELECT key, value FROM records WHERE id = ?1 AND "+condition, append([]any{[]byte(id)}, args...)...)
		f.access.Unlock()
		for _, r := range read {
			if _, ok := newer[name{id, r.name}]; !ok && len(r.value) > 0 && !fn(r.name, r.value) {
				return false, err
			}
		}
		return true, err
	}
	for batch := range slices.Chunk(keys, portion) {
		args := make([]any, len(batch))
		for i, key := range batch {
			args[i] = []byte(key)
		}
		if more, err := query("key IN (?"+strings.Repeat(",?", len(batch)-1)+")", args...); err != nil || !more {
			return err
		}
	}
	var last any // key; NULL before the first
	for more := keys == nil; more; {
		var err error
		more, err = query("place > ifnull((SELECT place FROM records WHERE id = ?1 AND key = ?2), 0) ORDER BY place LIMIT ?3", last, portion)
		if err != nil || len(read) < portion {
			return err
		}
		last = []byte(read[portion-1].name)
	}
	return nil
}

type record struct {
	name  string // its id or its key
	value []byte
}

// query appends to records the names and values that a query selects, in the memory that
// it has. access must be locked.
func (f *file) query(records []record, query string, args ...any) ([]record, error) {
	if f.closed {
		return records, errClosed
	}
	if f.db == nil {
		return records, nil // an error that is reported already
	}
	rows, err := f.db.Query(query, args...)
	if err != nil {
		return records, err
	}
	var name, value sql.RawBytes
	for rows.Next() {
		err = errors.Join(err, rows.Scan(&name, &value))
		n := len(records)
		records = slices.Grow(records, 1)[:n+1]
		records[n].name, records[n].value = string(name), append(records[n].value[:0], value...)
	}
	return records, errors.Join(err, rows.Err(), rows.Close())
}

// close writes what is missing and closes the file.
func (f *file) close() error {
	err := f.flush()
	f.access.Lock()
	defer f.access.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	f.closeDB()
	if err != nil {
		return fmt.Errorf("state file %s lacks the last changes: %w", f.path, err)
	}
	return nil
}

func (f *file) closeDB() {
	if f.db != nil {
		_ = f.db.Close()
		f.db = nil
	}
}
