package flolive

import (
	"fmt"
	"iter"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// TestTallyIsBounded: no number of records in one answer or in many gets past the
// limit, which for a listing by cursor is maxRecords.
func TestTallyIsBounded(t *testing.T) {
	records := func(from, n int) iter.Seq[kit.Raw] {
		var all []kit.Raw
		for i := range n {
			all = append(all, fmt.Appendf(nil, `{"iccid":"%d","status":"ACTIVE"}`, from+i))
		}
		return slices.Values(all)
	}
	stated := func(n float64) (q kit.QuotedNumber) {
		q.Value, q.Present, q.OK = n, true, true
		return q
	}
	open := func() *tally[identifier] { return newTally(10, (&listing{account: &account{}}).decode) }

	list := open()
	n, fresh, err := list.add(records(0, 10), stated(10))
	require.NoError(t, err)
	require.Equal(t, []int{10, 10}, []int{n, fresh})
	require.Len(t, list.values, 10)

	_, _, err = open().add(records(0, 14_000), kit.QuotedNumber{})
	require.EqualError(t, err, "bad_response: the list is not whole: it has more than 10 records")
	_, _, err = open().add(records(0, 1), stated(11))
	require.EqualError(t, err, "bad_response: the list is not whole: its total is 11, and at most 10 records are read")

	list = open()
	for i := range 10 {
		_, _, err = list.add(records(i, 1), kit.QuotedNumber{})
		require.NoError(t, err)
	}
	_, _, err = list.add(records(10, 1), kit.QuotedNumber{})
	require.ErrorIs(t, err, errNotWhole)
	require.Len(t, list.values, 10)

	_, _, err = open().add(func(yield func(kit.Raw) bool) {
		for yield(kit.Raw(`{"iccid":"1"}`)) { // without end
		}
	}, kit.QuotedNumber{})
	require.ErrorIs(t, err, errNotWhole)
}

// TestTallyIsSmall: a listing without end takes little memory until it reaches the
// limit, although each record has the longest identifier.
func TestTallyIsSmall(t *testing.T) {
	const n, most = maxRecords / 20, 250e6 / maxRecords // bytes per record
	list := newTally(maxRecords, (&listing{account: &account{}}).decode)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for first := 0; first < n; first += chunk {
		_, _, err := list.add(func(yield func(kit.Raw) bool) {
			for i := first; i < first+chunk && yield(fmt.Appendf(nil, `{"iccid":"%0*d","status":"ACTIVE"}`, maxValue, i)); i++ {
			}
		}, kit.QuotedNumber{})
		require.NoError(t, err)
	}
	require.Len(t, list.values, n)
	took := float64(heap()-before) / n
	t.Logf("%.0f bytes per record", took)
	require.Less(t, took, most)
	runtime.KeepAlive(list)
}
