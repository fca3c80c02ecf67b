package state

import (
	"fmt"
	"time"
)

// For the tests, which use statetest and so cannot be in this package.
var (
	EncodeQuota    = encodeQuota
	DecodeQuota    = decodeQuota
	EncodeSnapshot = encodeSnapshot
	DecodeSnapshot = decodeSnapshot
	Checksum       = checksum
)

const (
	FormatVersion   = formatVersion
	Plain           = plain
	Deflated        = deflated
	HeadSize        = headSize
	PageSize        = pageSize
	CheckpointDelay = checkpointDelay
	Forms           = forms
	LeaseLife       = leaseLife
)

// LockSnapshots stops the snapshot file of a store until the returned func is
// called, as a slow disk would.
func LockSnapshots(s Store) func() {
	f := s.(*sqliteStore).snapshotFile
	f.access.Lock()
	return f.access.Unlock
}

// WaitingFlushes returns how many calls wait for the snapshot file.
func WaitingFlushes(s Store) int {
	f := s.(*sqliteStore).snapshotFile
	f.mu.Lock()
	defer f.mu.Unlock()
	return int(f.flushes - f.flushed)
}

// LimitFiles makes the files of a store fail to grow, as on a full disk.
func LimitFiles(s Store, limited bool) error {
	pages := 1 // less than a file has counts as what it has
	if !limited {
		pages = 1 << 30
	}
	for _, f := range []*file{s.(*sqliteStore).quotaFile, s.(*sqliteStore).snapshotFile} {
		f.access.Lock()
		_, err := f.db.Exec(fmt.Sprint("PRAGMA max_page_count = ", pages))
		f.access.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// SetLeaseLife shortens the leases of a store.
func SetLeaseLife(s Store, d time.Duration) { s.(*redisStore).leases.life = d }

// Die stops a store as the end of its process does: nothing is released.
func Die(s Store) { s.(*redisStore).link.close() }
