package exposition

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// sizes returns the numbers of series to compare. EXPOSITION_BENCH_MILLION=1 adds
// the largest, which takes 2 GB.
func sizes() []int {
	s := []int{2_000, 50_000, 500_000}
	if os.Getenv("EXPOSITION_BENCH_MILLION") != "" {
		s = append(s, 1_000_000)
	}
	return s
}

var benchFormats = []struct{ name, accept string }{
	{"text", acceptText}, {"openmetrics", acceptOpenMetrics}, {"protobuf", acceptProtobuf},
}

// cost is what one scrape takes: the time of the client, the CPU time of the
// server.
type cost struct{ wall, cpu time.Duration }

func (p *process) get(b *testing.B, path, accept, encoding string) time.Duration {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, p.url+path, nil)
	require.NoError(b, err)
	r.Header.Set("Accept", accept)
	r.Header.Set("Accept-Encoding", encoding)
	start := time.Now()
	resp, err := p.client.Do(r)
	require.NoError(b, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(b, err)
	took := time.Since(start)
	require.NoError(b, resp.Body.Close())
	require.Equal(b, http.StatusOK, resp.StatusCode)
	return took
}

func (p *process) usage(b *testing.B) usage {
	b.Helper()
	resp, err := p.client.Get(p.url + "/usage")
	require.NoError(b, err)
	defer func() { _ = resp.Body.Close() }()
	var u usage
	require.NoError(b, json.NewDecoder(resp.Body).Decode(&u))
	return u
}

// scrape returns the cost of a scrape: the median time, the mean CPU time. It
// scrapes as often as a second allows, and at least twice.
func (p *process) scrape(b *testing.B, accept, encoding string) cost {
	b.Helper()
	p.get(b, "/metrics", accept, encoding)
	var walls []time.Duration
	before := p.usage(b)
	for start := time.Now(); len(walls) < 2 || time.Since(start) < time.Second; {
		walls = append(walls, p.get(b, "/metrics", accept, encoding))
	}
	cpu := p.usage(b).CPU - before.CPU
	slices.Sort(walls)
	return cost{wall: walls[len(walls)/2], cpu: cpu / time.Duration(len(walls))}
}

func ratio[T int | time.Duration](a, b T) float64 { return float64(a) / float64(b) }

// report replaces the time of the benchmark's own loop, which is that of several
// measurements.
func report(b *testing.B, figures map[string]float64) {
	b.ReportMetric(0, "ns/op")
	for unit, v := range figures {
		b.ReportMetric(v, unit)
	}
}

// BenchmarkScrape compares scrapes of unchanged data.
func BenchmarkScrape(b *testing.B) {
	for _, series := range sizes() {
		b.Run(fmt.Sprint(series), func(b *testing.B) {
			usual, bytes, kept := startServer(b, ordinary, series, "prices"), startServer(b, ready, series, "prices"), startServer(b, ours, series, "prices")
			for _, f := range benchFormats {
				for _, encoding := range []string{"identity", "gzip"} {
					b.Run(f.name+"/"+encoding, func(b *testing.B) {
						for b.Loop() {
							a, r, o := usual.scrape(b, f.accept, encoding), bytes.scrape(b, f.accept, encoding), kept.scrape(b, f.accept, encoding)
							figures := map[string]float64{
								"ordinary-cpu/ours": ratio(a.cpu, o.cpu), "ordinary-time/ours": ratio(a.wall, o.wall),
								"time/ready": ratio(o.wall, r.wall), "cpu/ready": ratio(o.cpu, r.cpu),
								"ordinary-cpu-ms": a.cpu.Seconds() * 1e3, "cpu-ms": o.cpu.Seconds() * 1e3,
								"ordinary-ms": a.wall.Seconds() * 1e3, "ms": o.wall.Seconds() * 1e3, "ready-ms": r.wall.Seconds() * 1e3,
							}
							if encoding == "gzip" {
								figures["time/ready-identity"] = ratio(o.wall, bytes.scrape(b, f.accept, "identity").wall)
							}
							report(b, figures)
						}
					})
				}
			}
		})
	}
}

// settling is for how long memory is watched; the last rendering is over by then.
const settling = 30 * time.Second

// BenchmarkMemory compares what is resident in two servers that are scraped in
// turn, right after some scrapes and later.
func BenchmarkMemory(b *testing.B) {
	for _, series := range sizes() {
		b.Run(fmt.Sprint(series), func(b *testing.B) {
			usual, kept := startServer(b, ordinary, series, "prices"), startServer(b, ours, series, "prices")
			scrape := func() {
				usual.get(b, "/metrics", acceptText, "gzip")
				kept.get(b, "/metrics", acceptText, "gzip")
			}
			for b.Loop() {
				for range 3 {
					scrape()
				}
				early := kept.usage(b)
				for start := time.Now(); time.Since(start) < settling; {
					scrape()
					time.Sleep(5 * time.Second)
				}
				a, o := usual.usage(b), kept.usage(b)
				report(b, map[string]float64{
					"ordinary-MB": float64(a.Resident) / 1e6, "ordinary-peak-MB": float64(a.Peak) / 1e6,
					"early-MB": float64(early.Resident) / 1e6, "MB": float64(o.Resident) / 1e6, "peak-MB": float64(o.Peak) / 1e6,
					"ordinary/early": ratio(a.Resident, early.Resident), "ordinary/ours": ratio(a.Resident, o.Resident),
					"ordinary-peak/ours": ratio(a.Peak, o.Resident), "peaks": ratio(a.Peak, o.Peak),
				})
			}
		})
	}
}

// BenchmarkChange compares the first scrape after a change of all accounts, or of
// one in ten, with an ordinary scrape.
func BenchmarkChange(b *testing.B) {
	const series = 50_000
	for _, f := range benchFormats {
		b.Run(f.name, func(b *testing.B) {
			usual, kept := startServer(b, ordinary, series, "prices"), startServer(b, ours, series, "prices")
			// after returns the cost of a scrape that follows a change of groups.
			after := func(groups int) cost {
				var walls []time.Duration
				var cpu time.Duration
				for range 10 {
					kept.get(b, fmt.Sprint("/change?groups=", groups), "", "")
					before := kept.usage(b)
					walls = append(walls, kept.get(b, "/metrics", f.accept, "gzip"))
					cpu += kept.usage(b).CPU - before.CPU
				}
				slices.Sort(walls)
				return cost{wall: walls[len(walls)/2], cpu: cpu / time.Duration(len(walls))}
			}
			for b.Loop() {
				after(accounts)
				a, all, one := usual.scrape(b, f.accept, "gzip"), after(accounts), after(1)
				report(b, map[string]float64{
					"all-time/ordinary": ratio(all.wall, a.wall), "all-cpu/ordinary": ratio(all.cpu, a.cpu),
					"one-time/all": ratio(one.wall, all.wall), "one-cpu/all": ratio(one.cpu, all.cpu),
				})
			}
		})
	}
}

// BenchmarkFleet reports the share of a CPU that scrapes every 15 s take of a fleet
// with some changes a second.
func BenchmarkFleet(b *testing.B) {
	const fleet, interval = 100_000, 15 * time.Second
	p := startServer(b, ours, fleet, "fleet")
	p.get(b, "/metrics", acceptText, "gzip")
	for _, rate := range []int{0, 1, 10, 100} {
		b.Run(fmt.Sprint(rate), func(b *testing.B) {
			const scrapes = 20
			var cpu time.Duration
			for b.Loop() {
				cpu = 0
				for range scrapes {
					p.get(b, fmt.Sprint("/poll?count=", rate*int(interval.Seconds())), "", "")
					before := p.usage(b)
					p.get(b, "/metrics", acceptText, "gzip")
					cpu += p.usage(b).CPU - before.CPU
				}
			}
			report(b, map[string]float64{"%cpu": 100 * ratio(cpu, scrapes*interval), "cpu-ms": cpu.Seconds() * 1e3 / scrapes})
		})
	}
}
