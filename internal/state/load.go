package state

import (
	"iter"

	"github.com/balance-exporter/balance_exporter/internal/portions"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

// loaded is a snapshot that was stored.
type loaded struct {
	key     string
	version uint64
	snapshot.Snapshot
}

// pass calls fn with what read yields. While fn has some, read reads and decodes the next.
func pass(fn func(key string, s *snapshot.Snapshot, version uint64), read iter.Seq[loaded]) {
	for some := range portions.Ahead(read, portion) {
		for i := range some {
			fn(some[i].key, &some[i].Snapshot, some[i].version)
		}
	}
}
