package state

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

// sqliteStore is the Store in two files: snapshots in PATH, quota records in
// PATH.quota. Damage to the large file does not lose the quota, and an Update does
// not wait for a transaction of thousands of snapshots.
//
// Only one process uses the files, so its memory counts for quota records, and it
// continues if they cannot be written.
type sqliteStore struct {
	*memory                 // quota records and claims only
	quotaFile, snapshotFile *file
	logger                  log.Logger
}

// gather is short beside a fetch, and long enough for the snapshots of a large fleet, of
// which thousands come in a second, to share transactions.
const gather = 2 * time.Millisecond

func openSQLite(path string, opts Options) (Store, error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // the library puts the -wal file beside the target
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("state file: %w", err)
	}
	logger := log.With(opts.Logger, "component", "state")
	s := &sqliteStore{
		memory: newMemory(opts.Observer), logger: logger,
		quotaFile:    &file{path: path + ".quota", logger: logger, missing: make(map[name][]byte)},
		snapshotFile: &file{path: path, gather: gather, logger: logger, missing: make(map[name][]byte)},
	}
	for _, f := range []*file{s.snapshotFile, s.quotaFile} {
		err := f.open()
		if err != nil && !temporary(err) {
			_ = s.snapshotFile.close()
			return nil, err
		}
		if err != nil {
			f.report(err)
		}
	}
	damaged := 0
	records, err := s.quotaFile.query(nil, "SELECT id, value FROM records")
	for _, r := range records {
		account, err := decodeQuota(r.name, r.value)
		if err != nil {
			damaged++
			continue
		}
		s.quotas[r.name] = account
	}
	_ = s.warnDamaged("some quota records cannot be read; their accounts start with their whole quota", s.quotaFile, damaged, err)
	s.quotaFile.all = s.quotaRecords
	return s, nil
}

// quotaRecords returns the records of all quota records.
func (s *sqliteStore) quotaRecords() map[name][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	records := make(map[name][]byte, len(s.quotas))
	for id, account := range s.quotas {
		records[name{id: id}] = encodeQuota(id, account)
	}
	return records
}

// Update implements [Store].
func (s *sqliteStore) Update(_ context.Context, id string, change func(quota.Account, time.Time) quota.Account) (quota.Account, error) {
	start := time.Now()
	account := s.update(id, change, func(account quota.Account) {
		s.quotaFile.add(map[name][]byte{{id: id}: encodeQuota(id, account)})
	})
	err := s.quotaFile.flush()
	s.observer.Operation(opUpdate, time.Since(start), err)
	return account, ifClosed(err)
}

// Load implements [Store].
func (s *sqliteStore) Load(_ context.Context, id string, keys []string, fn func(key string, s *snapshot.Snapshot, version uint64)) error {
	start, damaged := time.Now(), 0
	var err error
	pass(fn, func(yield func(loaded) bool) {
		err = s.snapshotFile.each(id, keys, func(key string, record []byte) bool {
			decoded, err := decodeSnapshot(id, key, record)
			if err != nil {
				damaged++
				return true
			}
			return yield(loaded{key, decoded, 0})
		})
	})
	err = s.warnDamaged("some snapshots cannot be read; they are fetched again", s.snapshotFile, damaged, err)
	s.observer.Operation(opLoad, time.Since(start), err)
	return ifClosed(err)
}

// warnDamaged logs the error of reading a file.
func (s *sqliteStore) warnDamaged(msg string, f *file, damaged int, err error) error {
	if damaged > 0 {
		err = fmt.Errorf("%d damaged records", damaged)
	}
	if err != nil {
		_ = level.Warn(s.logger).Log("msg", msg, "file", f.path, "err", err)
	}
	return err
}

// Publish implements [Store].
func (s *sqliteStore) Publish(_ context.Context, id string, outcomes []Outcome) ([]bool, error) {
	start := time.Now()
	records := make(map[name][]byte, len(outcomes))
	for _, o := range outcomes {
		switch {
		case o.Abandoned:
		case o.Snapshot == nil:
			records[name{id, o.Key}] = nil
		default:
			records[name{id, o.Key}] = encodeSnapshot(id, o.Key, o.Snapshot)
		}
	}
	s.snapshotFile.add(records)
	err := s.snapshotFile.flush()
	s.observer.Operation(opPublish, time.Since(start), err)
	return acceptAll(outcomes), ifClosed(err)
}

// ifClosed returns err if the store is closed. Any other error is logged and
// observed, and the store continues from memory.
func ifClosed(err error) error {
	if errors.Is(err, errClosed) {
		return err
	}
	return nil
}

// Close implements [Store].
func (s *sqliteStore) Close() error { return errors.Join(s.quotaFile.close(), s.snapshotFile.close()) }
