package cache

import (
	"cmp"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// list is sources of one kind and interval: those that a source has listed or, alone,
// one of the sources that an account has from the start.
type list struct {
	part   *part
	queue  *queue
	roster providers.Roster
	lister *entry // the source that listed it; nil for a source from the start
	// one describes a source from the start, which may be in use and then must not be
	// asked.
	one providers.Description
}

func (l *list) name(row uint32) string {
	if l.lister == nil {
		return l.one.Name
	}
	return l.roster.Name(int(row))
}

// entry is one source and its newest snapshot. A fleet has millions: an entry takes 64
// bytes, and its packed snapshot about 32.
type entry struct {
	list    *list
	packed  packed
	due     time.Duration // since the cache's epoch
	version uint64        // of the snapshot, in the store

	row      uint32 // in the roster of its list
	shard    uint32 // of its part
	place    uint32 // in its queue, from 1; 0 if it is not in
	seq      uint32 // order of arrival, for entries due together
	requests uint16 // of one fetch; 0 for a source that sends nothing

	inFlight bool
	gone     bool // no longer listed
	serves   bool // has a value that counts in the tally of its part
	low      bool // has a balance below its threshold
	failing  bool // the last try failed
}

func (e *entry) queued() bool { return e.place > 0 }

func (e *entry) part() *part { return e.list.part }

func (e *entry) key() string {
	if e.list.lister == nil {
		return e.list.one.Key
	}
	return e.list.roster.Key(int(e.row))
}

func (e *entry) source() providers.Source { return e.list.roster.Source(int(e.row)) }

func (e *entry) name() string { return e.list.name(e.row) }

// snapshot returns what is known of the source.
func (e *entry) snapshot() *snapshot.Snapshot {
	if s := e.part().whole[e]; s != nil {
		return s
	}
	return e.list.unpack(&e.part().pack, e.row, e.packed)
}

// unnamed is snapshot without Reading.Subscriber, unless that differs from the name of
// the source. It costs less.
func (e *entry) unnamed() *snapshot.Snapshot {
	p := e.part()
	if s := p.whole[e]; s != nil || e.packed == "" {
		return cmp.Or(s, untried)
	}
	return p.pack.unpack(e.packed, e.list.queue.interval)
}

// unpack returns the packed snapshot of a source of l.
func (l *list) unpack(p *packer, row uint32, x packed) *snapshot.Snapshot {
	if x == "" {
		return untried
	}
	s := p.unpack(x, l.queue.interval)
	if s.Reading.Subscriber == "" && len(s.Reading.SubscriberBalances) > 0 {
		s.Reading.Subscriber = l.name(row)
	}
	return s
}

// fetchedAt returns when the value was asked for; zero if there is none.
func (e *entry) fetchedAt() time.Time {
	if e.packed == "" {
		return e.unnamed().FetchedAt
	}
	return e.part().pack.fetchedAt(e.packed)
}

// set makes s the snapshot of the source.
func (e *entry) set(s *snapshot.Snapshot) {
	p := e.part()
	p.pack.forget(e.packed)
	if packable(s) {
		delete(p.whole, e)
		e.packed = p.pack.pack(s, e.name(), e.list.queue.interval)
	} else {
		p.whole[e], e.packed = s, ""
	}
}

var untried = &snapshot.Snapshot{}
