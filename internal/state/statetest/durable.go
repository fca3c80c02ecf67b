package statetest

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
)

// durable is a store in memory that also stores snapshots, as a file does.
type durable struct {
	state.Store
	mu        sync.Mutex
	snapshots map[string]map[string]*snapshot.Snapshot // by account id and key
}

// NewDurable returns a store of one process that stores snapshots in memory: for tests of a
// restart in a synctest bubble, where a file would be slow.
func NewDurable() state.Store {
	return &durable{Store: state.NewMemory(), snapshots: make(map[string]map[string]*snapshot.Snapshot)}
}

// Load implements [state.Store].
func (d *durable) Load(_ context.Context, id string, keys []string, fn func(key string, s *snapshot.Snapshot, version uint64)) error {
	d.mu.Lock()
	snapshots := maps.Clone(d.snapshots[id]) // fn may use the store
	d.mu.Unlock()
	for key, s := range snapshots {
		if keys == nil || slices.Contains(keys, key) {
			fn(key, s, 0)
		}
	}
	return nil
}

// Publish implements [state.Store].
func (d *durable) Publish(ctx context.Context, id string, outcomes []state.Outcome) ([]bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.snapshots[id] == nil {
		d.snapshots[id] = make(map[string]*snapshot.Snapshot)
	}
	for _, o := range outcomes {
		switch {
		case o.Abandoned:
		case o.Snapshot == nil:
			delete(d.snapshots[id], o.Key)
		default:
			s := *o.Snapshot
			s.Reading.Roster = nil
			d.snapshots[id][o.Key] = &s
		}
	}
	return d.Store.Publish(ctx, id, outcomes)
}
