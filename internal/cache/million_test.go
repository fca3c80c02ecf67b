package cache_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/cache"
	"github.com/balance-exporter/balance_exporter/internal/gate"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/providers"
)

// numbers is a Roster of the numbers from first, each a source with a balance.
type numbers struct{ first, count int }

func (r numbers) Len() int                      { return r.count }
func (r numbers) Key(i int) string              { return fmt.Sprintf("%016x", r.first+i) }
func (r numbers) Name(i int) string             { return number(r.first + i).name() }
func (r numbers) Source(i int) providers.Source { return number(r.first + i) }

type number int

func (n number) name() string { return fmt.Sprintf("truck-%08d", int(n)) }

func (n number) Describe() providers.Description {
	return providers.Description{
		Key: fmt.Sprintf("%016x", int(n)), Name: n.name(),
		Kind: providers.KindSubscribers, Interval: 15 * time.Minute, Requests: 1,
	}
}

func (n number) Fetch(context.Context) (providers.Reading, error) {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:], uint64(n)*0x9e3779b97f4a7c15) //nolint:gosec // mixes bits
	return providers.Reading{
		Subscriber:         n.name(),
		SubscriberBalances: []providers.SubscriberBalance{{ID: id.String(), Currency: "USD", Value: float64(n%10_000) / 100}},
	}, nil
}

// numberList lists the numbers of a roster.
type numberList struct{ roster numbers }

func (l *numberList) Describe() providers.Description {
	return providers.Description{Key: "list", Kind: providers.KindSubscribers, Interval: time.Second, Lists: true, Known: l.roster}
}

func (l *numberList) Fetch(context.Context) (providers.Reading, error) {
	return providers.Reading{Roster: l.roster}, nil
}

// BenchmarkFleet reports what a fleet takes: the time of the start, of an answer and of a
// scrape, the longest wait for the account while its list changes, and memory: of 100 000
// subscribers, or of as many as BALANCE_EXPORTER_FLEET says. 10 000 000 need 4 GB.
func BenchmarkFleet(b *testing.B) {
	n := 100_000
	if size, err := strconv.Atoi(os.Getenv("BALANCE_EXPORTER_FLEET")); err == nil {
		n = size
	}
	b.Run(strconv.Itoa(n), func(b *testing.B) {
		for b.Loop() {
			benchmarkFleet(b, n)
		}
	})
}

func benchmarkFleet(b *testing.B, n int) {
	perSIM := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(n) }
	before := resident(b)
	list := &numberList{numbers{0, n}}
	store := state.NewMemory()
	c := cache.New(cache.Options{Store: store, Logger: log.NewNopLogger(), MaxWait: time.Millisecond})
	defer c.Close()
	start := time.Now()
	c.Replace([]cache.Account{{
		Provider: "p", Name: "fleet", ID: "fleet", Sources: providers.List{list},
		Parts: []providers.Part{{
			Kind: providers.KindSubscribers, Interval: 15 * time.Minute, MaxAge: 24 * time.Hour, Fleet: true,
			Series: providers.SeriesLow, LowThresholds: map[string]float64{"USD": 0.5},
		}},
		Gate: gate.New("fleet", quota.Limit{Requests: 10_000, Per: time.Second, Burst: 100}, store),
	}})
	b.ReportMetric(perSIM(time.Since(start)), "start-ns/SIM")

	start = time.Now()
	c.RefreshAll(b.Context())
	b.ReportMetric(perSIM(time.Since(start)), "answer-ns/SIM")
	require.Equal(b, n, c.Status()[0].Sources[0].Fleet.Fresh)
	after := resident(b)
	b.ReportMetric(float64(after-before)/float64(n), "resident-B/SIM")

	scrape := func() time.Duration {
		start := time.Now()
		c.Refresh(b.Context(), providers.Kinds(), nil)
		c.Groups()
		c.Status()
		return time.Since(start)
	}
	scrape()
	b.ReportMetric(float64(scrape().Microseconds())/1000, "scrape-ms")

	list.roster = numbers{n / 100, n} // a hundredth goes, and others come
	time.Sleep(time.Second)
	done := make(chan time.Duration)
	changing, changed := context.WithCancel(b.Context())
	go func() {
		var longest time.Duration
		for changing.Err() == nil {
			start := time.Now()
			c.Status()
			longest = max(longest, time.Since(start))
			time.Sleep(time.Millisecond)
		}
		done <- longest
	}()
	start = time.Now()
	c.RefreshAll(b.Context())
	b.ReportMetric(perSIM(time.Since(start)), "change-ns/SIM")
	changed()
	b.ReportMetric(float64((<-done).Microseconds())/1000, "pause-ms")
	require.Equal(b, n, c.Status()[0].Sources[0].Fleet.Fresh)
}

// resident is the resident memory of the process in bytes.
func resident(tb testing.TB) int64 {
	tb.Helper()
	runtime.GC()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Skip("needs /proc")
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			require.NoError(tb, err)
			return kb << 10
		}
	}
	tb.Fatal("no VmRSS")
	return 0
}
