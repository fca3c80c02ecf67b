package statetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
)

// claim claims one source of account a.
func claim(t *testing.T, s state.Store, whole bool, key string, version uint64) state.Claim {
	t.Helper()
	claims, err := s.Claim(t.Context(), "a", whole, []state.Source{{Key: key, Version: version}})
	require.NoError(t, err)
	require.Len(t, claims, 1)
	return claims[0]
}

// publish publishes an outcome of account a, and reports whether it was accepted.
func publish(t *testing.T, s state.Store, o state.Outcome) bool {
	t.Helper()
	accepted, err := s.Publish(t.Context(), "a", []state.Outcome{o})
	require.NoError(t, err)
	return accepted[0]
}

func requireHeld(t *testing.T, c state.Claim) {
	t.Helper()
	require.Equal(t, state.Held, c.Result)
	require.Positive(t, c.Retry)
}

func claimedOnce(t *testing.T, h Handles) {
	one := h.Open(t)
	other := h.Other(t, one)
	first := claim(t, one, false, "k", 0)
	require.Equal(t, state.Granted, first.Result)
	requireHeld(t, claim(t, other, false, "k", 0))
	require.Equal(t, state.Granted, claim(t, other, false, "another", 0).Result)
	require.True(t, publish(t, one, state.Outcome{Key: "k", Token: first.Token, Abandoned: true}))
	require.Equal(t, state.Granted, claim(t, other, false, "k", 0).Result)
	requireHeld(t, claim(t, one, false, "k", 0))
}

func shares(t *testing.T, h Handles) {
	one := h.Open(t)
	other := h.Other(t, one)
	first := claim(t, one, false, "k", 0)
	require.True(t, publish(t, one, state.Outcome{Key: "k", Token: first.Token, Snapshot: Balance(1)}))
	got := claim(t, other, false, "k", 0)
	require.Equal(t, state.Claim{Result: state.Shared, Snapshot: Balance(1), Version: first.Token}, got)
	second := claim(t, other, false, "k", got.Version)
	require.Equal(t, state.Granted, second.Result)
	require.Greater(t, second.Token, first.Token)
	require.True(t, publish(t, other, state.Outcome{Key: "k", Token: second.Token, Snapshot: Balance(2)}))
	require.Equal(t, state.Claim{Result: state.Shared, Snapshot: Balance(2), Version: second.Token}, claim(t, one, false, "k", first.Token))
}

func newer(t *testing.T, h Handles) {
	const n = 2500
	one := h.Open(t)
	other := h.Other(t, one)
	all := make(map[string]*snapshot.Snapshot)
	var sources []state.Source
	for i := range n {
		key := string(rune('a' + i))
		all[key] = Balance(float64(i))
		sources = append(sources, state.Source{Key: key})
	}
	Publish(t, one, "a", all)
	sources = append(sources, state.Source{Key: "unknown"})
	load := func() map[string]*snapshot.Snapshot {
		got := make(map[string]*snapshot.Snapshot)
		versions := make(map[string]uint64)
		lost, err := other.Newer(t.Context(), "a", sources, func(key string, s *snapshot.Snapshot, version uint64) {
			got[key], versions[key] = s, version
		})
		require.NoError(t, err)
		require.False(t, lost)
		for i, s := range sources {
			sources[i].Version = max(s.Version, versions[s.Key])
		}
		return got
	}
	require.Equal(t, all, load())
	require.Empty(t, load())
	Publish(t, one, "a", map[string]*snapshot.Snapshot{"b": Balance(-1)})
	require.Equal(t, map[string]*snapshot.Snapshot{"b": Balance(-1)}, load())
}

func claimedWhole(t *testing.T, h Handles) {
	one := h.Open(t)
	other := h.Other(t, one)
	first, second := claim(t, one, true, "k", 0), claim(t, one, true, "l", 0)
	require.Equal(t, state.Granted, first.Result)
	require.Equal(t, state.Granted, second.Result)
	requireHeld(t, claim(t, other, true, "m", 0))
	require.True(t, publish(t, one, state.Outcome{Key: "k", Token: first.Token, Snapshot: Balance(1)}))
	require.True(t, publish(t, one, state.Outcome{Key: "l", Token: second.Token, Abandoned: true}))
	require.Equal(t, state.Shared, claim(t, other, true, "k", 0).Result)
	requireHeld(t, claim(t, other, true, "k", first.Token))
	requireHeld(t, claim(t, other, true, "m", 0))
	require.NoError(t, one.Close())
	require.Equal(t, state.Granted, claim(t, other, true, "m", 0).Result)
}

func unclaimed(t *testing.T, h Handles) {
	one := h.Open(t)
	other := h.Other(t, one)
	require.False(t, publish(t, one, state.Outcome{Key: "k", Token: 7, Snapshot: Balance(1)}))
	first := claim(t, one, false, "k", 0)
	require.False(t, publish(t, other, state.Outcome{Key: "k", Token: first.Token, Snapshot: Balance(2)}))
	require.Empty(t, Snapshots(t, one, "a"))
	require.True(t, publish(t, one, state.Outcome{Key: "k", Token: first.Token, Snapshot: Balance(3)}))
	require.False(t, publish(t, one, state.Outcome{Key: "k", Token: first.Token, Snapshot: Balance(4)}), "published already")
	require.Equal(t, map[string]*snapshot.Snapshot{"k": Balance(3)}, Snapshots(t, other, "a"))
}

func atomicOverHandles(t *testing.T, h Handles) {
	const workers, rounds = 4, 50
	handles := []state.Store{h.Open(t)}
	for range workers - 1 {
		handles = append(handles, h.Other(t, handles[0]))
	}
	SetQuota(t, handles[0], "a", quota.Account{})
	countTogether(t, handles, rounds)
	for _, s := range handles {
		require.Equal(t, workers*rounds, Quota(t, s, "a").Limited)
	}
}

func closeReleases(t *testing.T, h Handles) {
	one := h.Open(t)
	other := h.Other(t, one)
	require.Equal(t, state.Granted, claim(t, one, false, "k", 0).Result)
	requireHeld(t, claim(t, other, false, "k", 0))
	require.NoError(t, one.Close())
	require.Equal(t, state.Granted, claim(t, other, false, "k", 0).Result)
}

func ready(t *testing.T, h Handles) {
	require.NoError(t, h.Open(t).Ready(t.Context()))
}
