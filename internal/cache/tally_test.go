package cache

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// named is a source of which only its name matters.
type named struct {
	providers.Source
	name string
}

func (n named) Describe() providers.Description {
	return providers.Description{Key: n.name, Name: n.name, Kind: providers.KindSubscribers, Interval: time.Minute}
}

// Whatever happens to a fleet, its tally is what a walk over it finds.
func TestTallyIsThatOfAWalk(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	now := time.Unix(1_700_000_000, 0)
	p := newPart(providers.Part{
		Kind: providers.KindSubscribers, MaxAge: time.Hour, Fleet: true, LowThresholds: map[string]float64{"USD": 2, "MB": 50},
	}, now)
	var all []*entry
	grow := func(n int) {
		l := &list{part: p, queue: p.queueOf(time.Minute), lister: &entry{}}
		var sources providers.List
		for i := range n {
			sources = append(sources, named{name: fmt.Sprint("s", len(all))})
			e := p.entry(false, n-i)
			*e = entry{list: l, row: uint32(i), shard: e.shard}
			all = append(all, e)
		}
		l.roster = sources
		for _, e := range all[len(all)-n:] {
			p.insert(e)
		}
	}
	grow(2500)
	for step := range 3000 {
		now = now.Add(time.Duration(rng.IntN(8000)) * time.Millisecond)
		switch e := all[rng.IntN(len(all))]; {
		case step%1000 == 999:
			all = slices.DeleteFunc(all, func(e *entry) bool {
				gone := rng.IntN(3) == 0
				if gone {
					p.takeOut(e)
					p.release(e)
				}
				return gone
			})
			grow(rng.IntN(1500))
		case rng.IntN(3) == 0:
			next := *e.snapshot()
			next.TriedAt, next.Failure = now, &snapshot.Failure{Reason: providers.ReasonTimeout}
			next.Ended = rng.IntN(5) == 0
			p.replace(e, &next, now)
		default:
			p.replace(e, &snapshot.Snapshot{TriedAt: now, FetchedAt: now, Reading: providers.Reading{
				Subscriber: e.name(),
				SubscriberBalances: []providers.SubscriberBalance{
					{ID: "a", Currency: "USD", Value: float64(rng.IntN(500)) / 100},
					{ID: "b", Unit: []string{"MB", "SMS"}[rng.IntN(2)], Value: float64(rng.IntN(100))},
				}[rng.IntN(3)%2:],
			}}, now)
		}
		if step%50 == 0 {
			p.expire(now)
			requireTally(t, p, all, now)
		}
	}
}

func requireTally(t *testing.T, p *part, all []*entry, now time.Time) {
	t.Helper()
	other := newPart(p.Part, now)
	var lowest []snapshot.Subscriber
	failing := 0
	for _, e := range all {
		fresh, shot := other.entry(false, len(all)), e.snapshot()
		fresh.list = e.list // in use
		other.count(fresh, shot, now)
		if shot.Failure != nil {
			failing++
		}
		for _, b := range shot.Reading.SubscriberBalances {
			if fresh.serves && p.IsLow(b) {
				lowest = append(lowest, snapshot.Subscriber{Balance: b, Threshold: p.LowThresholds[b.Label()]})
			}
		}
	}
	require.Equal(t, other.tally.fleet, p.tally.fleet)
	require.Equal(t, other.tally.serving, p.tally.serving)
	require.Equal(t, other.totals(), p.totals())
	require.Equal(t, len(all), p.tally.fleet.Total())
	require.Equal(t, len(all), p.size)

	var gotLow, gotFailing []snapshot.Subscriber
	for _, s := range p.shards {
		gotLow, gotFailing = p.subscribers(s, 10, gotLow, gotFailing)
	}
	require.Len(t, gotFailing, min(failing, 10))
	share := func(s snapshot.Subscriber) float64 { return s.Balance.Value / s.Threshold }
	slices.SortFunc(lowest, func(a, b snapshot.Subscriber) int {
		if share(a) < share(b) {
			return -1
		}
		return 1
	})
	require.Len(t, gotLow, min(len(lowest), 10))
	for i, s := range gotLow {
		require.InDelta(t, share(lowest[i]), share(s), 1e-12)
	}
}
