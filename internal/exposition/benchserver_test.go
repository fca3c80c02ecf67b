package exposition

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/collector"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

// Benchmarks compare ways of answering, each in a process of its own, so that CPU
// time and memory are those of the server and not of the client.

// serverEnv, when set, makes the test binary such a server: way, series, fleet.
const serverEnv = "EXPOSITION_BENCH_SERVER"

// way is a way of answering.
type way string

const (
	ordinary way = "ordinary" // collectors through promhttp
	ready    way = "ready"    // bytes that were written before
	ours     way = "ours"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(serverEnv); spec != "" {
		benchServer(spec)
		return
	}
	os.Exit(m.Run())
}

// accounts is how many accounts the series of a benchmark come from.
const accounts = 10

// benchServer serves until its standard input ends, and prints its address.
func benchServer(spec string) {
	fields := strings.Fields(spec)
	series, _ := strconv.Atoi(fields[1])
	var groups atomic.Pointer[[]*snapshot.Group]
	var initial []*snapshot.Group
	if fields[2] == "fleet" {
		initial = fleetGroups("fleet", series, time.Now())
	} else {
		for i := range accounts {
			initial = append(initial, priceGroup(fmt.Sprint("account", i), series/accounts, time.Now()))
		}
	}
	groups.Store(&initial)
	known := func() []*snapshot.Group { return *groups.Load() }

	mux := http.NewServeMux()
	mux.Handle("/metrics", handlerOf(way(fields[0]), known))
	mux.HandleFunc("/usage", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(ownUsage())
	})
	// /change replaces that many groups by new ones of the same content.
	mux.HandleFunc("/change", func(_ http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("groups"))
		next := slices.Clone(known())
		for i := range n {
			g := *next[i]
			next[i] = &g
		}
		groups.Store(&next)
	})
	// /poll gives new values to that many subscribers, in order.
	polled := 0
	mux.HandleFunc("/poll", func(_ http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("count"))
		next := slices.Clone(known())
		for range n {
			i := polled / 1000
			if g := *next[i]; next[i] == known()[i] {
				g.Snapshots = slices.Clone(g.Snapshots)
				next[i] = &g
			}
			next[i].Snapshots[polled%1000] = subscriber(polled, float64(polled), time.Now())
			polled = (polled + 1) % series
		}
		groups.Store(&next)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr())
	go func() { _ = http.Serve(listener, mux) }()
	_, _ = os.Stdin.Read(make([]byte, 1))
}

func handlerOf(w way, known func() []*snapshot.Group) http.Handler {
	own := prometheus.NewRegistry()
	own.MustRegister(
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(collectors.WithGoCollectorMemStatsMetricsDisabled()),
		collectors.NewBuildInfoCollector(),
	)
	data := prometheus.NewRegistry()
	data.MustRegister(collector.NewData(known, everything.Kinds))
	usual := promhttp.InstrumentMetricHandler(own, promhttp.HandlerFor(prometheus.Gatherers{data, own},
		promhttp.HandlerOpts{EnableOpenMetrics: true, Registry: own}))
	switch w {
	case ordinary:
		return usual
	case ours:
		e := New(Options{Groups: known, Own: own, Registerer: own})
		own.MustRegister(collector.NewProcess(e.Cached))
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { e.Serve(w, r, everything) })
	case ready:
		var answers sync.Map
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			key := r.Header.Get("Accept") + r.Header.Get("Accept-Encoding")
			a, ok := answers.Load(key)
			if !ok {
				rec := httptest.NewRecorder()
				usual.ServeHTTP(rec, r)
				a, _ = answers.LoadOrStore(key, rec)
			}
			rec := a.(*httptest.ResponseRecorder)
			for name, values := range rec.Header() {
				w.Header()[name] = values
			}
			w.Header().Set("Content-Length", strconv.Itoa(rec.Body.Len()))
			_, _ = w.Write(rec.Body.Bytes())
		})
	}
	panic("unknown way " + w)
}

// usage is what a process has used.
type usage struct {
	CPU            time.Duration
	Resident, Peak int // bytes
}

func ownUsage() usage {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	u := usage{CPU: time.Duration(r.Utime.Nano() + r.Stime.Nano())}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.Atoi(fields[1])
		switch fields[0] {
		case "VmRSS:":
			u.Resident = kib << 10
		case "VmHWM:":
			u.Peak = kib << 10
		}
	}
	return u
}

// process is a server in a process of its own.
type process struct {
	url    string
	client *http.Client
	stop   func()
}

func startServer(b *testing.B, w way, series int, what string) *process {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %s", serverEnv, w, series, what))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(b, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	stop := func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}
	b.Cleanup(stop)
	var addr string
	_, err = fmt.Fscanln(stdout, &addr)
	require.NoError(b, err)
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	return &process{url: "http://" + addr, client: client, stop: stop}
}
