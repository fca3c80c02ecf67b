package exporter

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/go-kit/log"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/httpapi"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers/all/alltest"
)

// simStore is a Redis server in a bubble, with faults. The scripts and the client are
// the real ones; internal/state tests them on a real server.
type simStore struct {
	redis *miniredis.Miniredis

	mu      sync.Mutex
	run     int           // numbers the runs of the server
	down    bool          // connections are refused
	latency time.Duration // of each script
	thaw    time.Time     // scripts run after this
	conns   map[net.Conn]bool
}

func newSimStore(t *testing.T) *simStore {
	s := &simStore{redis: miniredis.NewMiniRedis(), conns: map[net.Conn]bool{}}
	s.redis.ClockTTL(true)
	first, err := s.redis.Dial() // starts the server
	require.NoError(t, err)
	require.NoError(t, first.Close())
	s.redis.Server().SetPreHook(s.hook)
	t.Cleanup(s.redis.Close)
	return s
}

// hook answers INFO, which the simulation lacks, and delays scripts.
func (s *simStore) hook(c *server.Peer, cmd string, _ ...string) bool {
	s.mu.Lock()
	run, wait := s.run, max(s.latency, time.Until(s.thaw))
	s.mu.Unlock()
	switch cmd {
	case "INFO":
		c.WriteBulk(fmt.Sprintf("run_id:%040d\r\nredis_version:7.0.0\r\nmaxmemory_policy:noeviction\r\n", run))
		return true
	case "EVALSHA", "EVAL":
		time.Sleep(wait) // not within a script, which holds a lock
	}
	return false
}

// dial connects, and counts the connection as one of by.
func (s *simStore) dial(by *replica) (net.Conn, error) {
	conn, err := s.redis.Dial() // without the lock, which a script waits for
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down || by.dead {
		_ = conn.Close()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	s.conns[conn] = true
	by.conns = append(by.conns, conn)
	return conn, nil
}

// stop ends all connections and refuses others.
func (s *simStore) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = true
	for c := range s.conns {
		_ = c.Close()
	}
	clear(s.conns)
}

// start starts the server again, as another run.
func (s *simStore) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = false
	s.run++
}

// set makes a change under the lock; without a store, too.
func (s *simStore) set(change func()) {
	if s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	change()
}

// replica is one exporter of several on a store.
type replica struct {
	exporter *Exporter
	routes   http.Handler
	dead     bool // guarded by the store's lock, like conns
	conns    []net.Conn
}

// replicas are a world with several exporters. The world's own exporter is the first
// one; it serves the questions of the world's other methods.
type replicas struct {
	*world
	store *simStore // nil: each replica has a state of its own, which is wrong
	all   []*replica
	// newest is the newest time of a success that any replica has shown, by series.
	newest map[string]float64
	// unsteadyUntil is when replicas agree again after a fault of the store.
	unsteadyUntil time.Time
}

func newReplicas(t *testing.T, rng *rand.Rand, n int) *replicas {
	w := &replicas{world: newWorld(t, rng), store: newSimStore(t), newest: map[string]float64{}}
	w.all = make([]*replica, n)
	t.Cleanup(func() {
		for _, r := range w.all {
			if r != nil && !r.dead {
				r.exporter.Close()
			}
		}
		w.exporter = nil // it is one of them
	})
	return w
}

// openReplica starts a replica in the place of another one.
func (w *replicas) openReplica(i int) {
	w.configure()
	r := &replica{}
	opts := Options{
		ConfigFile: w.configFile(), StateURL: "redis://redis:6379", StatePrefix: "balance_exporter:", TelemetryPath: "/metrics",
		TimeoutOffset: 500 * time.Millisecond, MaxWait: 2 * time.Second,
	}
	if w.store == nil {
		opts.StateURL = "memory:"
	}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := w.network.DialContext(ctx, network, address)
		if err == nil && w.store != nil {
			w.store.set(func() {
				if r.dead {
					_ = conn.Close()
				}
				r.conns = append(r.conns, conn)
			})
		}
		return conn, err
	}
	r.exporter = New(opts, log.NewNopLogger(), secret.NewMask(), func(name string, c config.HTTP) (http.RoundTripper, error) {
		c.TLS.CA = simulate.CA()
		return httpapi.NewTransport(name, c, dial)
	})
	r.exporter.dialState = func(context.Context, string, string) (net.Conn, error) { return w.store.dial(r) }
	require.NoError(w.t, r.exporter.Open(), w.configuration())
	r.routes = r.exporter.Server().Routes()
	w.mu.Lock() // not while the store is asked, which may be slow
	w.all[i] = r
	w.mu.Unlock()
	w.exporter = w.all[0].exporter
	for _, a := range w.accounts {
		a.watch.learn(w.describe(a))
	}
}

// killReplica ends a replica as SIGKILL does: its connections break, and nothing of it
// reaches the store or a provider any more.
func (w *replicas) killReplica(i int) {
	synctest.Wait()
	r := w.all[i]
	var conns []net.Conn
	w.store.set(func() { r.dead, conns = true, r.conns })
	for _, c := range conns {
		_ = c.Close()
	}
	r.exporter.Close()
	w.forget()
}

// forget allows that sources are read once more: what a replica has read may be lost.
func (w *replicas) forget() {
	for _, a := range w.accounts {
		a.watch.forgetRead()
	}
}

// unsettle lets replicas differ for a while. A source may be read by two of them if a
// claim is lost, and until requests that wait at the gates have been sent.
func (w *replicas) unsettle(d time.Duration) {
	for _, a := range w.accounts {
		a.watch.mu.Lock()
		a.watch.lenient = later(a.watch.lenient, time.Now().Add(min(d, 5*time.Minute)))
		a.watch.mu.Unlock()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unsteadyUntil = later(w.unsteadyUntil, time.Now().Add(d))
}

// flush loses all that is stored. A cool-down is lost with it if no replica that has
// seen it is scraped before another one sends; gate.TestLostRecordIsRestored has the
// case in which one is.
func (w *replicas) flush() {
	w.store.redis.FlushAll()
	for _, a := range w.accounts {
		a.watch.mu.Lock()
		a.watch.until, a.watch.blockedAt = time.Time{}, time.Time{}
		a.watch.mu.Unlock()
	}
}

// scrape scrapes a replica, and checks that it shows nothing older than another one
// has shown.
func (w *replicas) scrape(i int, path string) {
	w.mu.Lock()
	r, before := w.all[i], make(map[string]float64, len(w.newest))
	for name, v := range w.newest {
		before[name] = v
	}
	w.mu.Unlock()
	dead := false
	w.store.set(func() { dead = r.dead })
	if dead {
		return
	}
	start := time.Now()
	req := httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, nil)
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "10")
	answer := httptest.NewRecorder()
	r.routes.ServeHTTP(answer, req)
	require.Equal(w.t, http.StatusOK, answer.Code)
	require.LessOrEqual(w.t, time.Since(start), 9500*time.Millisecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	steady := start.After(w.unsteadyUntil)
	for name, text := range seriesOf(answer.Body.String()) {
		if strings.HasPrefix(name, "balance_exporter_last_success_timestamp_seconds{") {
			v, err := strconv.ParseFloat(text, 64)
			require.NoError(w.t, err)
			if steady && v < before[name] && w.all[i] == r {
				w.t.Errorf("replica %d shows %s %s, and another one has shown %.3f before, at %s\n%s", i, name, text, before[name], clock(start), strings.Join(w.story, "\n"))
			}
			w.newest[name] = max(w.newest[name], v)
		}
	}
}

// replicaFailures are the seeds of failures that were found and mended.
var replicaFailures = []uint64{}

// Whatever becomes of two to four replicas and of their store, providers see one
// exporter: the quota holds, cool-downs are obeyed, and a source is read at most once
// per interval; once more after a kill or a loss of the store's data. No replica shows
// an older value than another one has shown. Once the faults are over, all agree.
func TestReplicasAreOneExporter(t *testing.T) {
	t.Parallel()
	forSeeds(t, replicaFailures, 2, func(t *testing.T, rng *rand.Rand) {
		w := newReplicas(t, rng, 2+rng.IntN(3))
		for range 1 + rng.IntN(2) {
			w.addAny()
		}
		for i := range w.all {
			w.openReplica(i)
		}
		var scrapers sync.WaitGroup
		stop := make(chan struct{})
		ended := sync.OnceFunc(func() { close(stop); scrapers.Wait() })
		defer ended()
		for i := range w.all {
			rng := rand.New(rand.NewPCG(rng.Uint64(), 0))
			scrapers.Go(func() { w.scrapeOften(i, rng, stop) })
		}
		for range 10 + rng.IntN(20) {
			time.Sleep(anyTime(rng, 5*time.Minute))
			w.actOnReplicas()
			w.requireUnbroken()
		}
		ended()
		w.store.set(func() { w.store.down, w.store.latency, w.store.thaw = false, 0, time.Time{} })
		w.unsettle(time.Minute)
		w.restore()
		w.record("all faults end")
		for start := time.Now(); ; {
			time.Sleep(anyTime(rng, time.Minute))
			up := true
			for i, r := range w.all {
				w.scrape(i, "/metrics")
				w.exporter = r.exporter
				up = up && w.up()
			}
			w.requireUnbroken()
			if up {
				break
			}
			if time.Since(start) > 3*time.Hour {
				t.Fatalf("some sources do not recover: %s\n%s", w.failures(), w.history())
			}
		}
	})
}

// scrapeOften scrapes a replica at an interval of its own, with a long pause now and
// then.
func (w *replicas) scrapeOften(i int, rng *rand.Rand, stop <-chan struct{}) {
	interval := 5*time.Second + anyTime(rng, time.Minute)
	path := pick(rng, "/metrics", "/metrics", "/metrics?collect[]=balances&collect[]=exporter", "/metrics?collect[]=exporter")
	for {
		wait := interval
		if rng.IntN(20) == 0 {
			wait += anyTime(rng, 2*time.Hour)
		}
		select {
		case <-stop:
			return
		case <-time.After(wait):
		}
		w.scrape(i, path)
	}
}

// actOnReplicas does one of the things that can happen.
func (w *replicas) actOnReplicas() {
	rng, a := w.rng, pick(w.rng, w.accounts...)
	switch rng.IntN(10) {
	case 0, 1:
		i := rng.IntN(len(w.all))
		w.record("replica %d is killed", i)
		w.killReplica(i)
		time.Sleep(anyTime(rng, time.Minute))
		w.openReplica(i)
	case 2:
		i := rng.IntN(len(w.all))
		w.record("replica %d restarts", i)
		w.all[i].exporter.Close()
		w.openReplica(i)
	case 3:
		w.record("the store restarts")
		w.unsettle(time.Hour)
		w.store.stop()
		time.Sleep(anyTime(rng, 2*time.Minute))
		if rng.IntN(2) == 0 {
			w.record("empty")
			w.flush()
		}
		w.store.start()
		w.unsettle(time.Hour)
	case 4:
		w.record("the store is flushed")
		w.flush()
		w.unsettle(time.Hour)
	case 5:
		d := anyTime(rng, 30*time.Second)
		w.record("the store is frozen for %s", d)
		w.store.set(func() { w.store.thaw = time.Now().Add(d) })
		w.unsettle(d + time.Hour)
	case 6:
		d := anyTime(rng, 2*time.Second)
		w.record("the store takes %s", d)
		w.store.set(func() { w.store.latency = d })
		w.unsettle(time.Hour)
	case 7:
		w.record("the store is fast")
		w.store.set(func() { w.store.latency = 0 })
	default:
		name, fault := anyFault(rng, a)
		rule := simulate.Rule{Fault: fault, Times: rng.IntN(4)}
		w.record("%s: %s, %d times", a.name, name, rule.Times)
		if rng.IntN(3) == 0 {
			a.faults.Clear()
		}
		a.faults.Add(rule)
	}
}

// Two exporters without a common store spend the quota twice, and the checks of this
// file notice.
func TestReplicasWithoutAStoreExceedTheQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newReplicas(t, rand.New(rand.NewPCG(1, 1)), 2)
		w.store = nil
		a := w.add(alltest.Cases()[0])
		a.limit.Burst = 1
		a.interval = time.Second
		for i := range w.all {
			w.openReplica(i)
		}
		for range 10 {
			for i := range w.all {
				w.scrape(i, "/metrics")
			}
			time.Sleep(time.Second)
		}
		require.NotEmpty(t, a.watch.fault(a.limit))
	})
}
