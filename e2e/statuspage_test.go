package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
	"github.com/balance-exporter/balance_exporter/providers/flolive/flolivesim"
)

// images is where the README's pictures are.
const images = "../docs/images"

// browser starts a headless Chromium. Without one the test is skipped, but not in CI.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("no Chromium is installed, and CI=true")
		}
		t.Skip("no Chromium is installed")
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true))
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits until the browser has gone
		cancel()
	})
	require.NoError(t, chromedp.Do(ctx)) // the browser lives as long as the context of this call
	return ctx
}

// look is how a page is looked at.
type look struct {
	name          string
	width, height int64
	scale         float64
	scheme        string
	mobile        bool
}

var looks = []look{
	{"light", 1000, 800, 1, "light", false},
	{"dark", 1000, 800, 1, "dark", false},
	{"phone", 390, 844, 2, "light", true},
}

// seen is what a browser shows of a page.
type seen struct {
	text, html, background string
	sideways               bool // wider than the screen, or a table wider than its frame
	complaints             []string
	picture                []byte
}

// see opens url in a new tab.
func see(t *testing.T, ctx context.Context, url string, l look) seen { //nolint:revive // the test comes first, as everywhere
	t.Helper()
	ctx, cancel := chromedp.NewContext(ctx)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()

	var s seen
	var mu sync.Mutex
	complain := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		s.complaints = append(s.complaints, fmt.Sprintf(format, args...))
	}
	require.NoError(t, chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventConsoleAPICalled:
			complain("console.%s", e.Type)
		case *runtime.EventExceptionThrown:
			complain("exception: %v", e.ExceptionDetails)
		case *log.EventEntryAdded:
			complain("%s: %s", e.Entry.Level, e.Entry.Text)
		case *network.EventLoadingFailed:
			complain("not loaded: %s", e.ErrorText)
		case *network.EventRequestWillBeSent:
			if !strings.HasPrefix(e.Request.URL, url) && !strings.HasPrefix(e.Request.URL, "data:") {
				complain("asks elsewhere: %s", e.Request.URL)
			}
		}
	}))
	for _, enable := range []func() error{
		func() error { _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); return err },
		func() error { _, err := chromedp.Call(ctx, log.Enable, cdp.Empty{}); return err },
		func() error { _, err := chromedp.Call(ctx, runtime.Enable, cdp.Empty{}); return err },
		func() error {
			_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: l.scheme}},
			})
			return err
		},
	} {
		require.NoError(t, enable())
	}
	viewport := []chromedp.EmulateViewportOption{chromedp.EmulateScale(l.scale)}
	if l.mobile {
		viewport = append(viewport, chromedp.EmulateMobile)
	}
	require.NoError(t, chromedp.Do(ctx,
		chromedp.EmulateViewport(l.width, l.height, viewport...),
		chromedp.Navigate(url),
		chromedp.WaitVisible(chromedp.CSS("main")),
	))
	s.text = run(t, ctx, chromedp.Text(chromedp.CSS("body")))
	s.html = run(t, ctx, chromedp.OuterHTML(chromedp.CSS("html")))
	// Not compared with window.innerWidth: a phone zooms out until everything fits.
	s.sideways = run(t, ctx, chromedp.Evaluate[int64](`document.documentElement.scrollWidth`)) > l.width ||
		run(t, ctx, chromedp.Evaluate[bool](`[...document.querySelectorAll("table")].some(t => t.offsetWidth > t.parentElement.clientWidth)`))
	s.background = run(t, ctx, chromedp.Evaluate[string](`getComputedStyle(document.body).backgroundColor`))
	s.picture = run(t, ctx, chromedp.FullScreenshot(100))
	mu.Lock()
	defer mu.Unlock()
	return s
}

func run[T any](t *testing.T, ctx context.Context, action chromedp.Action[T]) T { //nolint:revive // the test comes first, as everywhere
	t.Helper()
	value, err := chromedp.Run(ctx, action)
	require.NoError(t, err)
	return value
}

// pager looks at pages, and checks what all of them promise.
func pager(t *testing.T, ctx context.Context) func(url string, l look) seen { //nolint:revive // the test comes first, as everywhere
	return func(url string, l look) seen {
		t.Helper()
		s := see(t, ctx, url, l)
		assert.Empty(t, s.complaints, "the page %s complains", l.name)
		assert.False(t, s.sideways, "the page %s must be moved sideways", l.name)
		assert.NotContains(t, s.html, "<script")
		for _, secret := range []string{"demo-key", "demo-secret", "demo-password", simKey, "wrong-key-1234"} {
			assert.NotContains(t, s.html, secret)
		}
		return s
	}
}

// save writes a picture for the README if UPDATE_IMAGES=1.
func save(t *testing.T, name string, s seen) {
	t.Helper()
	if os.Getenv("UPDATE_IMAGES") == "1" {
		require.NoError(t, os.MkdirAll(images, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(images, name+".png"), s.picture, 0o644))
	}
}

func TestStatusPageInABrowser(t *testing.T) {
	t.Parallel()
	ctx := browser(t)
	page := pager(t, ctx)
	demo, still := startDemo(t), startStill(t)
	empty := page(startDemo(t).url("/"), looks[0])
	assert.Contains(t, empty.text, "6 not read yet", "before the first scrape")

	demo.readAll(t)
	backgrounds := map[string]string{}
	for _, l := range looks {
		s := page(demo.url("/"), l)
		backgrounds[l.name] = s.background
		for _, text := range []string{
			"balance_exporter", "demo", "messaging", "invoiced", "partner", "fleet", "8x8", "yeastar", "flolive",
			"not_found", "6 accounts", "1 degraded", "postpaid", "Metrics", "Documentation",
		} {
			assert.Contains(t, s.text, text, l.name)
		}
		fleet := page(demo.url("/account?provider=flolive&name=fleet"), l)
		for _, text := range []string{"Failing subscribers", "scrapped-truck", "not_found", "All accounts"} {
			assert.Contains(t, fleet.text, text, l.name)
		}
	}
	assert.NotEqual(t, backgrounds["light"], backgrounds["dark"])
	assert.Equal(t, backgrounds["light"], backgrounds["phone"])

	_, _, err := get(http.DefaultClient, still.url("/metrics"), nil) // its key is refused again
	require.NoError(t, err)
	s := page(still.url("/"), looks[0])
	for _, text := range []string{"messaging", "ok", "refused", "1 failing", "auth", "1 cooling down"} {
		assert.Contains(t, s.text, text)
	}

	// A page that has all the faults is found out.
	faulty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(`<main style="width: 3000px">x<img src="/none"><script>console.log("x"); nothing()</script></main>`))
	}))
	defer faulty.Close()
	bad := see(t, ctx, faulty.URL+"/", looks[2])
	for _, complaint := range []string{"console.log", "exception", "404"} {
		assert.Contains(t, strings.Join(bad.complaints, "\n"), complaint)
	}
	assert.True(t, bad.sideways)
}

// startMany starts an exporter with n accounts of a simulated 8x8. Of each 15 one is
// empty, two are low, one has a wrong key, and one a key of another account.
func startMany(t *testing.T, n int) *exporter {
	t.Helper()
	var accounts []eightxeightsim.Account
	var text strings.Builder
	text.WriteString("accounts:\n")
	for i := range n {
		id := fmt.Sprintf("0f0e0d0c-0000-4000-8000-%012d", i)
		key := fmt.Sprintf("%s-%d", simKey, i)
		balance, start := eightxeightsim.Balance(eightxeightsim.NewBalance(json.Number(fmt.Sprintf("%d.25", 600+i*37%9000)))), time.Now()
		configured := key
		switch i % 15 {
		case 3:
			balance = eightxeightsim.NewBalance("0")
		case 5, 11:
			balance = eightxeightsim.Traffic{Start: start, Opening: 480, Spend: 12.5, Day: 10 * time.Minute, Low: 100, TopUp: 900}
		case 7:
			configured = "wrong-key-1234"
		case 1:
			balance = eightxeightsim.Traffic{Start: start, Opening: 2600, Spend: 21, Day: 10 * time.Minute, Low: 100, TopUp: 900}
		}
		accounts = append(accounts, eightxeightsim.Account{ID: id, APIKey: key, Currency: "USD", Balance: balance})
		fmt.Fprintf(&text, "  - {name: account-%03d, provider: 8x8, account_id: %s, api_key: %s, base_url: BASE, prices: {enabled: false},\n"+
			"     balance: {refresh_interval: 1s, low_threshold: 500}}\n", i, id, configured)
	}
	server := httptest.NewServer(eightxeightsim.New(eightxeightsim.Options{Accounts: accounts}))
	t.Cleanup(server.Close)
	e, _ := startConfigured(t, strings.ReplaceAll(text.String(), "BASE", server.URL))
	return e
}

// The summary is the first thing to see, whether there is one account or there are 300.
func TestStatusPageOfManyAccountsInABrowser(t *testing.T) {
	t.Parallel()
	page := pager(t, browser(t))
	for _, c := range []struct {
		accounts int
		texts    []string
	}{
		{1, []string{"1 account\n", "all well"}},
		{30, []string{"30 accounts", "2 empty", "4 low", "2 failing"}},
		{300, []string{"300 accounts", "20 empty", "40 low", "20 failing"}},
	} {
		e := startMany(t, c.accounts)
		eventually(t, 2*time.Minute, func() error { // several readings make a picture of the change
			if _, _, err := get(http.DefaultClient, e.url("/metrics"), nil); err != nil {
				return err
			}
			body, _, err := get(http.DefaultClient, e.url("/api/v1/status"), nil)
			if err != nil {
				return err
			}
			var status struct {
				Accounts []struct {
					Balances []struct{ History []any }
				}
			}
			require.NoError(t, json.Unmarshal(body, &status))
			for _, a := range status.Accounts {
				for _, b := range a.Balances {
					if len(b.History) < 8 {
						return fmt.Errorf("only %d readings", len(b.History))
					}
				}
			}
			return nil
		}, e.process)
		for i, l := range looks {
			if i == 1 && c.accounts != 30 {
				continue // the dark one takes its time
			}
			s := page(e.url("/?show="), l) // does not reload
			for _, text := range c.texts {
				assert.Contains(t, strings.Join(strings.Fields(s.text), " ")+"\n", strings.TrimSpace(text), "%d accounts, %s", c.accounts, l.name)
			}
			assert.Equal(t, c.accounts, strings.Count(s.html, `class="spark"`)+c.accounts/15, "a picture for each account that was read")
			if c.accounts == 30 {
				save(t, "status-"+l.name, page(e.url("/?q=account-00"), l))
			}
		}
		if c.accounts == 1 {
			continue
		}
		low := page(e.url("/?show=low&q=8X8"), looks[2])
		assert.Equal(t, 2*c.accounts/15, strings.Count(low.html, "name=account-"), "only the low ones")
		one := page(e.url("/account?provider=8x8&name=account-005"), looks[0])
		assert.Contains(t, one.text, "low below 500")
		refused := page(e.url("/account?provider=8x8&name=account-007"), looks[2])
		for _, text := range []string{"Last failures of balance", "auth"} {
			assert.Contains(t, refused.text, text)
		}
		if c.accounts == 30 {
			save(t, "status-account", one)
		}
	}
}

// A fleet of 100 000 is one row; its page names the failing and the lowest ones.
func TestStatusPageOfALargeFleetInABrowser(t *testing.T) {
	t.Parallel()
	page := pager(t, browser(t))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(r.URL.Path, "00/balance/") {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"errorCode":"SUBSCRIBER_1002","errorMessage":"Subscriber does not exist","content":"","pageable":""}`))
			return
		}
		_, _ = w.Write([]byte(flolivesim.SampleMixed))
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	var csv strings.Builder
	csv.WriteString("type,value,name,balance_ids\n")
	for i := range 100_000 {
		fmt.Fprintf(&csv, "iccid,89445012345678%06d,truck-%06d,offer\n", i, i)
	}
	writeFile(t, dir, "subscribers.csv", csv.String())
	file := writeFile(t, dir, "balance_exporter.yml", "accounts:\n  - {name: fleet, provider: flolive, token: "+simKey+", base_url: "+server.URL+",\n"+
		"     rate_limit: {requests: 1000, per: 1s, burst: 1000}, subscribers: {file: subscribers.csv, series: none, low_thresholds: {USD: 20}}}\n")
	e := startExporter(t, "--config.file="+file)
	eventually(t, time.Minute, func() error {
		body, _, err := get(http.DefaultClient, e.url("/metrics"), nil)
		if err == nil && !strings.Contains(string(body), "\nfleet_low_balances{") {
			err = errors.New("nothing was read")
		}
		return err
	}, e.process)
	for _, l := range looks {
		s := page(e.url("/"), l)
		for _, text := range []string{"1 account", "1 low", "100000 subscribers", "USD balances low"} {
			assert.Contains(t, strings.Join(strings.Fields(s.text), " "), text, l.name)
		}
		fleet := page(e.url("/account?provider=flolive&name=fleet"), l)
		for _, text := range []string{"Lowest", "Failing subscribers", "truck-000000", "not_found", "12.75 USD"} {
			assert.Contains(t, fleet.text, text, l.name)
		}
		assert.Less(t, strings.Count(fleet.html, "<tr "), 100, "bounded")
	}
}

// Below a sub-path of a reverse proxy every link works, whether the exporter knows its
// address or not.
func TestStatusPageBelowASubPath(t *testing.T) {
	t.Parallel()
	page := pager(t, browser(t))
	for _, known := range []bool{false, true} {
		var target atomic.Pointer[url.URL]
		proxy := httptest.NewServer(http.StripPrefix("/ops/balances", &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target.Load()) },
		}))
		t.Cleanup(proxy.Close)
		root := proxy.URL + "/ops/balances/"
		args := []string{"--demo"}
		if known {
			args = append(args, "--web.external-url="+strings.TrimSuffix(root, "/"))
		}
		e := startExporter(t, args...)
		to, err := url.Parse(e.url(""))
		require.NoError(t, err)
		target.Store(to)
		for _, path := range []string{"", "account?provider=8x8&name=messaging"} {
			s := page(root+path, looks[0])
			links := regexp.MustCompile(`(?:href|action)="([^"]*)"`).FindAllStringSubmatch(s.html, -1)
			require.Greater(t, len(links), 5)
			base, err := url.Parse(root + path)
			require.NoError(t, err)
			for _, link := range links {
				to, err := base.Parse(html.UnescapeString(link[1]))
				require.NoError(t, err)
				if to.Scheme == "data" || to.Host == "github.com" {
					continue
				}
				require.True(t, strings.HasPrefix(to.String(), root), to)
				_, _, err = get(http.DefaultClient, to.String(), nil)
				require.NoError(t, err)
			}
		}
	}
}
