package exposition

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/collector"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// renders counts what is rendered.
type renders struct {
	mu    sync.Mutex
	count map[string]int
}

func count(e *Exposition) *renders {
	r := &renders{count: map[string]int{}}
	e.rendered = func(family string, f format) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.count[fmt.Sprint(family, " ", f)]++
	}
	return r
}

// take returns the counts since the last time.
func (r *renders) take() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.count = map[string]int{} }()
	return r.count
}

func TestOnlyWhatChangedIsRendered(t *testing.T) {
	k := &known{}
	for i := range 10 {
		k.groups = append(k.groups, priceGroup(fmt.Sprint("account", i), 5, time.Now()))
	}
	k.groups = append(k.groups, fleetGroups("fleet", 3000, time.Now())...)
	e := New(Options{Groups: k.all})
	r := count(e)
	scrape(e, acceptText, "gzip")
	require.Equal(t, map[string]int{"sms_price text": 10, "subscriber_balance text": 3, "subscriber_allowance text": 3}, r.take(), "first scrape")
	scrape(e, acceptText, "gzip")
	require.Empty(t, r.take(), "nothing has changed")

	k.groups[3] = priceGroup("account3", 6, time.Now())
	scrape(e, acceptText, "gzip")
	require.Equal(t, map[string]int{"sms_price text": 1}, r.take(), "one account has changed")

	shard := *k.groups[11]
	shard.Snapshots = append([]*snapshot.Snapshot{subscriber(1000, 5, time.Now())}, shard.Snapshots[1:]...)
	k.groups[11] = &shard
	scrape(e, acceptText, "gzip")
	require.Equal(t, map[string]int{"subscriber_balance text": 1, "subscriber_allowance text": 1}, r.take(), "one subscriber has changed")

	scrape(e, acceptText, "identity")
	require.Empty(t, r.take(), "another encoding is made from the one there is")
	scrape(e, acceptText+";escaping=dots", "gzip")
	require.Empty(t, r.take(), "escaping changes nothing")

	w := httptest.NewRecorder()
	e.Serve(w, request(acceptProtobuf, "gzip"), Parts{Kinds: []providers.Kind{providers.KindPrices}})
	require.Equal(t, map[string]int{"sms_price protobuf": 10}, r.take(), "another format, of some parts")

	k.groups = k.groups[:5]
	scrape(e, acceptText, "gzip")
	require.Empty(t, r.take(), "accounts have gone")
}

func TestValueEndsByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fresh, old := priceGroup("new", 1, time.Now()), priceGroup("old", 1, time.Now().Add(-23*time.Hour))
		k := &known{groups: []*snapshot.Group{fresh, old}}
		e := New(Options{Groups: k.all})
		r := count(e)
		require.Equal(t, 2, strings.Count(plain(t, scrape(e, acceptText, "gzip")), "sms_price{"))
		r.take()

		time.Sleep(time.Hour - 1)
		require.Equal(t, 2, strings.Count(plain(t, scrape(e, acceptText, "gzip")), "sms_price{"), "just before")
		time.Sleep(time.Nanosecond)
		require.Equal(t, 1, strings.Count(plain(t, scrape(e, acceptText, "gzip")), "sms_price{"), "at max_age")
		time.Sleep(23 * time.Hour)
		require.Empty(t, plain(t, scrape(e, acceptText, "gzip")), "nothing is left, not even a header")
	})
}

func TestUnusedIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &known{groups: []*snapshot.Group{priceGroup("a", 100, time.Now())}}
		e := New(Options{Groups: k.all})
		e.keepUnused = 10 * time.Minute
		kept := func() map[string]bool {
			out := map[string]bool{}
			for _, b := range e.Cached() {
				if b.Bytes > 0 {
					out[b.Format+" "+b.Encoding] = true
				}
			}
			return out
		}
		require.Len(t, e.Cached(), 6)
		require.Empty(t, kept())
		scrape(e, acceptText, "gzip")
		scrape(e, acceptText, "identity")
		scrape(e, acceptProtobuf, "identity")
		require.Equal(t, map[string]bool{"text gzip": true, "text identity": true, "protobuf identity": true}, kept())
		for range 20 {
			time.Sleep(time.Minute)
			scrape(e, acceptText, "gzip")
		}
		synctest.Wait()
		require.Equal(t, map[string]bool{"text gzip": true}, kept(), "one form is still asked for")
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		require.Empty(t, kept(), "no scrapes")
		require.Equal(t, 100, strings.Count(plain(t, scrape(e, acceptText, "gzip")), "sms_price{"), "made again")
		time.Sleep(time.Hour) // the sweeps end by themselves
	})
}

func TestCachedBytes(t *testing.T) {
	k := &known{groups: []*snapshot.Group{priceGroup("a", 1000, time.Now())}}
	e := New(Options{Groups: k.all})
	size := scrape(e, acceptText, "identity").Body.Len()
	require.Equal(t, collector.CachedBytes{Format: "text", Encoding: "identity", Bytes: size}, e.Cached()[0])
}

func TestRenderedOnceForManyScrapers(t *testing.T) {
	k := &known{groups: []*snapshot.Group{priceGroup("a", 2000, time.Now())}}
	e := New(Options{Groups: k.all})
	r := count(e)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { scrape(e, acceptOpenMetrics, "gzip") })
	}
	wg.Wait()
	require.Equal(t, map[string]int{"sms_price openmetrics": 1}, r.take())
}

// TestConcurrent has scrapers of every form while what is known changes; every
// answer must show one state of each group.
func TestConcurrent(t *testing.T) {
	const size = 50
	var groups atomic.Pointer[[]*snapshot.Group]
	publish := func(value float64) {
		var next []*snapshot.Group
		for a := range 3 {
			g := priceGroup(fmt.Sprint("account", a), size, time.Now())
			for i := range g.Snapshots[0].Reading.Prices {
				g.Snapshots[0].Reading.Prices[i].Amount = value
			}
			next = append(next, g)
		}
		groups.Store(&next)
	}
	publish(-1)
	own := prometheus.NewRegistry()
	e := New(Options{
		Groups: func() []*snapshot.Group { return *groups.Load() },
		Own:    own, Registerer: own,
	})
	e.keepUnused = time.Millisecond
	own.MustRegister(collector.NewProcess(e.Cached))
	var wg sync.WaitGroup
	for _, accept := range []string{acceptText, acceptOpenMetrics} {
		for _, encoding := range []string{"gzip", "identity"} {
			wg.Go(func() {
				for range 50 {
					body := plain(t, scrape(e, accept, encoding))
					values := map[string]int{}
					for line := range strings.Lines(body) {
						if account, rest, ok := strings.Cut(line, `",country`); ok {
							_, value, _ := strings.Cut(rest, "} ")
							values[account+value]++
						}
					}
					for _, n := range values {
						if n != size {
							t.Errorf("half of a change: %v", values)
							return
						}
					}
				}
			})
		}
	}
	for i := range 50 {
		publish(float64(i))
		time.Sleep(time.Millisecond)
	}
	wg.Wait()
}

// TestSegmentWithErrors has a duplicate.
func TestSegmentWithErrors(t *testing.T) {
	bad := priceGroup("bad", 5, time.Now())
	prices := bad.Snapshots[0].Reading.Prices
	prices[3] = prices[2]
	k := &known{groups: []*snapshot.Group{bad, priceGroup("good", 5, time.Now())}}
	var logged bytes.Buffer
	registry := prometheus.NewRegistry()
	e := New(Options{Groups: k.all, Registerer: registry, Logger: log.NewLogfmtLogger(&logged)})
	for _, accept := range []string{acceptText, acceptOpenMetrics} {
		require.Equal(t, 4+5, strings.Count(plain(t, scrape(e, accept, "gzip")), "sms_price{"))
	}
	require.Equal(t, 2, strings.Count(logged.String(), "level=error"), logged.String())
	require.Contains(t, logged.String(), "was collected before with the same name and label values")
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP promhttp_metric_handler_errors_total Total number of internal errors encountered by the promhttp metric handler.
# TYPE promhttp_metric_handler_errors_total counter
promhttp_metric_handler_errors_total{cause="encoding"} 0
promhttp_metric_handler_errors_total{cause="gathering"} 2
`), "promhttp_metric_handler_errors_total"))
}

func TestOwnMetricsWithErrors(t *testing.T) {
	failing := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return nil, io.ErrUnexpectedEOF })
	k := &known{groups: []*snapshot.Group{priceGroup("a", 5, time.Now())}}
	e := New(Options{Groups: k.all, Own: failing})
	require.Equal(t, 5, strings.Count(plain(t, scrape(e, acceptText, "gzip")), "sms_price{"))

	k.groups = nil
	require.Equal(t, http.StatusInternalServerError, scrape(e, acceptText, "gzip").Code, "nothing but an error, as promhttp does")
}

func TestNegotiation(t *testing.T) {
	k := &known{groups: []*snapshot.Group{priceGroup("a", 50, time.Now())}}
	own := ownMetrics()
	e := New(Options{Groups: k.all, Own: own})
	want := reference(k.all, own, everything)
	accepts := []string{
		"", "*/*", "text/html,*/*;q=0.1", acceptText, acceptOpenMetrics, acceptProtobuf,
		"application/openmetrics-text;version=2.0.0,text/plain;q=0.5",
		"application/openmetrics-text;q=0.1,text/plain;version=0.0.4;q=0.9",
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=compact-text",
		"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
		"application/openmetrics-text;version=1.0.0;escaping=nonsense", "nonsense;;;",
	}
	encodings := []string{
		"", "gzip", "GZIP", "identity", "gzip;q=0", "gzip;q=0.0,identity", "identity;q=0.5,gzip;q=1.0", "gzip;q=0.1,identity;q=0.9",
		"*", "*;q=0", "br", "zstd", "zstd,gzip", "deflate,gzip;q=0.5", "identity;q=0,*;q=0", "gzip;q=nonsense", "gzip, deflate, br, zstd",
	}
	for _, accept := range accepts {
		for _, encoding := range encodings {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				for _, query := range []string{"", "?name[]=sms_price&name[]=zz_last", "?name%5B%5D=none"} {
					r := request(accept, encoding)
					r.Method = method
					r.URL, _ = r.URL.Parse("/metrics" + query)
					wanted, got := httptest.NewRecorder(), httptest.NewRecorder()
					want.ServeHTTP(wanted, r)
					e.Serve(got, r, everything)
					name := fmt.Sprintf("%s %q %q %s", method, accept, encoding, query)
					for _, h := range []string{"Content-Type", "Content-Encoding", "Vary"} {
						require.Equal(t, wanted.Header().Values(h), got.Header().Values(h), name)
					}
					if method == http.MethodGet && !strings.Contains(accept, "text;") && !strings.Contains(accept, "encoding=compact") {
						require.Equal(t, plain(t, wanted), plain(t, got), name)
					}
				}
			}
		}
	}
}

func TestSeveralAcceptEncodingLines(t *testing.T) {
	e := New(Options{Groups: (&known{groups: []*snapshot.Group{priceGroup("a", 5, time.Now())}}).all})
	r := request(acceptText, "")
	r.Header["Accept-Encoding"] = []string{"br", "gzip"}
	w := httptest.NewRecorder()
	e.Serve(w, r, everything)
	require.Equal(t, "gzip", w.Header().Get("Content-Encoding"))
}

func TestHead(t *testing.T) {
	k := &known{groups: []*snapshot.Group{priceGroup("a", 5000, time.Now())}}
	e := New(Options{Groups: k.all})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { e.Serve(w, r, everything) }))
	defer server.Close()
	ask := func(method string) http.Header {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL, nil)
		require.NoError(t, err)
		r.Header.Set("Accept-Encoding", "gzip")
		resp, err := server.Client().Do(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		resp.Header.Del("Date")
		return resp.Header
	}
	got := ask(http.MethodHead)
	require.Equal(t, "gzip", got.Get("Content-Encoding"))
	require.Equal(t, ask(http.MethodGet), got)
}

func TestHandlerMetrics(t *testing.T) {
	own := prometheus.NewRegistry()
	e := New(Options{Groups: (&known{}).all, Own: own, Registerer: own})
	scrape(e, acceptText, "gzip")
	require.Contains(t, plain(t, scrape(e, acceptText, "gzip")), `promhttp_metric_handler_requests_total{code="200"} 1`)
	require.Contains(t, plain(t, scrape(e, acceptText, "gzip")), `promhttp_metric_handler_requests_in_flight 1`)
}

// blocked is a writer whose client does not read.
type blocked struct {
	*httptest.ResponseRecorder
	entered chan struct{}
	leave   chan struct{}
}

func (b blocked) Write(p []byte) (int, error) {
	b.entered <- struct{}{}
	<-b.leave
	return len(p), nil
}

func TestInFlightLimit(t *testing.T) {
	k := &known{groups: []*snapshot.Group{priceGroup("a", 5, time.Now())}}
	e := New(Options{Groups: k.all})
	e.inFlight = make(chan struct{}, 1)
	b := blocked{httptest.NewRecorder(), make(chan struct{}, 99), make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Serve(b, request(acceptText, "gzip"), everything)
	}()
	<-b.entered
	late, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	e.Serve(w, request(acceptText, "gzip").WithContext(late), everything)
	require.Equal(t, http.StatusServiceUnavailable, w.Code, "at its deadline")
	waiting := make(chan int)
	go func() { waiting <- scrape(e, acceptText, "gzip").Code }()
	close(b.leave)
	<-done
	require.Equal(t, http.StatusOK, <-waiting, "in its turn")
}

// The library gathers everything anew for each request that names families.
func TestLibraryServesOneAtATime(t *testing.T) {
	var mu sync.Mutex
	now, most := 0, 0
	own := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		runtime.Gosched()
		mu.Lock()
		defer mu.Unlock()
		now--
		return nil, nil
	})
	e := New(Options{Groups: (&known{groups: []*snapshot.Group{priceGroup("a", 50, time.Now())}}).all, Own: own})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			r := request(acceptText, "gzip")
			r.URL.RawQuery = "name[]=sms_price"
			w := httptest.NewRecorder()
			e.Serve(w, r, everything)
			assert.Equal(t, http.StatusOK, w.Code)
		})
	}
	wg.Wait()
	require.Equal(t, 1, most)
}

// A segment that is not rendered by the deadline is served as it was.
func TestRenderingDoesNotDelayAScrape(t *testing.T) {
	k := &known{groups: []*snapshot.Group{priceGroup("a", 3, time.Now()), priceGroup("b", 2, time.Now())}}
	e := New(Options{Groups: k.all})
	at := func(ctx context.Context) int {
		w := httptest.NewRecorder()
		e.Serve(w, request(acceptText, "gzip").WithContext(ctx), everything)
		return strings.Count(plain(t, w), "sms_price{")
	}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	slow := make(chan struct{})
	e.rendered = func(string, format) { <-slow }
	require.Equal(t, 0, at(late), "there is no previous segment")
	close(slow)
	require.Equal(t, 5, at(t.Context()))

	slow = make(chan struct{})
	k.groups[0] = priceGroup("a", 10, time.Now())
	require.Equal(t, 5, at(late), "the previous segment")
	k.groups[0] = priceGroup("a", 20, time.Now())
	require.Equal(t, 5, at(late), "the one before two changes")
	close(slow)
	require.Equal(t, 22, at(t.Context()))
	require.Equal(t, 22, at(late), "it is rendered")
}

// A scrape that reaches its deadline before it renders still shows what can be rendered
// at once.
func TestScrapeAtItsDeadlineRenders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &known{groups: []*snapshot.Group{priceGroup("a", 3, time.Now())}}
		e := New(Options{Groups: k.all})
		scrape := func() int {
			ctx, cancel := context.WithTimeout(t.Context(), 0)
			defer cancel()
			w := httptest.NewRecorder()
			e.Serve(w, request(acceptText, "gzip").WithContext(ctx), everything)
			return strings.Count(plain(t, w), "sms_price{")
		}
		require.Equal(t, 3, scrape())

		e.rendered = func(string, format) { time.Sleep(time.Second) }
		k.groups[0] = priceGroup("a", 10, time.Now())
		start := time.Now()
		require.Equal(t, 3, scrape(), "the previous segment")
		require.Equal(t, minServe, time.Since(start))
		time.Sleep(10*time.Minute + time.Second) // until the sweeps have ended
	})
}

// TestNoLockIsHeldWhileWriting has one client that does not read, and everything
// changing around it.
func TestNoLockIsHeldWhileWriting(t *testing.T) {
	k := &known{groups: []*snapshot.Group{priceGroup("a", 5, time.Now())}}
	e := New(Options{Groups: k.all})
	b := blocked{httptest.NewRecorder(), make(chan struct{}, 99), make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Serve(b, request(acceptText, "gzip"), everything)
	}()
	<-b.entered
	k.groups = []*snapshot.Group{priceGroup("a", 6, time.Now()), priceGroup("b", 6, time.Now())}
	require.Equal(t, 12, strings.Count(plain(t, scrape(e, acceptText, "gzip")), "sms_price{"))
	e.sweep()
	close(b.leave)
	<-done
}

// pipes is a listener whose connections have no buffer.
type pipes struct{ accepted chan net.Conn }

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p.accepted; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.IPAddr{} }

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p.accepted <- server
	return client, nil
}

// listen serves e and returns what to dial.
func listen(t *testing.T, e *Exposition, served func()) pipes {
	p := pipes{make(chan net.Conn)}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			e.Serve(w, r, everything)
		}
		served()
	})}
	go func() { _ = server.Serve(p) }()
	t.Cleanup(func() {
		close(p.accepted)
		_ = server.Close()
	})
	return p
}

func TestSlowClientIsCutOff(t *testing.T) {
	for _, query := range []string{"", "?name[]=sms_price"} {
		synctest.Test(t, func(t *testing.T) {
			k := &known{groups: []*snapshot.Group{priceGroup("a", 500, time.Now())}}
			e := New(Options{Groups: k.all})
			start := time.Now()
			var took time.Duration
			p := listen(t, e, func() { took = time.Since(start) })
			conn, err := p.dial(t.Context(), "", "")
			require.NoError(t, err)
			_, err = io.WriteString(conn, "GET /metrics"+query+" HTTP/1.1\r\nHost: x\r\n\r\n")
			require.NoError(t, err)
			time.Sleep(time.Hour)
			synctest.Wait()
			require.Equal(t, writeTimeout, took)
			require.NoError(t, conn.Close())
		})
	}
}

// TestConnectionOutlivesWriteTimeout uses one connection for longer than the timeout.
func TestConnectionOutlivesWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &known{groups: []*snapshot.Group{priceGroup("a", 5, time.Now())}}
		p := listen(t, New(Options{Groups: k.all}), func() {})
		dials := 0
		transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			return p.dial(ctx, network, addr)
		}}
		for _, path := range []string{"/metrics", "/other", "/metrics?name[]=sms_price", "/other"} {
			resp, err := (&http.Client{Transport: transport}).Get("http://x" + path)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			time.Sleep(2 * writeTimeout)
		}
		transport.CloseIdleConnections()
		require.Equal(t, 1, dials)
	})
}

func TestWriteText(t *testing.T) {
	k := &known{groups: []*snapshot.Group{priceGroup("b", 5, time.Now()), priceGroup("a", 5, time.Now())}}
	e := New(Options{Groups: k.all, Own: ownMetrics()})
	var out bytes.Buffer
	require.NoError(t, e.WriteText(&out, everything))
	require.Equal(t, plain(t, scrape(e, acceptText, "identity")), out.String())
}
