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

func (n named) Describe() providers.Description { return providers.Description{Name: n.name} }

// Whatever happens to a fleet, its tally is what a walk over it finds.
func TestTallyIsThatOfAWalk(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	now := time.Unix(1_700_000_000, 0)
	p := &part{
		Part: providers.Part{
			Kind: providers.KindSubscribers, MaxAge: time.Hour, Fleet: true, LowThresholds: map[string]float64{"USD": 2, "MB": 50},
		},
		tally: tally{totals: map[amount]*total{}},
	}
	q := p.queueOf(time.Minute)
	grow := func(n int) {
		for range n {
			e := &entry{snapshot: untried, queue: q, part: p, position: -1}
			e.source = named{name: fmt.Sprint("s", len(p.order))}
			p.insert(e, false)
		}
		p.reshard()
	}
	grow(2500)
	for step := range 3000 {
		now = now.Add(time.Duration(rng.IntN(8000)) * time.Millisecond)
		switch e := p.order[rng.IntN(len(p.order))]; {
		case step%1000 == 999:
			for _, e := range p.order {
				e.gone = rng.IntN(3) == 0
			}
			p.removeGone()
			grow(rng.IntN(1500))
		case rng.IntN(3) == 0:
			next := *e.snapshot
			next.TriedAt, next.Failure = now, &snapshot.Failure{Reason: providers.ReasonTimeout}
			next.Ended = rng.IntN(5) == 0
			p.replace(e, &next, now)
		default:
			p.replace(e, &snapshot.Snapshot{TriedAt: now, FetchedAt: now, Reading: providers.Reading{
				Subscriber: e.source.Describe().Name,
				SubscriberBalances: []providers.SubscriberBalance{
					{ID: "a", Currency: "USD", Value: float64(rng.IntN(500)) / 100},
					{ID: "b", Unit: []string{"MB", "SMS"}[rng.IntN(2)], Value: float64(rng.IntN(100))},
				}[rng.IntN(3)%2:],
			}}, now)
		}
		if step%50 == 0 {
			p.expire(now)
			requireTally(t, p, now)
		}
	}
}

func requireTally(t *testing.T, p *part, now time.Time) {
	t.Helper()
	walk := tally{totals: map[amount]*total{}}
	other := &part{Part: p.Part, tally: walk}
	var lowest []snapshot.Subscriber
	failing := 0
	for _, e := range p.order {
		fresh := &entry{snapshot: e.snapshot, position: -1, source: e.source}
		other.count(fresh, now)
		if e.snapshot.Failure != nil {
			failing++
		}
		for _, b := range e.snapshot.Reading.SubscriberBalances {
			if fresh.serves && p.IsLow(b) {
				lowest = append(lowest, snapshot.Subscriber{Balance: b, Threshold: p.LowThresholds[b.Label()]})
			}
		}
	}
	require.Equal(t, other.tally.fleet, p.tally.fleet)
	require.Equal(t, other.tally.serving, p.tally.serving)
	require.Equal(t, other.totals(), p.totals())
	require.Equal(t, len(p.order), p.tally.fleet.Total())

	gotLow, gotFailing := p.subscribers(now, 10)
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
