package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
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
	sideways               bool // wider than the screen
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
	s.sideways = run(t, ctx, chromedp.Evaluate[int64](`document.documentElement.scrollWidth`)) > l.width
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

func TestStatusPageInABrowser(t *testing.T) {
	t.Parallel()
	ctx := browser(t)
	demo, still := startDemo(t), startStill(t)
	demo.readFleet(t)
	page := func(url string, l look) seen {
		s := see(t, ctx, url, l)
		assert.Empty(t, s.complaints, "the page %s complains", l.name)
		assert.False(t, s.sideways, "the page %s must be moved sideways", l.name)
		assert.NotContains(t, s.html, "<script")
		return s
	}

	backgrounds := map[string]string{}
	for _, l := range looks {
		s := page(demo.url("/"), l)
		backgrounds[l.name] = s.background
		for _, text := range []string{
			"balance_exporter", "demo", "messaging", "invoiced", "partner", "fleet", "8x8", "yeastar", "flolive",
			"scrapped-truck", "not_found", "Metrics", "Documentation",
		} {
			assert.Contains(t, s.text, text, l.name)
		}
		for _, secret := range []string{"demo-key", "demo-secret", "demo-password"} {
			assert.NotContains(t, s.html, secret)
		}
		if os.Getenv("UPDATE_IMAGES") == "1" {
			require.NoError(t, os.MkdirAll(images, 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(images, "status-"+l.name+".png"), s.picture, 0o644))
		}
	}
	assert.NotEqual(t, backgrounds["light"], backgrounds["dark"])
	assert.Equal(t, backgrounds["light"], backgrounds["phone"])

	_, _, err := get(http.DefaultClient, still.url("/metrics"), nil) // its key is refused again
	require.NoError(t, err)
	s := page(still.url("/"), looks[0])
	for _, text := range []string{"messaging", "up", "refused", "failing", "auth", "Cool-down"} {
		assert.Contains(t, s.text, text)
	}
	assert.NotContains(t, s.html, simKey)
	assert.NotContains(t, s.html, "wrong-key-1234")

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

	empty := page(startDemo(t).url("/"), looks[0])
	assert.Contains(t, empty.text, "not read yet", "before the first scrape")
}
