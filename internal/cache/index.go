package cache

import (
	"hash/maphash"
	"iter"
)

// index finds entries by the keys of their sources. It is a table with open addressing
// that holds no keys: they would take more memory than the entries.
type index struct {
	seed  maphash.Seed
	slots []*entry // a power of two of them; nil is free
	used  int      // slots that are not free
}

// removed stands where an entry was, so that a search goes past it.
var removed = &entry{}

func newIndex(size int) *index {
	slots := 8
	for slots*3/4 < size {
		slots *= 2
	}
	return &index{seed: maphash.MakeSeed(), slots: make([]*entry, slots)}
}

// all returns every entry.
func (x *index) all() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for _, e := range x.slots {
			if e != nil && e != removed && !yield(e) {
				return
			}
		}
	}
}

// at returns the slot of the entry with a key, and the entry; nil if there is none.
func (x *index) at(key string) (slot int, e *entry) {
	mask := len(x.slots) - 1
	slot = int(maphash.String(x.seed, key)) & mask //nolint:gosec // masked
	for ; x.slots[slot] != nil; slot = (slot + 1) & mask {
		if e := x.slots[slot]; e != removed && e.key() == key {
			return slot, e
		}
	}
	return slot, nil
}

func (x *index) get(key string) *entry {
	_, e := x.at(key)
	return e
}

// add adds an entry whose key is not in. There must be room for it.
func (x *index) add(key string, e *entry) {
	slot, _ := x.at(key)
	x.slots[slot] = e
	x.used++
}

func (x *index) remove(key string) {
	if slot, e := x.at(key); e != nil {
		x.slots[slot] = removed
	}
}

// roomFor returns x, or a copy of it that has room for n more entries.
func (x *index) roomFor(n int) *index {
	if x.used+n <= len(x.slots)*3/4 {
		return x
	}
	in := 0
	for range x.all() {
		in++
	}
	larger := newIndex(in + n)
	for e := range x.all() {
		larger.add(e.key(), e)
	}
	return larger
}
