package cache

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/assert"

	"github.com/balance-exporter/balance_exporter/internal/gate"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/state/statetest"
	"github.com/balance-exporter/balance_exporter/providers"
)

// alternating drops a row at every other fetch, and fails between.
type alternating struct{ fetches int }

func (*alternating) Describe() providers.Description {
	return providers.Description{Key: "k", Kind: providers.KindBalance, Interval: time.Minute, Requests: 1}
}

func (a *alternating) Fetch(context.Context) (providers.Reading, error) {
	if a.fetches++; a.fetches%2 == 0 {
		return providers.Reading{}, providers.Errorf(providers.ReasonUnavailable, "down")
	}
	return providers.Reading{Dropped: map[providers.DropReason]int{providers.DropDuplicate: 2}}, nil
}

// A request for the status that began before Replace reads the replaced account
// while the new one counts on.
func TestCountersContinueOverReplaceInMapsOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.NewDurable()
		c := New(Options{Store: store, Logger: log.NewNopLogger(), MaxWait: time.Second})
		defer c.Close()
		configured := func(digest string) []Account {
			return []Account{{
				Provider: "p", Name: "a", ID: "a", Digest: digest,
				Parts:   []providers.Part{{Kind: providers.KindBalance, Interval: time.Minute, MaxAge: time.Hour}},
				Sources: providers.List{&alternating{}},
				Gate:    gate.New("a", quota.Limit{Requests: 1, Per: time.Second, Burst: 5}, store),
			}}
		}
		read := func() {
			for range 2 {
				c.RefreshAll(t.Context())
				time.Sleep(10 * time.Minute)
			}
		}
		c.Replace(configured("1"))
		read()
		replaced := c.list()[0]
		c.Replace(configured("2"))
		read()
		for name, counted := range map[string]struct {
			a *account
			n uint64
		}{"replaced": {replaced, 1}, "new": {c.list()[0], 2}} {
			s := counted.a.status()
			assert.Equal(t, map[providers.DropReason]uint64{providers.DropDuplicate: 2 * counted.n}, s.Dropped, name)
			assert.Equal(t, 2*counted.n, s.Sources[0].Refreshes, name)
			assert.Equal(t, map[providers.Reason]uint64{providers.ReasonUnavailable: counted.n}, s.Sources[0].Failures, name)
		}
	})
}
