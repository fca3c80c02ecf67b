package flolive

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"hash/maphash"
	"slices"
	"sync/atomic"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// foundBit of the first byte of a record stands for found, the others for the kind.
const foundBit = 0x80

// record appends id to b in the form of a roster: a byte for the kind, the hash of the key,
// which is asked for often, and the compact texts of the identifier, the name and the
// balance ids.
func (id identity) record(b []byte) []byte {
	b = append(b, byte(id.kind))
	if id.found {
		b[len(b)-1] |= foundBit
	}
	hash := id.hash()
	b = append(b, hash[:]...)
	b = kit.AppendText(b, id.value)
	b = kit.AppendText(b, id.name)
	for _, balance := range id.ids {
		b = kit.AppendText(b, balance)
	}
	return b
}

// identityOf returns the identity in a record.
func identityOf(record []byte) identity {
	id := identity{kind: kind(record[0] &^ foundBit), found: record[0]&foundBit != 0}
	id.value, record, _ = kit.CutText(record[1+hashSize:])
	id.name, record, _ = kit.CutText(record)
	for len(record) > 0 {
		var balance string
		balance, record, _ = kit.CutText(record)
		id.ids = append(id.ids, balance)
	}
	return id
}

// keyOf returns [identity.key] of the identity in a record.
func keyOf(record []byte) string {
	var digits [2 * hashSize]byte
	hex.Encode(digits[:], record[1:1+hashSize])
	return string(digits[:])
}

// parts returns the compact texts of the identifier and the name in a record.
func parts(record []byte) (value, name []byte) {
	value, rest, _ := kit.SplitText(record[1+hashSize:])
	name, _, _ = kit.SplitText(rest)
	return value, name
}

// summary returns [identity.label] and the number of balance ids in a record. It costs
// less than identityOf.
func summary(record []byte) (label string, ids int) {
	value, name := parts(record)
	for rest := record[1+hashSize+len(value)+len(name):]; len(rest) > 0; ids++ {
		_, rest, _ = kit.SplitText(rest)
	}
	if bytes.Equal(name, noName) {
		name = value
	}
	label, _, _ = kit.CutText(name)
	return label, ids
}

// noName is the compact text of an empty name.
var noName = kit.AppendText(nil, "")

// roster implements [providers.Roster].
type roster struct {
	account     *account
	subscribers *kit.Records
}

// Len implements [providers.Roster].
func (r roster) Len() int { return r.subscribers.Len() }

// Key implements [providers.Roster].
func (r roster) Key(i int) string {
	return keyOf(r.subscribers.At(i))
}

// Name implements [providers.Roster].
func (r roster) Name(i int) string {
	label, _ := summary(r.subscribers.At(i))
	return label
}

// Source implements [providers.Roster].
func (r roster) Source(i int) providers.Source {
	return &subscriber{account: r.account, record: r.subscribers.At(i)}
}

// names are subscribers whose names and identifiers are unique, and where each one is
// configured: an index of the list or a line of the file. Names and identifiers are in
// one namespace, because both become the label `subscriber`, whatever the type of the
// identifier. They may be read by several goroutines at once unless add is called.
type names struct {
	subscribers *kit.Records
	gaps        []gap
	next        int // where the next subscriber is unless there is a gap
	expected    int // subscribers, about; 0 if that is not known

	// A hash table with linear probing. A slot has the number of a subscriber for its
	// name or its identifier, and a tag of the hash of that text: 0 if it is free, so
	// that a record is read only to confirm a match. A map of texts would take more
	// than the subscribers.
	seed maphash.Seed
	tags []uint8
	rows []uint32
	used int
}

// gap is a subscriber that is not where the one before would let expect it.
type gap struct{ row, where int }

func newNames() *names { return &names{subscribers: &kit.Records{}, seed: maphash.MakeSeed()} }

// taken returns which part of a record another subscriber has, and where that one is.
func (n *names) taken(record []byte) (part string, where int, ok bool) {
	value, name := parts(record)
	if row, ok := n.find(name); ok && !bytes.Equal(name, noName) {
		return "name", n.where(row), true
	}
	row, ok := n.find(value)
	return "identifier", n.where(row), ok
}

// add adds a subscriber, none of whose parts is taken.
func (n *names) add(record []byte, where int) {
	row := n.subscribers.Len()
	if where != n.next {
		n.gaps = append(n.gaps, gap{row, where})
	}
	n.next = where + 1
	n.subscribers.Append(record)
	if 4*(n.used+2) <= 3*len(n.tags) {
		n.index(row)
		return
	}
	size := max(16, 2*len(n.tags))
	// What is expected may be wrong, so the table grows in a few steps.
	for 3*size < 4*2*n.expected && size < 16*len(n.tags) {
		size *= 2
	}
	n.tags, n.rows, n.used = make([]uint8, size), make([]uint32, size), 0
	for row := range n.subscribers.Len() {
		n.index(row)
	}
}

// index puts the parts of a subscriber into the table, which has room for them.
func (n *names) index(row int) {
	value, name := parts(n.subscribers.At(row))
	for _, text := range [][]byte{value, name} {
		if bytes.Equal(text, noName) {
			continue
		}
		tag, slot := n.start(text)
		for n.tags[slot] != 0 {
			slot = (slot + 1) & (len(n.tags) - 1)
		}
		n.tags[slot], n.rows[slot] = tag, uint32(row) //nolint:gosec // maxFileSize bounds it
		n.used++
	}
}

// start returns the tag of a text and the first slot in which it may be.
func (n *names) start(text []byte) (tag uint8, slot int) {
	hash := maphash.Bytes(n.seed, text)
	return uint8(hash>>57) | 0x80, int(hash & uint64(len(n.tags)-1)) //nolint:gosec // seven bits; a slot
}

// find returns the subscriber that has text as its name or identifier.
func (n *names) find(text []byte) (row int, ok bool) {
	if len(n.tags) == 0 {
		return 0, false
	}
	tag, slot := n.start(text)
	for ; n.tags[slot] != 0; slot = (slot + 1) & (len(n.tags) - 1) {
		if n.tags[slot] != tag {
			continue
		}
		row := int(n.rows[slot])
		if value, name := parts(n.subscribers.At(row)); bytes.Equal(value, text) || bytes.Equal(name, text) {
			return row, true
		}
	}
	return 0, false
}

// where returns where a subscriber is configured.
func (n *names) where(row int) int {
	i, found := slices.BinarySearchFunc(n.gaps, row, func(g gap, row int) int { return cmp.Compare(g.row, row) })
	switch {
	case found:
		return n.gaps[i].where
	case i > 0:
		return n.gaps[i-1].where + row - n.gaps[i-1].row
	}
	return row
}

// configured are the subscribers of the list and the file. They have precedence
// over those of a listing: that is how some subscribers of a customer get a name.
type configured struct {
	list *names
	file atomic.Pointer[names] // nil unless there is a listing
}

// has reports a configured identifier or name.
func (c *configured) has(value string) bool {
	text := kit.AppendText(make([]byte, 0, 2*maxValue), value)
	for _, n := range []*names{c.list, c.file.Load()} {
		if n != nil {
			if _, ok := n.find(text); ok {
				return true
			}
		}
	}
	return false
}
