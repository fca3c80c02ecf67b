package cache

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// packed is the snapshot of a subscriber in few bytes, 32 for one balance whose id is a
// UUID. "" is none. Its times are up to a millisecond late.
type packed string

// packer packs the snapshots of a part.
type packer struct {
	epoch  time.Time
	labels []amount // the currencies and units so far; only ever longer
	index  map[amount]int
	// detailed is how many packed failures have a message.
	detailed int
}

const (
	// maxLabels bounds the labels of a packer: others stand in the snapshot itself.
	maxLabels = 1000
	// maxDetailed bounds how many failures have a message. Of the others, the reason is
	// enough: if a whole fleet fails, their texts would take more than its values.
	maxDetailed = 10_000
)

// What stands in a packed snapshot beside its first number.
const (
	hasValue = 1 << iota
	hasOne   // balance
	hasList  // of another number of balances, which may be 0
	hasKept
	hasTry     // at another time than the value
	hasDue     // at another time than one interval after the value
	hasName    // another than that of the source
	hasFailure // with a message if hasDetail
	hasDetail
	hasEnded
	hasAskAfter
	hasDropped
)

// packable reports whether s is of a subscriber and not of another source.
func packable(s *snapshot.Snapshot) bool {
	r := &s.Reading
	return r.Billing == "" && r.Balances == nil && r.Prices == nil && r.Roster == nil
}

// pack packs the snapshot of the source name with an interval.
func (p *packer) pack(s *snapshot.Snapshot, name string, interval time.Duration) packed {
	r := &s.Reading
	have := uint64(0)
	set := func(flag uint64, is bool) bool {
		if is {
			have |= flag
		}
		return is
	}
	var space [128]byte
	b := space[:0]
	if set(hasValue, !s.FetchedAt.IsZero()) {
		b = p.appendTime(b, s.FetchedAt)
	}
	if set(hasTry, !s.TriedAt.Equal(s.FetchedAt)) {
		b = p.appendTime(b, s.TriedAt)
	}
	if set(hasDue, !s.DueAt.Equal(s.FetchedAt.Add(interval))) {
		b = p.appendTime(b, s.DueAt)
	}
	if set(hasName, r.Subscriber != "" && (r.Subscriber != name || len(r.SubscriberBalances) == 0)) {
		b = appendText(b, r.Subscriber)
	}
	if f := s.Failure; set(hasFailure, f != nil) {
		b = appendText(b, string(f.Reason))
		b = binary.AppendUvarint(b, uint64(f.Count)) //nolint:gosec // a number of failures
		if set(hasDetail, p.detailed < maxDetailed && f.Message+f.ID != "") {
			b = appendText(appendText(b, f.Message), f.ID)
			p.detailed++
		}
	}
	set(hasEnded, s.Ended)
	if set(hasAskAfter, r.AskAfter != 0) {
		b = binary.AppendVarint(b, int64(r.AskAfter))
	}
	if set(hasKept, len(r.Kept) > 0) {
		b = appendText(b, string(r.Kept))
	}
	if set(hasDropped, len(r.Dropped) > 0) {
		b = binary.AppendUvarint(b, uint64(len(r.Dropped)))
		for reason, n := range r.Dropped {
			b = binary.AppendVarint(appendText(b, string(reason)), int64(n))
		}
	}
	if !set(hasOne, len(r.SubscriberBalances) == 1) && set(hasList, r.SubscriberBalances != nil) {
		b = binary.AppendUvarint(b, uint64(len(r.SubscriberBalances)))
	}
	for _, balance := range r.SubscriberBalances {
		b = p.appendBalance(b, balance)
	}
	return packed(binary.AppendUvarint(nil, have)) + packed(b)
}

// forget takes note that x is no longer a snapshot.
func (p *packer) forget(x packed) {
	if x != "" && (&reader{rest: x}).number()&hasDetail != 0 {
		p.detailed--
	}
}

// fetchedAt returns FetchedAt of what was packed.
func (p *packer) fetchedAt(x packed) time.Time {
	in := &reader{rest: x}
	if in.number()&hasValue == 0 {
		return time.Time{}
	}
	return p.time(in)
}

func (p *packer) appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendVarint(b, math.MinInt64)
	}
	since := t.Sub(p.epoch)
	late := int64(since / time.Millisecond)
	if since%time.Millisecond > 0 {
		late++
	}
	return binary.AppendVarint(b, late)
}

func (p *packer) appendBalance(b []byte, balance providers.SubscriberBalance) []byte {
	if id, err := uuid.Parse(balance.ID); err == nil && id.String() == balance.ID {
		b = append(append(b, 0), id[:]...)
	} else {
		b = append(binary.AppendUvarint(b, uint64(len(balance.ID))+1), balance.ID...)
	}
	label := amount{balance.Currency, balance.Unit}
	i, ok := p.index[label]
	if !ok && len(p.labels) < maxLabels {
		i, ok = len(p.labels), true
		p.labels, p.index[label] = append(p.labels, label), i
	}
	if ok {
		b = binary.AppendUvarint(b, uint64(i)+1) //nolint:gosec // an index
	} else {
		b = appendText(appendText(append(b, 0), label.currency), label.unit)
	}
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(balance.Value))
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// unpack returns a packed snapshot. It leaves Reading.Subscriber empty if that is the name
// of the source. While p packs others, a copy of p may unpack.
func (p *packer) unpack(x packed, interval time.Duration) *snapshot.Snapshot {
	in := &reader{rest: x}
	have := in.number()
	s := &snapshot.Snapshot{Ended: have&hasEnded != 0}
	r := &s.Reading
	if have&hasValue != 0 {
		s.FetchedAt = p.time(in)
	}
	s.TriedAt = s.FetchedAt
	if have&hasTry != 0 {
		s.TriedAt = p.time(in)
	}
	s.DueAt = s.FetchedAt.Add(interval)
	if have&hasDue != 0 {
		s.DueAt = p.time(in)
	}
	if have&hasName != 0 {
		r.Subscriber = in.text()
	}
	if have&hasFailure != 0 {
		s.Failure = &snapshot.Failure{Reason: providers.Reason(in.text()), Count: int(in.number())} //nolint:gosec // a number of failures
		if have&hasDetail != 0 {
			s.Failure.Message, s.Failure.ID = in.text(), in.text()
		}
	}
	if have&hasAskAfter != 0 {
		r.AskAfter = time.Duration(in.signed())
	}
	if have&hasKept != 0 {
		r.Kept = []byte(in.text())
	}
	if have&hasDropped != 0 {
		r.Dropped = map[providers.DropReason]int{}
		for range in.number() {
			reason := providers.DropReason(in.text())
			r.Dropped[reason] = int(in.signed())
		}
	}
	if have&(hasOne|hasList) != 0 {
		n := uint64(1)
		if have&hasList != 0 {
			n = in.number()
		}
		r.SubscriberBalances = make([]providers.SubscriberBalance, n)
		for i := range r.SubscriberBalances {
			r.SubscriberBalances[i] = p.balance(in)
		}
	}
	return s
}

func (p *packer) time(in *reader) time.Time {
	since := in.signed()
	if since == math.MinInt64 {
		return time.Time{}
	}
	return p.epoch.Add(time.Duration(since) * time.Millisecond)
}

func (p *packer) balance(in *reader) (b providers.SubscriberBalance) {
	if size := in.number(); size > 0 {
		b.ID = in.bytes(int(size) - 1) //nolint:gosec // a size that was packed
	} else {
		b.ID = uuid.UUID([]byte(in.bytes(16))).String()
	}
	if i := in.number(); i > 0 {
		b.Currency, b.Unit = p.labels[i-1].currency, p.labels[i-1].unit
	} else {
		b.Currency, b.Unit = in.text(), in.text()
	}
	b.Value = math.Float64frombits(binary.LittleEndian.Uint64([]byte(in.bytes(8))))
	return b
}

// reader reads what was packed.
type reader struct{ rest packed }

func (r *reader) bytes(n int) string {
	text := string(r.rest[:n])
	r.rest = r.rest[n:]
	return text
}

func (r *reader) text() string { return r.bytes(int(r.number())) } //nolint:gosec // a size that was packed

func (r *reader) number() (n uint64) {
	for shift := 0; ; shift += 7 {
		b := r.rest[0]
		r.rest = r.rest[1:]
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
}

func (r *reader) signed() int64 {
	n := r.number()
	return int64(n>>1) ^ -int64(n&1) //nolint:gosec // as binary.Varint does
}
