package state

import (
	"maps"
	"sync"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

// memory is the Store of one process's life.
type memory struct {
	mu       sync.Mutex
	accounts map[string]Account
	sources  map[string]map[string]*snapshot.Snapshot
}

// NewMemory returns a Store that ends with the process. It never fails.
func NewMemory() Store {
	return &memory{
		accounts: make(map[string]Account),
		sources:  make(map[string]map[string]*snapshot.Snapshot),
	}
}

// LoadAccount implements [Store].
func (m *memory) LoadAccount(id string) (Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.accounts[id], nil
}

// SaveAccount implements [Store].
func (m *memory) SaveAccount(id string, a Account) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accounts[id] = a
	return nil
}

// LoadSources implements [Store].
func (m *memory) LoadSources(id string, fn func(key string, s *snapshot.Snapshot)) error {
	m.mu.Lock()
	sources := maps.Clone(m.sources[id]) // fn may use the store
	m.mu.Unlock()
	for key, s := range sources {
		fn(key, s)
	}
	return nil
}

// SaveSource implements [Store].
func (m *memory) SaveSource(id, key string, s *snapshot.Snapshot) {
	if s.Reading.Roster != nil {
		// What a file cannot keep is not kept here either.
		kept := *s
		kept.Reading.Roster = nil
		s = &kept
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sources[id] == nil {
		m.sources[id] = make(map[string]*snapshot.Snapshot)
	}
	m.sources[id][key] = s
}

// DropSources implements [Store].
func (m *memory) DropSources(id string, keys []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		delete(m.sources[id], key)
	}
}

// Retain implements [Store].
func (m *memory) Retain(ids []string) error {
	keep := set(ids)
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.accounts, func(id string, _ Account) bool { return !keep[id] })
	maps.DeleteFunc(m.sources, func(id string, _ map[string]*snapshot.Snapshot) bool { return !keep[id] })
	return nil
}

// Close implements [Store].
func (m *memory) Close() error { return nil }

// set returns the strings of list as a set.
func set(list []string) map[string]bool {
	s := make(map[string]bool, len(list))
	for _, v := range list {
		s[v] = true
	}
	return s
}
