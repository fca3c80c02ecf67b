package state

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

// memory is the Store that ends with the process. It never fails.
type memory struct {
	observer Observer

	mu        sync.Mutex
	quotas    map[string]quota.Account
	snapshots map[string]map[string]*snapshot.Snapshot // by account id and key
}

// NewMemory returns a store that ends with the process and never fails.
func NewMemory() Store { return newMemory(noObserver{}) }

func newMemory(observer Observer) *memory {
	return &memory{
		observer: observer, quotas: make(map[string]quota.Account),
		snapshots: make(map[string]map[string]*snapshot.Snapshot),
	}
}

// update changes a quota record. It calls changed with the new one before another
// call can change it again.
func (m *memory) update(id string, change func(quota.Account, time.Time) quota.Account, changed func(quota.Account)) quota.Account {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.quotas[id]
	after := change(before, time.Now())
	if after != before {
		m.quotas[id] = after
		changed(after)
	}
	return after
}

// Update implements [Store].
func (m *memory) Update(_ context.Context, id string, change func(quota.Account, time.Time) quota.Account) (quota.Account, error) {
	defer m.observer.Operation(opUpdate, 0, nil)
	return m.update(id, change, func(quota.Account) {}), nil
}

// Load implements [Store].
func (m *memory) Load(_ context.Context, id string, fn func(key string, s *snapshot.Snapshot, version uint64)) error {
	defer m.observer.Operation(opLoad, 0, nil)
	m.mu.Lock()
	snapshots := maps.Clone(m.snapshots[id]) // fn may use the store
	m.mu.Unlock()
	for key, s := range snapshots {
		fn(key, s, 0)
	}
	return nil
}

// Newer implements [Store].
func (m *memory) Newer(context.Context, string, []Source, func(string, *snapshot.Snapshot, uint64)) (bool, error) {
	return false, nil
}

// Claim implements [Store]. No other process can have a claim.
func (m *memory) Claim(_ context.Context, _ string, _ bool, sources []Source) ([]Claim, error) {
	defer m.observer.Operation(opClaim, 0, nil)
	for range sources {
		m.observer.Claimed(Granted.String())
	}
	return make([]Claim, len(sources)), nil
}

// Publish implements [Store].
func (m *memory) Publish(_ context.Context, id string, outcomes []Outcome) ([]bool, error) {
	defer m.observer.Operation(opPublish, 0, nil)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.snapshots[id] == nil {
		m.snapshots[id] = make(map[string]*snapshot.Snapshot)
	}
	for _, o := range outcomes {
		switch {
		case o.Abandoned:
		case o.Snapshot == nil:
			delete(m.snapshots[id], o.Key)
		case o.Snapshot.Reading.Roster != nil:
			s := *o.Snapshot
			s.Reading.Roster = nil
			m.snapshots[id][o.Key] = &s
		default:
			m.snapshots[id][o.Key] = o.Snapshot
		}
	}
	return acceptAll(outcomes), nil
}

// acceptAll accepts every outcome: in one process no claim can be lost.
func acceptAll(outcomes []Outcome) []bool { return slices.Repeat([]bool{true}, len(outcomes)) }

// Shared implements [Store].
func (m *memory) Shared() bool { return false }

// Ready implements [Store].
func (m *memory) Ready(context.Context) error { return nil }

// Close implements [Store].
func (m *memory) Close() error { return nil }
