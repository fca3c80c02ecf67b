package flolive

import (
	"errors"
	"fmt"
	"hash/maphash"
	"iter"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// errNotWhole is the cause of an error about answers that do not prove to be a
// whole list. Values and subscribers that are missing from them may still exist.
var errNotWhole = errors.New("the list is not whole")

func notWhole(format string, args ...any) error {
	return providers.Errorf(providers.ReasonBadResponse, "%w: "+format, append([]any{errNotWhole}, args...)...)
}

// decoder decodes one record of a list. key identifies the record in its list; ""
// if nothing does. ok is false if the record cannot be used.
type decoder[T any] func(record kit.Raw) (value T, key string, ok bool)

// tally collects the records of a list that arrives in several answers, each record
// once, and compares their number with the total that the answers state.
type tally[T any] struct {
	decode  decoder[T]
	limit   int // of records
	total   int // records that the list has; -1 until an answer states it
	answers int
	seed    maphash.Seed
	seen    map[uint64]int // hashes of the keys of records, and the answer of each

	values   []T // the records that can be used
	unusable int // number of the others
}

func newTally[T any](limit int, decode decoder[T]) *tally[T] {
	return &tally[T]{decode: decode, limit: limit, total: -1, seed: maphash.MakeSeed(), seen: map[uint64]int{}}
}

// add takes the records of one answer. It returns how many there are, and how many
// of them no earlier answer had. A record that one answer has twice is a value each
// time: it is a fault of the list and not of the pages.
func (t *tally[T]) add(records iter.Seq[kit.Raw], total kit.QuotedNumber) (n, fresh int, err error) {
	if stated, ok := total.Count(); ok {
		if t.total >= 0 && t.total != stated {
			return 0, 0, notWhole("its total changes from %d to %d between two answers", t.total, stated)
		}
		t.total = stated
	}
	if t.total > t.limit {
		return 0, 0, notWhole("its total is %d, and at most %d records are read", t.total, t.limit)
	}
	t.answers++
	before := len(t.seen)
	unidentified := map[string]int{} // how often the answer has had the text
	for record := range records {
		if n++; n > t.limit || len(t.seen) >= t.limit {
			return 0, 0, notWhole("it has more than %d records", t.limit)
		}
		value, key, ok := t.decode(record)
		if key == "" {
			text := string(record)
			unidentified[text]++
			key = fmt.Sprintf("%d %s", unidentified[text], text)
		}
		hash := maphash.String(t.seed, key)
		if answer, repeated := t.seen[hash]; repeated && answer != t.answers {
			continue
		}
		t.seen[hash] = t.answers
		if ok {
			t.values = append(t.values, value)
		} else {
			t.unusable++
		}
	}
	return n, len(t.seen) - before, nil
}

// check returns an error if there are records and none can be used: the provider
// has changed their form.
func (t *tally[T]) check() error {
	if len(t.values) == 0 && t.unusable > 0 {
		return providers.Errorf(providers.ReasonBadResponse, "none of the %d records of the list can be used", t.unusable)
	}
	return nil
}
