package exporter

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	stdlog "log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/servertest"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
)

// programVariable makes the test binary run as the program.
const programVariable = "BALANCE_EXPORTER_TEST_PROGRAM"

// TestMain runs the tests or, in a process of [start], the program.
func TestMain(m *testing.M) {
	if os.Getenv(programVariable) == "" {
		debug.SetGCPercent(testGCPercent) // most worlds are small and short
		debug.SetMemoryLimit(1 << 30)     // a few read large answers
		os.Exit(m.Run())
	}
	opts := options()
	flag.StringVar(&opts.ConfigFile, "config.file", "", "")
	flag.StringVar(&opts.StateURL, "state.url", opts.StateURL, "")
	flag.StringVar(&(*opts.Web.WebListenAddresses)[0], "web.listen-address", "", "")
	flag.Parse()
	fmt.Fprintln(os.Stderr, Run(context.Background(), opts, nil, os.Stdout, os.Stderr))
	os.Exit(1)
}

// testGCPercent is how the tests collect garbage: seldom.
const testGCPercent = 1000

// options returns the defaults of flags, with the log at debug level and one address to
// listen on that is not set.
func options() Options {
	none := ""
	return Options{
		StateURL: "memory:", StatePrefix: "balance_exporter:", TelemetryPath: "/metrics", LogLevel: "debug", LogFormat: "logfmt",
		TimeoutOffset: 500 * time.Millisecond, MaxWait: 2 * time.Second,
		Web: &web.FlagConfig{WebListenAddresses: &[]string{""}, WebConfigFile: &none, WebSystemdSocket: new(bool)},
	}
}

// module is the main package.
const module = "github.com/balance-exporter/balance_exporter"

// build builds the program.
func build(tb testing.TB) string {
	tb.Helper()
	binary := filepath.Join(tb.TempDir(), "balance_exporter")
	out, err := exec.CommandContext(tb.Context(), "go", "build", "-o", binary, module).CombinedOutput()
	require.NoError(tb, err, "%s", out)
	return binary
}

// program returns a binary to [start]: the program in the long form, else this one, which
// takes no seconds to link.
func program(tb testing.TB) string {
	tb.Helper()
	if os.Getenv(slowVariable) != "" {
		return build(tb)
	}
	self, err := os.Executable()
	require.NoError(tb, err)
	return self
}

// process is the running program.
type process struct {
	cmd     *exec.Cmd
	address string
	stderr  lockedBuffer
}

// start starts the program.
func start(tb testing.TB, binary string, args ...string) *process {
	p := &process{address: servertest.Address(tb)}
	p.cmd = exec.CommandContext(tb.Context(), binary, append(args, "--web.listen-address="+p.address)...)
	p.cmd.Stderr = &p.stderr
	p.cmd.Env = append(os.Environ(), programVariable+"=1")
	require.NoError(tb, p.cmd.Start())
	tb.Cleanup(func() { p.kill() })
	return p
}

// kill is SIGKILL. Afterwards all of stderr is there.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// scrape returns the answer to one scrape; "" if there is none.
func (p *process) scrape(ctx context.Context, query string) string {
	body, _ := p.get(ctx, "/metrics"+query, "1")
	return body
}

// get requests a path as Prometheus does, with a timeout in seconds. It returns the
// answer, which must have status 200.
func (p *process) get(ctx context.Context, path, timeout string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", timeout)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	if err != nil {
		return "", err
	}
	return string(body), nil
}

// patience is how long a test waits for what a process must do, on a busy machine too.
const patience = 5 * time.Minute

// waitUntilReady waits until the program serves.
func (p *process) waitUntilReady(tb testing.TB) {
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if _, err := p.get(tb.Context(), "/-/ready", ""); err == nil {
			return
		}
		require.True(tb, time.Now().Before(deadline), "not ready after %v: %s", patience, &p.stderr)
	}
}

// lockedBuffer is a buffer that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements [io.Writer].
func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns what was written.
func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// onLoopback writes the configuration of one account whose API, behind wrap, listens on
// loopback. The account has the lines of the case and these, which must not repeat a key.
func onLoopback(t *testing.T, c simulate.Case, wrap func(http.Handler) http.Handler, lines ...string) (configFile string) {
	api := c.Open(nil)
	require.Len(t, api.Hosts, 1, "an API with one host")
	provider := httptest.NewServer(wrap(api.Hosts[""]))
	t.Cleanup(provider.Close)
	text := "accounts:\n  - name: one\n    provider: " + c.Provider + "\n    base_url: " + provider.URL + "\n"
	for _, line := range append(api.Lines(time.Second, time.Hour), lines...) {
		text += "    " + line + "\n"
	}
	configFile = filepath.Join(t.TempDir(), "c.yml")
	require.NoError(t, os.WriteFile(configFile, []byte(text), 0o600))
	return configFile
}

// hourlyPrices is onLoopback with balances that are read every second and price lists that
// are read every hour. lists gets the requests for price lists.
func hourlyPrices(t *testing.T, c simulate.Case, lists *simulate.Recorder, wrap func(http.Handler) http.Handler, lines ...string) (configFile string) {
	configFile = onLoopback(t, c, func(sim http.Handler) http.Handler {
		return wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for _, e := range c.Endpoints {
				if e.Metric == prices && e.Path.MatchString(r.URL.Path) {
					lists.Wrap(sim).ServeHTTP(w, r)
					return
				}
			}
			sim.ServeHTTP(w, r)
		}))
	}, lines...)
	text, err := os.ReadFile(configFile)
	require.NoError(t, err)
	hourly := strings.Replace(string(text), "prices: {refresh_interval: 1s", "prices: {refresh_interval: 1h", 1)
	require.NotEqual(t, string(text), hourly)
	require.NoError(t, os.WriteFile(configFile, []byte(hourly), 0o600))
	return configFile
}

// A process, in the long form of the real binary, is killed again and again while it is
// scraped: the provider gets no more requests than the limit, and nothing that was served
// is lost or read again within its interval.
//
// Requests that were sent apart may arrive close together. The counter allows for that
// with one more request of burst, for the whole run and not for each process: what a
// restart would spend twice grows with every kill and soon exceeds it.
func TestCrashLoop(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs the program")
	}
	t.Parallel()
	kills, longest := 6, 500*time.Millisecond
	if os.Getenv(slowVariable) != "" {
		kills, longest = 120, 2*time.Second
	}
	binary := program(t)
	c := casesWith(prices, false)[0]
	var all, lists simulate.Recorder
	configFile := hourlyPrices(t, c, &lists, all.Wrap, "rate_limit: {requests: 1, per: 1s, burst: 3}")
	state := filepath.Join(t.TempDir(), "state")
	read := -1 // how many requests it took until prices were served
	for n := range kills {
		p := start(t, binary, "--config.file="+configFile, "--state.url=sqlite:"+state)
		body := ""
		var end time.Time // of this life: any time after the first answer
		for end.IsZero() || time.Now().Before(end) {
			if text := p.scrape(t.Context(), "?collect[]=balances&collect[]=prices"); text != "" {
				body = text
				if end.IsZero() {
					end = time.Now().Add(rand.N(longest))
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
		p.kill()
		if read < 0 && strings.Contains(body, "\nsms_price{") {
			read = lists.Len()
		}
		if read >= 0 {
			require.Contains(t, body, "\nsms_price{", "after %d kills the stored prices are lost", n)
			require.Contains(t, body, "\naccount_balance{", "after %d kills the stored balance is lost", n)
			require.Equal(t, read, lists.Len(), "after %d kills the prices are read again within their interval", n)
		}
		if v, found := all.Excess(1, time.Second, 3+1); found {
			t.Fatalf("after %d kills: %v", n, v)
		}
	}
	require.Positive(t, read, "prices were never served")
	require.Greater(t, all.Len(), read+1, "balances were not read again")
	t.Logf("%d kills, %d requests, %d of them for prices", kills, all.Len(), lists.Len())
}

// All that the program writes for a person is a line of its logger with secrets masked,
// also what net/http says about a provider that sends the credentials on an idle
// connection.
func TestStderrIsTheLogger(t *testing.T) {
	t.Cleanup(func() { stdlog.SetOutput(io.Discard) })
	before := os.Stderr
	var err error
	os.Stderr, err = os.Create(filepath.Join(t.TempDir(), "stderr"))
	require.NoError(t, err)
	defer func() { _, os.Stderr = os.Stderr.Close(), before }()

	c := casesWith(balances, true)[0]
	closed := make(chan struct{}, 1)
	configFile := onLoopback(t, c, func(sim http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			authorization := "Authorization: " + r.Header.Get("Authorization") + "\r\n"
			simulate.IdleBytes(time.Millisecond, authorization)(sim).ServeHTTP(w, r)
			select { // the exporter has closed the connection, so it has read the bytes
			case closed <- struct{}{}:
			default:
			}
		})
	})
	p := &process{address: servertest.Address(t)}
	ctx, stop := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	opts := options()
	opts.ConfigFile, (*opts.Web.WebListenAddresses)[0] = configFile, p.address
	go func() { ended <- Run(ctx, opts, nil, io.Discard, &p.stderr) }()
	for p.scrape(t.Context(), "?collect[]=balances") == "" {
		time.Sleep(20 * time.Millisecond)
	}
	<-closed
	stop(errors.New("the test ends"))
	require.NoError(t, <-ended)

	require.Contains(t, p.stderr.String(), "Unsolicited response")
	for line := range strings.Lines(p.stderr.String()) {
		require.Regexp(t, `^ts=\S+ caller=\S+ level=\w+ .*msg=`, line)
		for _, secret := range c.Secrets {
			require.NotContains(t, line, secret)
		}
	}
	text, err := os.ReadFile(os.Stderr.Name())
	require.NoError(t, err)
	require.Empty(t, string(text), "beside the logger")
}
