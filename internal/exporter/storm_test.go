package exporter

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/servertest"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

// storm scrapes four real processes on the state at stateURL while they are killed, and
// act happens to the store, until d has passed or the provider gets more than its limit.
// It returns the excess, and how many requests the provider got.
func storm(t *testing.T, d time.Duration, stateURL string, act func(rng *rand.Rand)) (excess string, requests int) {
	const replicas = 4
	binary := build(t)
	c := casesWith(prices, false)[0]
	var all simulate.Recorder
	configFile := onLoopback(t, c, all.Wrap, "rate_limit: {requests: 2, per: 1s, burst: 3}")
	rng := rand.New(rand.NewPCG(rand.Uint64(), 0))

	var mu sync.Mutex
	processes := make([]*process, replicas)
	run := func(i int) {
		p := start(t, binary, "--config.file="+configFile, "--state.url="+stateURL, "--log.level=error")
		mu.Lock()
		defer mu.Unlock()
		processes[i] = p
	}
	var scrapers sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer func() {
		stop()
		scrapers.Wait()
	}()
	for i := range replicas {
		run(i)
		scrapers.Go(func() {
			for ctx.Err() == nil {
				mu.Lock()
				p := processes[i]
				mu.Unlock()
				p.scrape(ctx, "?collect[]=balances&collect[]=prices")
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	kills := 0
	for start := time.Now(); time.Since(start) < d; {
		time.Sleep(time.Duration(rng.Int64N(int64(2 * time.Second))))
		if rng.IntN(3) == 0 {
			i := rng.IntN(replicas)
			mu.Lock()
			p := processes[i]
			mu.Unlock()
			p.kill()
			run(i)
			kills++
		} else {
			act(rng)
		}
		// Requests that were sent apart may arrive close together: one more of burst,
		// for the whole run.
		if v, found := all.Excess(2, time.Second, 3+1); found {
			return fmt.Sprint(v), all.Len()
		}
	}
	t.Logf("%d kills, %d requests", kills, all.Len())
	return "", all.Len()
}

// Two minutes of kills of four replicas and of faults of a real Redis server: the
// provider gets no more than the limit. Without a common state it does, at once.
func TestReplicasInAStorm(t *testing.T) {
	if os.Getenv(slowVariable) == "" {
		t.Skipf("two minutes; set %s", slowVariable)
	}
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		server := servertest.StartRedis(t)
		client := redis.NewClient(&redis.Options{Addr: server.Address, DisableIdentity: true})
		defer func() { _ = client.Close() }()
		const d = 2 * time.Minute
		var acts [4]int
		excess, requests := storm(t, d, "redis://"+server.Address, func(rng *rand.Rand) {
			act := rng.IntN(len(acts))
			acts[act]++
			switch act {
			case 0:
				_ = client.FlushAll(t.Context())
			case 1:
				server.Signal(t, syscall.SIGSTOP)
				time.Sleep(time.Duration(rng.Int64N(int64(3 * time.Second))))
				server.Signal(t, syscall.SIGCONT)
			case 2:
				server.Kill()
				time.Sleep(time.Duration(rng.Int64N(int64(time.Second))))
				server.Start(t)
			}
		})
		require.Empty(t, excess)
		require.Greater(t, requests, 40, "the replicas read between the faults")
		t.Logf("%d flushes, %d freezes, %d restarts", acts[0], acts[1], acts[2])
	})
	t.Run("each with a state of its own", func(t *testing.T) {
		t.Parallel()
		excess, _ := storm(t, time.Minute, "memory:", func(*rand.Rand) {})
		require.NotEmpty(t, excess, "the check does not notice a quota that is spent several times")
	})
}

// Two replicas, one of which is killed: the other one goes on, and what was read is not
// read again.
func TestReplicaTakesOver(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs the program")
	}
	t.Parallel()
	server := servertest.StartRedis(t)
	binary := program(t)
	c := casesWith(prices, false)[0]
	var lists simulate.Recorder
	configFile := hourlyPrices(t, c, &lists, func(sim http.Handler) http.Handler { return sim })
	run := func() *process {
		return start(t, binary, "--config.file="+configFile, "--state.url=redis://"+server.Address)
	}
	shows := func(p *process, metric string) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Contains(p.scrape(t.Context(), ""), metric) }, patience, 20*time.Millisecond, metric)
	}
	one := run()
	shows(one, "\nsms_price{")
	read := lists.Len()
	other := run()
	require.Eventually(t, func() bool { return other.scrape(t.Context(), "?collect[]=exporter") != "" }, patience, 20*time.Millisecond)
	body, err := other.get(t.Context(), "/metrics", "60")
	require.NoError(t, err)
	require.Contains(t, body, "\nsms_price{", "in the first scrape")
	require.Contains(t, body, "\naccount_balance{")
	one.kill()
	before, err := other.get(t.Context(), "/metrics", "60")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		metric := `balance_exporter_refreshes_total{account="one",provider="` + c.Provider + `",source="balance"}`
		return strings.Contains(before, metric) && seriesOf(other.scrape(t.Context(), ""))[metric] != seriesOf(before)[metric]
	}, patience, 50*time.Millisecond, "it reads the balance now")
	require.Equal(t, read, lists.Len(), "prices are read once an hour, by all together")
}
