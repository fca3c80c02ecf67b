package statetest

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
)

// kept is a store in memory that also stores snapshots, as a file does.
type kept struct {
	state.Store
	mu        sync.Mutex
	snapshots map[string]map[string]*snapshot.Snapshot // by account id and key
}

// NewKept returns a store of one process that stores snapshots in memory: for tests of a
// restart in a synctest bubble, where a file would be slow.
func NewKept() state.Store {
	return &kept{Store: state.NewMemory(), snapshots: make(map[string]map[string]*snapshot.Snapshot)}
}

// Load implements [state.Store].
func (k *kept) Load(_ context.Context, id string, keys []string, fn func(key string, s *snapshot.Snapshot, version uint64)) error {
	k.mu.Lock()
	snapshots := maps.Clone(k.snapshots[id]) // fn may use the store
	k.mu.Unlock()
	for key, s := range snapshots {
		if keys == nil || slices.Contains(keys, key) {
			fn(key, s, 0)
		}
	}
	return nil
}

// Publish implements [state.Store].
func (k *kept) Publish(ctx context.Context, id string, outcomes []state.Outcome) ([]bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.snapshots[id] == nil {
		k.snapshots[id] = make(map[string]*snapshot.Snapshot)
	}
	for _, o := range outcomes {
		switch {
		case o.Abandoned:
		case o.Snapshot == nil:
			delete(k.snapshots[id], o.Key)
		default:
			s := *o.Snapshot
			s.Reading.Roster = nil
			k.snapshots[id][o.Key] = &s
		}
	}
	return k.Store.Publish(ctx, id, outcomes)
}
