package exposition

import (
	"math"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

// discard is a response that nobody reads.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

// TestScrapeDoesNotGrow holds that a scrape of unchanged data does no work that
// grows with the number of series.
func TestScrapeDoesNotGrow(t *testing.T) {
	more := 10_000
	if os.Getenv("BALANCE_EXPORTER_SLOW") != "" {
		more = 50_000
	}
	few, many := scrapeCosts(1_000), scrapeCosts(more)
	for form, f := range few {
		m := many[form]
		t.Logf("%s: %.0f allocations of %.0f bytes for 1 000 series, %.0f of %.0f for %d",
			form, f.allocs, f.bytes, m.allocs, m.bytes, more)
		require.LessOrEqual(t, m.allocs, 1.1*f.allocs, form)
		require.LessOrEqual(t, m.bytes, 1.1*f.bytes, form)
	}
}

// allocated is what one scrape allocates.
type allocated struct{ allocs, bytes float64 }

// scrapeCosts returns the allocations of a scrape in every format and encoding:
// the least of several, for others have to fill pools again.
func scrapeCosts(series int) map[string]allocated {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	groups := []*snapshot.Group{priceGroup("a", series, time.Now())}
	e := New(Options{Groups: func() []*snapshot.Group { return groups }, Own: ownMetrics()})
	costs := map[string]allocated{}
	for _, f := range benchFormats {
		for _, encoding := range []string{"gzip", "identity"} {
			r := request(f.accept, encoding)
			least := allocated{math.Inf(1), math.Inf(1)}
			for range 20 {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				e.Serve(discard{http.Header{}}, r, everything)
				runtime.ReadMemStats(&after)
				least.allocs = min(least.allocs, float64(after.Mallocs-before.Mallocs))
				least.bytes = min(least.bytes, float64(after.TotalAlloc-before.TotalAlloc))
			}
			costs[f.name+" "+encoding] = least
		}
	}
	return costs
}
