package cache

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// What is packed comes back as it was, to the last bit of each number.
func TestPackedSnapshotsComeBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	epoch, now := time.Now().Add(-time.Hour), time.Now()
	p := packer{epoch: epoch, index: map[amount]int{}}
	one := func(n int) bool { return rng.IntN(n) == 0 }
	at := func() time.Time { return epoch.Add(time.Duration(rng.Int64N(int64(48*time.Hour))) - 24*time.Hour) }
	for range 20_000 {
		s := &snapshot.Snapshot{}
		r := &s.Reading
		if !one(4) {
			s.FetchedAt = at()
			s.TriedAt = s.FetchedAt
			s.DueAt = s.FetchedAt.Add(15 * time.Minute)
		}
		if one(3) {
			s.TriedAt, s.DueAt, s.Ended = at(), at(), one(2)
			s.Failure = &snapshot.Failure{Reason: providers.Reasons()[rng.IntN(len(providers.Reasons()))], Count: 1 + rng.IntN(1000)}
			if one(2) {
				s.Failure.Message, s.Failure.ID = fmt.Sprint("message ", rng.IntN(10)), fmt.Sprint(rng.IntN(2))
			}
		}
		for range rng.IntN(4) {
			b := providers.SubscriberBalance{ID: []string{uuid.NewString(), "", "7", "ABCDEF00-0000-4000-8000-00000000000A"}[rng.IntN(4)]}
			b.Value = []float64{0, math.Copysign(0, -1), rng.NormFloat64(), float64(rng.IntN(1000)) / 100, math.MaxFloat64}[rng.IntN(5)]
			if one(2) {
				b.Currency = fmt.Sprint("C", rng.IntN(2*maxLabels)) // more than are shared
			} else {
				b.Unit = "MB"
			}
			r.SubscriberBalances = append(r.SubscriberBalances, b)
		}
		if r.SubscriberBalances == nil && one(2) {
			r.SubscriberBalances = []providers.SubscriberBalance{}
		}
		if len(r.SubscriberBalances) > 0 {
			r.Subscriber = []string{"name", "another name"}[rng.IntN(2)]
		}
		if one(5) {
			r.AskAfter, r.Kept = time.Duration(rng.Int64()), []byte("kept")
			r.Dropped = map[providers.DropReason]int{providers.DropDuplicate: rng.IntN(9), providers.DropIncomplete: -1}
		}
		require.True(t, packable(s))
		x := p.pack(s, "name", 15*time.Minute)
		got := p.unpack(x, 15*time.Minute)
		if r.Subscriber == "name" {
			require.Empty(t, got.Reading.Subscriber)
			got.Reading.Subscriber = "name"
		}
		require.Equal(t, got.FetchedAt, p.fetchedAt(x))
		for _, times := range [][2]*time.Time{{&s.FetchedAt, &got.FetchedAt}, {&s.TriedAt, &got.TriedAt}, {&s.DueAt, &got.DueAt}} {
			late := times[1].Sub(*times[0])
			require.True(t, late >= 0 && late < time.Millisecond, "%v %v", times[0], times[1])
			*times[0], *times[1] = now, now
		}
		require.Equal(t, s, got)
		p.forget(x)
	}
	require.Zero(t, p.detailed)
	require.Len(t, p.labels, maxLabels)
}

// A whole fleet that fails does not take more memory than its values.
func TestFewFailuresHaveAMessage(t *testing.T) {
	p := packer{epoch: time.Now(), index: map[amount]int{}}
	failed := &snapshot.Snapshot{TriedAt: time.Now(), Failure: &snapshot.Failure{Reason: providers.ReasonTimeout, Message: "slow", Count: 3}}
	var all []packed
	for range maxDetailed + 1 {
		all = append(all, p.pack(failed, "", time.Minute))
	}
	require.Equal(t, "slow", p.unpack(all[0], time.Minute).Failure.Message)
	require.Equal(t, &snapshot.Failure{Reason: providers.ReasonTimeout, Count: 3}, p.unpack(all[maxDetailed], time.Minute).Failure)
	p.forget(all[0])
	require.Equal(t, "slow", p.unpack(p.pack(failed, "", time.Minute), time.Minute).Failure.Message)
}

// A snapshot of one balance with a UUID is small.
func TestPackedSize(t *testing.T) {
	p := packer{epoch: time.Now(), index: map[amount]int{}}
	at := time.Now().Add(24 * time.Hour)
	x := p.pack(&snapshot.Snapshot{FetchedAt: at, TriedAt: at, DueAt: at.Add(time.Minute), Reading: providers.Reading{
		Subscriber: "truck-12", SubscriberBalances: []providers.SubscriberBalance{{ID: uuid.NewString(), Currency: "USD", Value: 1.25}},
	}}, "truck-12", time.Minute)
	require.LessOrEqual(t, len(x), 32)
}
