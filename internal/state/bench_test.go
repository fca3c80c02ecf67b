package state

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

func BenchmarkSaveAccount(b *testing.B) {
	s, err := OpenBolt(filepath.Join(b.TempDir(), "state.db"), log.NewNopLogger())
	require.NoError(b, err)
	for b.Loop() {
		if err := s.SaveAccount("a", anAccount); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, s.Close())
}

// aSubscriber returns a snapshot as a fleet has many of.
func aSubscriber(i int) *snapshot.Snapshot {
	return &snapshot.Snapshot{
		Reading: providers.Reading{
			Subscriber: fmt.Sprintf("truck-%d", i),
			Balances: []providers.SubscriberBalance{
				{ID: "e7fcef24-5c03-41dd-9e33-995b7d6f32b1", Currency: "USD", Value: float64(i) / 3},
				{ID: "0c1d6d34-9e33-41dd-5c03-995b7d6f32b1", Unit: "MB", Value: float64(i)},
			},
		},
		FetchedAt: start, TriedAt: start, DueAt: start,
	}
}

// BenchmarkFleet saves 100 000 subscribers, then one in a hundred again, and
// opens the file afresh.
func BenchmarkFleet(b *testing.B) {
	const n = 100_000
	key := func(i int) string { return fmt.Sprintf("%08x%08x", uint32(i)*2654435761, i) }
	path := filepath.Join(b.TempDir(), "state.db")
	s := mustOpen(b, path, log.NewNopLogger())
	for i := range n {
		s.SaveSource("fleet", key(i), aSubscriber(i))
	}
	require.NoError(b, s.flush())

	b.Run("queue 100 000", func(b *testing.B) {
		for b.Loop() {
			for i := range n {
				s.SaveSource("fleet", key(i), aSubscriber(i))
			}
		}
	})
	b.Run("write 100 000", func(b *testing.B) {
		for b.Loop() {
			for i := range n {
				s.SaveSource("fleet", key(i), aSubscriber(i))
			}
			require.NoError(b, s.flush())
		}
	})
	b.Run("write 28", func(b *testing.B) { // a batch, at one refresh per 15 minutes
		for b.Loop() {
			for i := range 28 {
				s.SaveSource("fleet", key(i*3571), aSubscriber(i))
			}
			require.NoError(b, s.flush())
		}
	})
	require.NoError(b, s.Close())
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			s := mustOpen(b, path, log.NewNopLogger())
			require.NoError(b, s.Close())
		}
		info, err := os.Stat(path)
		require.NoError(b, err)
		b.ReportMetric(float64(info.Size())/1e6, "file-MB")
		b.SetBytes(info.Size())
	})
	b.Run("load", func(b *testing.B) {
		s := mustOpen(b, path, log.NewNopLogger())
		for b.Loop() {
			require.Len(b, sources(b, s, "fleet"), n)
		}
		require.NoError(b, s.Close())
	})
}
