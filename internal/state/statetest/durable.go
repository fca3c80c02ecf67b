package statetest

import (
	"context"
	"maps"
	"sync"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
)

// durable is a store in memory that has the snapshots of earlier users, as a file has.
type durable struct {
	state.Store

	mu        sync.Mutex
	snapshots map[string]map[string]*snapshot.Snapshot // by account id and key
}

// NewDurable returns a store for tests of restarts without a disk.
func NewDurable() state.Store {
	return &durable{Store: state.NewMemory(), snapshots: make(map[string]map[string]*snapshot.Snapshot)}
}

// Load implements [state.Store].
func (d *durable) Load(_ context.Context, id string, keys []string, fn func(key string, s *snapshot.Snapshot, version uint64)) error {
	d.mu.Lock()
	snapshots := maps.Clone(d.snapshots[id]) // fn may use the store
	d.mu.Unlock()
	if keys == nil {
		for key, s := range snapshots {
			fn(key, s, 0)
		}
	}
	for _, key := range keys {
		if s := snapshots[key]; s != nil {
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
