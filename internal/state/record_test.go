package state

import (
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRecordIsBoundToItsNames(t *testing.T) {
	record, err := encodeSource("account", "key", aBalance(1))
	require.NoError(t, err)
	got, err := decodeSource("account", "key", record)
	require.NoError(t, err)
	require.Equal(t, aBalance(1), got)
	for _, names := range [][2]string{{"account", "key2"}, {"accoun", "tkey"}, {"", ""}} {
		_, err := decodeSource(names[0], names[1], record)
		require.EqualError(t, err, "record has a wrong checksum")
	}
	for i := range record {
		record[i] ^= 4
		_, err := decodeSource("account", "key", record)
		require.Error(t, err)
		_, err = decodeSource("account", "key", record[:i])
		require.Error(t, err)
		record[i] ^= 4
	}
}

func FuzzRecord(f *testing.F) {
	text, err := json.Marshal(aBalance(0.1))
	require.NoError(f, err)
	f.Add(text)
	f.Add([]byte(`{"reading":{"balance":{"amount":-0,"currency":"\ud800"},"kept":"AP8="},"fetched_at":"2026-03-29T00:59:59.5+23:59"}`))
	f.Add([]byte(`{"reading":{"prices":[{"amount":1e308}],"dropped":{"duplicate":1}},"failure":{"count":1}}`))
	f.Add([]byte(`{"reading":{"balance":{"amount":1e400}}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _ = decodeSource("a", "k", text) // hardly ever the right checksum

		record := binary.BigEndian.AppendUint32(nil, sourceChecksum("a", "k", text))
		s, err := decodeSource("a", "k", append(record, text...))
		if err != nil {
			return
		}
		// What can be read can be written, and is the same when read again.
		record, err = encodeSource("a", "k", s)
		require.NoError(t, err)
		again, err := decodeSource("a", "k", record)
		require.NoError(t, err)
		require.Equal(t, mustEncode(t, s), mustEncode(t, again))

		// The same bytes as an account.
		var sector [sectorSize]byte
		copy(sector[:], text)
		_, _, _, _ = decodeAccount(sector[:])
	})
}

// mustEncode returns v as JSON.
func mustEncode(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}
