package state

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

// memory is the Store that ends with the process. It never fails, and stores no
// snapshots: the process has them.
type memory struct {
	observer Observer

	mu     sync.Mutex
	quotas map[string]quota.Account
}

// NewMemory returns a store that ends with the process and never fails. It stores no
// snapshots.
func NewMemory() Store { return newMemory(noObserver{}) }

func newMemory(observer Observer) *memory {
	return &memory{observer: observer, quotas: make(map[string]quota.Account)}
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
func (m *memory) Load(context.Context, string, []string, func(string, *snapshot.Snapshot, uint64)) error {
	m.observer.Operation(opLoad, 0, nil)
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
func (m *memory) Publish(_ context.Context, _ string, outcomes []Outcome) ([]bool, error) {
	m.observer.Operation(opPublish, 0, nil)
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
