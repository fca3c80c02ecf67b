package state

import (
	"iter"

	"github.com/balance-exporter/balance_exporter/internal/portions"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

// loaded is a snapshot that was stored.
type loaded struct {
	key string
	*snapshot.Snapshot
	version uint64
}

// pass calls fn with what read yields. While fn has some, read reads and decodes the next.
func pass(fn func(key string, s *snapshot.Snapshot, version uint64), read iter.Seq[loaded]) {
	for some := range portions.Ahead(read, portion) {
		for _, l := range some {
			fn(l.key, l.Snapshot, l.version)
		}
	}
}
