package state

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-kit/log/level"
	"go.etcd.io/bbolt"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

const (
	// batchDelay is how long saved sources wait for company.
	batchDelay = 250 * time.Millisecond
	// retryDelay is the pause after a failed write, reportEvery that between two
	// complaints.
	retryDelay  = time.Second
	reportEvery = time.Minute
)

// batch is snapshots by account id and source key; nil is a source to forget.
type batch map[string]map[string]*snapshot.Snapshot

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
