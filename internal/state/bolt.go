package state

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

const (
	// batchDelay is how long saved sources wait for company.
	batchDelay = 250 * time.Millisecond
	// retryDelay is the pause after a failed write, reportEvery that between two
	// complaints.
	retryDelay  = time.Second
	reportEvery = time.Minute

	// A batch is committed, and sources are loaded, in portions, to bound the
	// memory.
	portionRecords = 10_000
	portionBytes   = 16 << 20

	boltFormat = "1"
)

// The layout of the bolt file: meta/format is the format's version,
// sources/<account id>/<source key> is a record.
var (
	metaBucket    = []byte("meta")
	formatKey     = []byte("format")
	sourcesBucket = []byte("sources")
)

var (
	errClosed = errors.New("state store is closed")
	errBroken = errors.New("state file is damaged; it will be set aside at the next start")
)

// bolt is the Store in two files. The snapshots of sources are in a bolt file,
// which a background goroutine writes in batches, fsync included. Accounts are in
// a file of their own beside it, see [accountFile], for two reasons. bbolt has one
// writer at a time, and a request must not wait until a batch of thousands of
// snapshots is on the disk. And bbolt without fsync, which alone would be fast
// enough, lets the kernel write a meta page before the pages it refers to: then a
// power cut costs the whole file, not the last second.
//
// A kill at any moment leaves the bolt file readable: bbolt never overwrites a
// page in use, and writes the meta page, which makes a commit valid, last and in
// one piece.
type bolt struct {
	logger   log.Logger
	db       *bbolt.DB
	accounts *accountFile

	// flushing is held while the bolt file is being written.
	flushing sync.Mutex
	broken   bool      // guarded by flushing: bbolt has panicked and may hold its locks
	reported time.Time // used by run only

	mu     sync.Mutex
	queue  batch // what is to be written
	taken  batch // what is being written
	closed bool

	wake chan struct{} // holds a token while there is something to write
	stop chan struct{}
	done chan struct{}

	closeOnce sync.Once
	closeErr  error
}

// batch is snapshots by account id and source key; nil is a source to forget.
type batch map[string]map[string]*snapshot.Snapshot

// OpenBolt returns the Store that lives in the bolt file at path and, for the
// accounts, in path.accounts. Both are created if need be, in an existing
// directory, with mode 0600. A file in use by another process is an error. One
// that cannot be used, because it is damaged, cut short, not the exporter's or
// of another version, is logged, renamed to path.damaged-<time>, and replaced by
// a new one. If it cannot be renamed, that is logged and the store is in memory.
func OpenBolt(path string, logger log.Logger) (Store, error) {
	logger = log.With(logger, "component", "state")
	b, err := openBolt(path, logger)
	if errors.Is(err, errStuck) {
		_ = level.Error(logger).Log("msg", "state is kept in memory only: a restart forgets spent quota and cool-downs", "err", err)
		return NewMemory(), nil
	}
	if err != nil {
		return nil, err
	}
	go b.run()
	return b, nil
}

// openBolt returns a store that does not write by itself yet.
func openBolt(path string, logger log.Logger) (*bolt, error) {
	db, err := openDB(path, logger)
	if err != nil {
		return nil, err
	}
	accounts, err := openAccounts(path+".accounts", logger)
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return &bolt{
		logger: logger, db: db, accounts: accounts, queue: make(batch),
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}, nil
}

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

// LoadAccount implements [Store].
func (b *bolt) LoadAccount(id string) (Account, error) {
	if b.isClosed() {
		return Account{}, errClosed
	}
	return b.accounts.get(id), nil
}

// SaveAccount implements [Store].
func (b *bolt) SaveAccount(id string, a Account) error {
	if b.isClosed() {
		return errClosed
	}
	if err := b.accounts.put(id, a); err != nil {
		return fmt.Errorf("save account: %w", err)
	}
	b.wakeUp()
	return nil
}

// LoadSources implements [Store]. What waits to be written counts as kept.
func (b *bolt) LoadSources(id string, fn func(key string, s *snapshot.Snapshot)) error {
	waiting := make(map[string]*snapshot.Snapshot)
	b.mu.Lock()
	closed := b.closed
	for _, from := range []batch{b.taken, b.queue} { // the newer ones last
		for key, s := range from[id] {
			waiting[key] = s
		}
	}
	b.mu.Unlock()
	if closed {
		return errClosed
	}
	bad := 0
	for after, more := []byte(nil), true; more; {
		var records []record
		err := guard(func() (err error) {
			records, more, err = b.portion(id, after)
			return err
		})
		if err != nil {
			return fmt.Errorf("load sources: %w", err)
		}
		for _, r := range records {
			after = []byte(r.key)
			if _, newer := waiting[r.key]; newer {
				continue
			}
			s, err := decodeSource(id, r.key, r.value)
			if err != nil {
				bad++
				continue
			}
			fn(r.key, s)
		}
	}
	for key, s := range waiting {
		if s != nil {
			fn(key, s)
		}
	}
	if bad > 0 {
		_ = level.Warn(b.logger).Log("msg", "state file has damaged records; they are left out", "file", b.db.Path(), "records", bad)
	}
	return nil
}

// record is the record of one source as it is in the file.
type record struct {
	key   string
	value []byte
}

// portion returns the records of an account that follow the key after, up to a
// portion, and whether there are more. It copies them so that no transaction is
// open while they are used: an open one would hold up the writer.
func (b *bolt) portion(id string, after []byte) (records []record, more bool, err error) {
	err = b.db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(sourcesBucket).Bucket([]byte(id))
		if bucket == nil {
			return nil
		}
		c := bucket.Cursor()
		k, v := c.Seek(after)
		if k != nil && string(k) == string(after) {
			k, v = c.Next()
		}
		for size := 0; k != nil; k, v = c.Next() {
			if size >= portionBytes || len(records) >= portionRecords {
				more = true
				return nil
			}
			records = append(records, record{string(k), slices.Clone(v)})
			size += len(v)
		}
		return nil
	})
	return records, more, err
}

// SaveSource implements [Store].
func (b *bolt) SaveSource(id, key string, s *snapshot.Snapshot) {
	b.enqueue(id, []string{key}, s)
}

// DropSources implements [Store].
func (b *bolt) DropSources(id string, keys []string) {
	b.enqueue(id, keys, nil)
}

// enqueue queues s, nil for none, as the snapshot of each key.
func (b *bolt) enqueue(id string, keys []string, s *snapshot.Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	if b.queue[id] == nil {
		b.queue[id] = make(map[string]*snapshot.Snapshot)
	}
	for _, key := range keys {
		b.queue[id][key] = s
	}
	b.wakeUp()
}

// Retain implements [Store].
func (b *bolt) Retain(ids []string) error {
	if b.isClosed() {
		return errClosed
	}
	keep := set(ids)
	if err := b.accounts.retain(ids); err != nil {
		return fmt.Errorf("forget accounts: %w", err)
	}
	b.wakeUp()

	b.flushing.Lock()
	defer b.flushing.Unlock()
	b.mu.Lock()
	for id := range b.queue {
		if !keep[id] {
			delete(b.queue, id)
		}
	}
	b.mu.Unlock()
	if err := b.forget(keep); err != nil {
		return fmt.Errorf("forget accounts: %w", err)
	}
	return nil
}

// forget deletes the sources of every account that is not in keep. flushing must
// be held.
func (b *bolt) forget(keep map[string]bool) error {
	var gone [][]byte
	err := guard(func() error {
		return b.db.View(func(tx *bbolt.Tx) error {
			return tx.Bucket(sourcesBucket).ForEachBucket(func(id []byte) error {
				if !keep[string(id)] {
					gone = append(gone, slices.Clone(id))
				}
				return nil
			})
		})
	})
	if err != nil || len(gone) == 0 {
		return err
	}
	return b.update(func(tx *bbolt.Tx) error {
		for _, id := range gone {
			if err := tx.Bucket(sourcesBucket).DeleteBucket(id); err != nil {
				return err
			}
		}
		return nil
	})
}

// Close implements [Store]. A second call returns what the first did.
func (b *bolt) Close() error {
	b.closeOnce.Do(func() {
		close(b.stop)
		<-b.done
		b.mu.Lock()
		b.closed = true
		b.mu.Unlock()
		err := b.flush()

		b.flushing.Lock()
		defer b.flushing.Unlock()
		err = errors.Join(err, b.accounts.close())
		if !b.broken { // else Close would wait for bbolt's locks for ever
			err = errors.Join(err, b.db.Close())
		}
		if err != nil {
			b.closeErr = fmt.Errorf("close state file: %w", err)
		}
	})
	return b.closeErr
}

// isClosed reports whether Close was called.
func (b *bolt) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// wakeUp tells run that there is something to write.
func (b *bolt) wakeUp() {
	select {
	case b.wake <- struct{}{}:
	default: // it knows
	}
}

// run writes what is queued until stop is closed.
func (b *bolt) run() {
	defer close(b.done)
	for {
		select {
		case <-b.wake:
		case <-b.stop:
			return
		}
		if !b.pause(batchDelay) {
			return
		}
		if err := b.flush(); err != nil {
			b.report(err)
			if errors.Is(err, errBroken) {
				continue // nothing to retry before the next start
			}
			b.wakeUp()
			if !b.pause(retryDelay) {
				return
			}
		}
	}
}

// pause waits for d and reports true, or false as soon as stop is closed.
func (b *bolt) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-b.stop:
		return false
	}
}

// report logs a failed write, now and then.
func (b *bolt) report(err error) {
	if now := time.Now(); b.reported.IsZero() || now.Sub(b.reported) >= reportEvery {
		b.reported = now
		_ = level.Error(b.logger).Log("msg", "state cannot be written; trying on", "file", b.db.Path(), "err", err)
	}
}

// flush hands everything that was saved to the disk. What cannot be written stays
// queued.
func (b *bolt) flush() error {
	b.flushing.Lock()
	defer b.flushing.Unlock()
	b.mu.Lock()
	taken := b.queue
	b.taken, b.queue = taken, make(batch)
	b.mu.Unlock()

	err := b.write(taken)

	b.mu.Lock()
	defer b.mu.Unlock()
	b.taken = nil
	if err != nil {
		taken.update(b.queue)
		b.queue = taken
	}
	return errors.Join(err, b.accounts.sync())
}

// update adds newer to b.
func (b batch) update(newer batch) {
	for id, sources := range newer {
		if b[id] == nil {
			b[id] = sources
			continue
		}
		for key, s := range sources {
			b[id][key] = s
		}
	}
}

// change is one entry of a batch.
type change struct {
	id, key string
	s       *snapshot.Snapshot
}

// changes returns the entries of b in the order of the file, so that a portion
// touches few pages.
func (b batch) changes() []change {
	var list []change
	for id, sources := range b {
		for key, s := range sources {
			list = append(list, change{id, key, s})
		}
	}
	slices.SortFunc(list, func(x, y change) int {
		return cmp.Or(cmp.Compare(x.id, y.id), cmp.Compare(x.key, y.key))
	})
	return list
}

// write commits a batch, portion by portion. flushing must be held.
func (b *bolt) write(todo batch) error {
	for changes := todo.changes(); len(changes) > 0; {
		done := 0
		err := b.update(func(tx *bbolt.Tx) error {
			sources := tx.Bucket(sourcesBucket)
			for size := 0; done < len(changes) && done < portionRecords && size < portionBytes; done++ {
				n, err := b.apply(sources, changes[done])
				if err != nil {
					return err
				}
				size += n
			}
			return nil
		})
		if err != nil {
			return err
		}
		changes = changes[done:]
	}
	return nil
}

// apply writes one change and returns its size in bytes. A snapshot that cannot
// be kept at all is logged and left out, so that it does not hold up the others.
func (b *bolt) apply(sources *bbolt.Bucket, c change) (int, error) {
	if c.s == nil {
		if bucket := sources.Bucket([]byte(c.id)); bucket != nil {
			return 0, bucket.Delete([]byte(c.key))
		}
		return 0, nil
	}
	record, err := encodeSource(c.id, c.key, c.s)
	if err == nil {
		err = errors.Join(checkKey(c.id), checkKey(c.key))
	}
	if err != nil {
		_ = level.Error(b.logger).Log("msg", "snapshot cannot be kept", "source", c.key, "err", err)
		return 0, nil
	}
	bucket, err := sources.CreateBucketIfNotExists([]byte(c.id))
	if err != nil {
		return 0, err
	}
	return len(record), bucket.Put([]byte(c.key), record)
}

// checkKey returns an error if bbolt takes no such key.
func checkKey(key string) error {
	if key == "" {
		return errors.New("empty name")
	}
	if len(key) > bbolt.MaxKeySize {
		return fmt.Errorf("name of %d bytes, at most %d fit", len(key), bbolt.MaxKeySize)
	}
	return nil
}

// update runs a writing transaction. bbolt panics if it meets what [checkBolt]
// cannot know; then the file is left alone from there on. flushing must be held.
func (b *bolt) update(fn func(tx *bbolt.Tx) error) error {
	if b.broken {
		return errBroken
	}
	err := guard(func() error { return b.db.Update(fn) })
	if errors.Is(err, errPanicked) {
		b.broken = true
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	return err
}
