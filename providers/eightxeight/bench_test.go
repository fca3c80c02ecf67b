package eightxeight_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
)

// BenchmarkDecodePrices reads a list of 50 000 rows from a file, so that the body
// is not in the memory that it measures. It reports the peak of the heap while
// reading, garbage included, the size of the reading, and their ratio.
func BenchmarkDecodePrices(b *testing.B) {
	const rows = 50_000
	path := filepath.Join(b.TempDir(), "prices.json")
	file, err := os.Create(path)
	require.NoError(b, err)
	require.NoError(b, eightxeightsim.WriteSynthetic(file, rows))
	size, err := file.Seek(0, io.SeekCurrent)
	require.NoError(b, err)
	require.NoError(b, file.Close())

	http := &fileServer{path: path}
	s := source(b, providers.KindPrices, http)
	var peak, kept uint64
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		runtime.GC()
		before := heap()
		http.peak = 0
		b.StartTimer()

		reading, err := s.Fetch(b.Context())

		b.StopTimer()
		http.look()
		require.NoError(b, err)
		require.Len(b, reading.Prices, rows)
		runtime.GC()
		peak = max(peak, http.peak-before)
		kept = heap() - before
		runtime.KeepAlive(reading)
		b.StartTimer()
	}
	b.ReportMetric(float64(peak)/1e6, "peak-MB")
	b.ReportMetric(float64(kept)/1e6, "kept-MB")
	b.ReportMetric(float64(peak)/float64(kept), "peak/kept")
	b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// fileServer answers with a file, and looks at the heap whenever a piece of it is
// read.
type fileServer struct {
	path string
	peak uint64
	file *os.File
}

func (s *fileServer) Mask(string) {}

func (s *fileServer) Do(_ context.Context, call providers.Call) error {
	file, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	s.file = file
	return deliver(call, 200, s)
}

func (s *fileServer) Read(p []byte) (int, error) {
	s.look()
	return s.file.Read(p)
}

func (s *fileServer) look() { s.peak = max(s.peak, heap()) }

// heap returns the bytes of all objects that are not swept yet.
func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
