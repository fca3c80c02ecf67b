package kit_test

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers/kit"
)

func TestRecords(t *testing.T) {
	var list kit.Records
	require.Zero(t, list.Len())
	r := rand.New(rand.NewPCG(1, 2))
	var want [][]byte
	for i := range 5000 {
		record := bytes.Repeat([]byte{byte(i)}, r.IntN(60))
		list.Append(record)
		want = append(want, bytes.Clone(record))
		clear(record) // the list has a copy
		require.Equal(t, i+1, list.Len())
		require.Equal(t, want[i], append([]byte{}, list.At(i)...))
	}
	for i := range want {
		at := list.At(i)
		require.Equal(t, want[i], append([]byte{}, at...))
		_ = append(at, "what is appended goes elsewhere"...)
	}
	for i := range want {
		require.Equal(t, want[i], append([]byte{}, list.At(i)...))
	}
}

// TestRecordsAreSmall: no record costs more when there are more of them.
func TestRecordsAreSmall(t *testing.T) {
	const n, size, most = 200_000, 38, 38 + 8
	var list kit.Records
	record := make([]byte, size)
	before := heap()
	for range n {
		list.Append(record)
	}
	took := float64(heap()-before) / n
	t.Logf("%.1f bytes for a record of %d", took, size)
	require.Less(t, took, float64(most))
	runtime.KeepAlive(&list)
}

// heap returns the bytes that are in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
