package cache_test

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/cache"
	"github.com/balance-exporter/balance_exporter/internal/gate"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/providers"
)

// week is a provider that watches the quota of an account, and how long each of its
// subscribers waits from one reading to the next.
type week struct {
	gate  *gate.Gate
	limit quota.Limit
	start time.Time

	mu      sync.Mutex
	tokens  float64
	at      time.Time
	excess  int
	read    []uint32 // seconds from the start to the last reading, plus 1; 0 for none
	longest time.Duration
	total   int
}

// answer takes note of a request about subscriber i.
func (w *week) answer(i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.tokens = min(float64(w.limit.Burst), w.tokens+now.Sub(w.at).Seconds()*w.limit.PerSecond())
	w.at = now
	if w.tokens--; w.tokens < -1e-6 {
		w.excess++
	}
	w.total++
	second := uint32(now.Sub(w.start).Seconds()) //nolint:gosec // a week
	if last := w.read[i]; last > 0 {
		w.longest = max(w.longest, time.Duration(second-last+1)*time.Second)
	}
	w.read[i] = second + 1
}

// weekList lists the subscribers of a week.
type weekList struct {
	numbers
	*week
}

func (l weekList) Source(i int) providers.Source { return weekly{number(i), l.week} }

func (l weekList) Describe() providers.Description {
	return providers.Description{Key: "list", Kind: providers.KindSubscribers, Interval: 24 * time.Hour, Lists: true, Known: l}
}

func (l weekList) Fetch(context.Context) (providers.Reading, error) { return providers.Reading{}, nil }

type weekly struct {
	number
	*week
}

func (s weekly) Fetch(ctx context.Context) (providers.Reading, error) {
	if _, err := s.gate.Wait(ctx); err != nil {
		return providers.Reading{}, err
	}
	s.answer(int(s.number))
	return s.number.Fetch(ctx)
}

// TestWeekOfAFleet reads a fleet for a simulated week through the quota, which lets it ask
// each subscriber once in two days although every 15 minutes are configured: the quota
// holds, no subscriber waits more than 1.2 times as long, and memory is bounded.
//
// The fleet has 5 000 subscribers; 200 000 if BALANCE_EXPORTER_SLOW is set, and as many as
// BALANCE_EXPORTER_FLEET says.
func TestWeekOfAFleet(t *testing.T) {
	n := 5000
	if os.Getenv("BALANCE_EXPORTER_SLOW") != "" {
		n = 200_000
	}
	if size, err := strconv.Atoi(os.Getenv("BALANCE_EXPORTER_FLEET")); err == nil {
		n = size
	}
	const pass = 48 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		store := state.NewMemory()
		limit := quota.Limit{Requests: n, Per: pass, Burst: max(1, n/int(pass/(15*time.Second)))}
		w := &week{limit: limit, start: time.Now(), at: time.Now(), tokens: float64(limit.Burst), read: make([]uint32, n)}
		w.gate = gate.New("fleet", limit, store)
		list := weekList{numbers{0, n}, w}
		c := cache.New(cache.Options{Store: store, Logger: log.NewNopLogger(), MaxWait: time.Second})
		defer c.Close()
		before := heap()
		c.Replace([]cache.Account{{
			Provider: "p", Name: "fleet", ID: "fleet", Sources: providers.List{list}, Gate: w.gate,
			Parts: []providers.Part{{
				Kind: providers.KindSubscribers, Interval: 15 * time.Minute, MaxAge: 7 * 24 * time.Hour, Fleet: true, Series: providers.SeriesNone,
			}},
		}})
		for time.Since(w.start) < 7*24*time.Hour {
			c.Refresh(t.Context(), providers.Kinds(), nil)
			c.Groups()
			c.Status()
			time.Sleep(time.Minute)
		}
		used := int(heap()-before) / n
		runtime.KeepAlive(c)
		w.mu.Lock()
		defer w.mu.Unlock()
		t.Logf("%d subscribers: %d requests, the longest wait of one was %v, %d bytes of heap for each", n, w.total, w.longest, used)
		require.Zero(t, w.excess, "requests beyond the quota")
		require.GreaterOrEqual(t, w.total, n*7*24/48*95/100, "the quota is used")
		require.NotContains(t, w.read, uint32(0), "no subscriber is left out")
		require.LessOrEqual(t, w.longest, pass*12/10)
		if n >= 100_000 {
			require.LessOrEqual(t, used, 200)
		}
	})
}

// heap returns the live bytes of the heap.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
