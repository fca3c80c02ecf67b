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
	tags  []uint8  // a part of the hash of each entry's key, or 0 if the slot is free: a search looks here first
	used  int      // slots that are not free
}

// removed stands where an entry was, so that a search goes past it.
var removed = &entry{}

func newIndex(size int) *index {
	slots := 8
	for slots*3/4 < size {
		slots *= 2
	}
	return &index{seed: maphash.MakeSeed(), slots: make([]*entry, slots), tags: make([]uint8, slots)}
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

// at returns the slot and the entry of a key or, if there is none, the slot where it would
// be, with its tag.
func (x *index) at(key string) (slot int, tag uint8, e *entry) {
	hash := maphash.String(x.seed, key)
	mask := uint64(len(x.slots)) - 1
	tag = uint8(hash>>57) | 0x80 //nolint:gosec // a part
	for i := hash & mask; ; i = (i + 1) & mask {
		if x.tags[i] != 0 && x.tags[i] != tag {
			continue
		}
		e := x.slots[i]
		if e == nil || e != removed && e.key() == key {
			return int(i), tag, e //nolint:gosec // an index
		}
	}
}

func (x *index) get(key string) *entry {
	_, _, e := x.at(key)
	return e
}

// add adds an entry whose key is not in. There must be room for it.
func (x *index) add(key string, e *entry) {
	slot, tag, _ := x.at(key)
	x.slots[slot], x.tags[slot] = e, tag
	x.used++
}

func (x *index) remove(key string) {
	if slot, _, e := x.at(key); e != nil {
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
