package state

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"go.etcd.io/bbolt"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

// A batch is committed, and sources are loaded, in portions, to bound the memory.
const (
	portionRecords = 10_000
	portionBytes   = 16 << 20
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
