package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/httpapi"
	"github.com/balance-exporter/balance_exporter/internal/logging"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
	"github.com/balance-exporter/balance_exporter/providers/flolive/flolivesim"
	"github.com/balance-exporter/balance_exporter/providers/yeastar/yeastarsim"
)

// The secrets of the canary test, each with characters that encodings change.
const (
	canaryKey      = `Ky1+/="&<8x8>%2F-canary-key`
	canarySecret   = `Ys2+/="&<ptn>%2F-canary-secret`
	canaryPassword = `Fp3+/="&é%2F\-canary-password`
	canaryToken    = `Ft4+/="&<flo>%2F-canary-token`
	canaryProxy    = `Px5-canary-proxy-password`
)

// canaries is a world on loopback whose servers send back what they are told.
type canaries struct {
	t         *testing.T
	dir       string
	faults    []*simulate.Switch
	elsewhere *simulate.Recorder
	config    string

	mu      sync.Mutex
	secrets []string
}

func newCanaries(t *testing.T) *canaries {
	c := &canaries{
		t: t, dir: t.TempDir(), elsewhere: &simulate.Recorder{},
		secrets: []string{canaryKey, canarySecret, canaryPassword, canaryToken, canaryProxy},
	}
	serve := func(sim http.Handler) string {
		faults := simulate.NewSwitch(sim)
		c.faults = append(c.faults, faults)
		server := httptest.NewServer(c.learn(faults))
		t.Cleanup(server.Close)
		return server.URL
	}
	file := func(name, content string) string {
		path := filepath.Join(c.dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content+"\n"), 0o600))
		return path
	}
	fleet := flolivesim.Fleet(3, 1)
	iccid := fleet.At(0, time.Now()).ICCID
	c.config = fmt.Sprintf(`accounts:
  - name: messaging
    provider: 8x8
    base_url: %s
    account_id: %s
    api_key_file: %s
    timeout: 1s
    rate_limit: {requests: 100, per: 1s, burst: 100}
`, serve(eightxeightsim.New(eightxeightsim.Options{Accounts: []eightxeightsim.Account{
		{ID: accountOne, APIKey: canaryKey, Currency: "USD", Balance: eightxeightsim.NewBalance("100.5"), Prices: somePrices},
	}})), accountOne, file("key", canaryKey))
	if has("yeastar") {
		c.config += fmt.Sprintf(`  - name: partner
    provider: yeastar
    base_url: %s
    client_id: partner
    client_secret: '%s'
    currency: USD
    timeout: 1s
    rate_limit: {requests: 100, per: 1s, burst: 100}
`, serve(yeastarsim.New(yeastarsim.Options{ClientID: "partner", ClientSecret: canarySecret})), canarySecret)
	}
	if has("flolive") {
		sim := flolivesim.New(flolivesim.Options{Subscribers: fleet, Username: "api", Password: canaryPassword, StaticToken: canaryToken})
		c.config += fmt.Sprintf(`  - name: fleet
    provider: flolive
    base_url: %s
    username: api
    password_file: %s
    timeout: 1s
    rate_limit: {requests: 100, per: 1s, burst: 100}
    subscribers: {list: [{type: iccid, value: "%s"}]}
  - name: token
    provider: flolive
    base_url: %s
    token: '%s'
    timeout: 1s
    rate_limit: {requests: 100, per: 1s, burst: 100}
    subscribers: {customer_id: %s}
`, serve(sim), file("password", canaryPassword), iccid, serve(sim), canaryToken, flolivesim.DefaultCustomerID)
	}
	return c
}

var issued = regexp.MustCompile(`"(?:token|refreshToken)":"([^"]+)"`)

// learn notes the tokens that a simulator issues: they are secrets too.
func (c *canaries) learn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // a server sees its client go only after this
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(&learning{ResponseWriter: w, c: c}, r)
	})
}

type learning struct {
	http.ResponseWriter
	c *canaries
}

func (l *learning) Write(p []byte) (int, error) {
	for _, m := range issued.FindAllSubmatch(p, -1) {
		l.c.mu.Lock()
		l.c.secrets = append(l.c.secrets, string(m[1]))
		l.c.mu.Unlock()
	}
	return l.ResponseWriter.Write(p)
}

func (l *learning) Flush() { _ = http.NewResponseController(l.ResponseWriter).Flush() }

// all returns every secret that there is by now.
func (c *canaries) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.secrets...)
}

// encodings returns the forms in which a secret must not be found.
func encodings(s string) map[string]string {
	quoted, _ := json.Marshal(s)
	var plain bytes.Buffer
	encoder := json.NewEncoder(&plain)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s)
	goQuoted := strconv.Quote(s)
	forms := map[string]string{
		"raw": s, "query": url.QueryEscape(s), "path": url.PathEscape(s), "JSON": string(quoted[1 : len(quoted)-1]),
		"JSON without HTML": strings.Trim(strings.TrimSpace(plain.String()), `"`), "Go": goQuoted[1 : len(goQuoted)-1],
	}
	for offset := range 3 {
		// In the middle of another text, whole groups of it are told by it alone.
		text := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", offset) + s))
		skip := []int{0, 2, 3}[offset]
		end := len(text) - 3
		forms[fmt.Sprintf("base64 at %d", offset)] = text[skip:end]
		forms[fmt.Sprintf("base64 for URLs at %d", offset)] = strings.NewReplacer("+", "-", "/", "_").Replace(text[skip:end])
	}
	return forms
}

// recognisable is how many characters of a secret give it away.
const recognisable = 12

// requireHidden fails the test if a secret, or a part of one, is in text.
func (c *canaries) requireHidden(where, text string) {
	c.t.Helper()
	for _, s := range c.all() {
		for form, encoded := range encodings(s) {
			if strings.Contains(text, encoded) {
				c.t.Fatalf("%s: %s of %q is in\n%s", where, form, s, around(text, encoded))
			}
		}
		for i := 0; i+recognisable <= min(len(s), 40); i += 2 {
			if part := s[i : i+recognisable]; strings.Contains(text, part) {
				c.t.Fatalf("%s: %q of %q is in\n%s", where, part, s, around(text, part))
			}
		}
	}
}

// around returns the neighbourhood of a find.
func around(text, find string) string {
	i := strings.Index(text, find)
	return text[max(0, i-300):min(len(text), i+len(find)+300)]
}

// program runs the exporter with the configuration, and searches all it leaves
// behind.
func (c *canaries) program(configuration string, args ...string) (stdout, stderr string, code int) {
	c.t.Helper()
	dir := c.t.TempDir()
	file, stateFile := filepath.Join(dir, "c.yml"), filepath.Join(dir, "state")
	require.NoError(c.t, os.WriteFile(file, []byte(configuration), 0o600))
	var out, errs bytes.Buffer
	code = run(c.t.Context(), append([]string{"--config.file=" + file, "--log.level=debug", "--state.url=bolt:" + stateFile}, args...), &out, &errs)
	c.requireHidden("standard output", out.String())
	c.requireHidden("standard error", errs.String())
	for _, suffix := range []string{"", ".accounts"} {
		if kept, err := os.ReadFile(stateFile + suffix); err == nil {
			c.requireHidden("state file"+suffix, string(kept))
		}
	}
	return out.String(), errs.String(), code
}

// echo answers with all that the request brought, in every encoding, over and
// over, so that wherever a text is cut it is cut within a secret.
func echo(status int, frame string) simulate.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			told := []string{strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), r.Header.Get("Authorization"), string(body), r.URL.String()}
			if form, err := url.ParseQuery(string(body)); err == nil {
				for _, values := range form {
					told = append(told, values...)
				}
			}
			var login struct{ Password string }
			if json.Unmarshal(body, &login) == nil {
				told = append(told, login.Password)
			}
			var text strings.Builder
			for _, s := range told {
				for _, encoded := range encodings(s + "xxxxxxxx") {
					text.WriteString(encoded + " ")
				}
				text.WriteString(strings.Repeat(s+" ", 20))
			}
			quoted, _ := json.Marshal(text.String())
			w.Header().Set("Retry-After", told[0])
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, strings.ReplaceAll(frame, "ECHO", "%[1]s"), string(quoted))
		})
	}
}

// bounce redirects with the secrets in the address.
func bounce(to string) simulate.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			q := url.Values{"a": {r.Header.Get("Authorization")}, "b": {string(body)}}
			w.Header().Set("Location", to+"?"+q.Encode())
			w.WriteHeader(http.StatusTemporaryRedirect)
		})
	}
}

// No secret is in anything that the program writes, whatever a provider does with
// the secrets that it was told.
func TestSecretsStaySecret(t *testing.T) {
	c := newCanaries(t)
	elsewhere := httptest.NewServer(c.elsewhere.Wrap(http.NotFoundHandler()))
	defer elsewhere.Close()
	envelopes := map[string]string{
		"8x8":     `{"code":1200,"message":ECHO,"errorId":ECHO,"timestamp":ECHO}`,
		"Yeastar": `{"code":ECHO,"detailMessage":ECHO,"requestId":ECHO,"result":{"field":ECHO,"tag":ECHO},"status":400}`,
		"OAuth":   `{"error":ECHO,"error_description":ECHO}`,
		"floLIVE": `{"errorCode":ECHO,"errorMessage":ECHO,"content":ECHO,"pageable":ECHO}`,
		"text":    `ECHO`,
		"types":   `{"balance":ECHO,"subAccounts":ECHO,"content":[{"token":1,"value":ECHO}],"result":ECHO,"code":"success","errorCode":""}`,
	}
	faults := map[string]simulate.Fault{
		"success":            nil,
		"reset":              simulate.ResetAfter(0),
		"half":               simulate.CloseEarly(20),
		"hang":               simulate.Hang(),
		"redirect elsewhere": bounce(elsewhere.URL + "/"),
		"redirect for ever":  bounce("/"),
		"redirect nowhere":   bounce("https://%zz/"),
		"redirect by scheme": bounce("ftp://127.0.0.1/"),
	}
	for name, frame := range envelopes {
		for _, status := range []int{200, 400, 401, 403, 404, 429, 500} {
			faults[fmt.Sprintf("%s echo %d", name, status)] = echo(status, frame)
		}
	}
	for name, fault := range faults {
		for _, format := range []string{"logfmt", "json"} {
			for _, s := range c.faults {
				s.Clear()
				if fault != nil {
					s.Set(fault)
				}
			}
			t.Run(name+" "+format, func(t *testing.T) {
				c.t = t
				c.mu.Lock()
				c.secrets = c.secrets[:5] // tokens of runs before are not known to this one
				c.mu.Unlock()
				out, errs, code := c.program(c.config, "--once", "--log.format="+format)
				if fault == nil {
					assert.Zero(t, code, errs)
					assert.Contains(t, out, "account_balance{")
				} else {
					assert.Equal(t, 1, code)
				}
				assert.Contains(t, errs, "debug")
			})
		}
	}
	assert.Zero(t, c.elsewhere.Len(), "a redirect was followed")
}

// The same for the served pages, over a change from good to bad and a reload.
func TestSecretsAreNotServed(t *testing.T) {
	c := newCanaries(t)
	file := filepath.Join(c.dir, "c.yml")
	require.NoError(t, os.WriteFile(file, []byte(c.config), 0o600))
	var logged bytes.Buffer
	logger, err := logging.New(&logged, "debug", "logfmt")
	require.NoError(t, err)
	f, err := parseFlags([]string{"--config.file=" + file, "--state.url=bolt:" + filepath.Join(c.dir, "state")}, io.Discard, func(int) {})
	require.NoError(t, err)
	e := newExporter(f, logger, httpapi.NewTransport)
	require.NoError(t, e.open())
	defer e.close()
	routes := e.server().Routes()
	ask := func(method, path string) int {
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		c.requireHidden(path, w.Body.String()+fmt.Sprint(w.Header()))
		c.requireHidden("log", logged.String())
		return w.Code
	}
	look := func() {
		for _, path := range []string{"/metrics", "/", "/-/healthy", "/-/ready", "/nowhere"} {
			ask(http.MethodGet, path)
		}
	}
	look()
	require.Equal(t, http.StatusOK, ask(http.MethodPost, "/-/reload"))

	// After a reload that changed nothing the old accounts go on, with tokens from
	// before it: whatever logs one must still not show it.
	for _, s := range c.all()[5:] {
		_ = e.logger.Log("msg", "the token is "+s)
	}
	c.requireHidden("log after a reload", logged.String())

	// A changed configuration asks everything anew, of providers that tell all.
	for _, s := range c.faults {
		s.Set(echo(http.StatusUnauthorized, `{"code":ECHO,"message":ECHO,"errorCode":ECHO,"errorMessage":ECHO,"detailMessage":ECHO}`))
	}
	changed := strings.ReplaceAll(c.config, "timeout: 1s", "timeout: 2s")
	changed = strings.Replace(changed, "name: messaging", "name: messages", 1)
	require.NoError(t, os.WriteFile(file, []byte(changed), 0o600))
	require.Equal(t, http.StatusOK, ask(http.MethodPost, "/-/reload"))
	look()

	for _, bad := range []string{
		"api_keyy: '" + canaryKey + "'", "api_key: ['" + canaryKey + "']", "api_key: {a: '" + canaryKey + "'}",
		"api_key: '" + canaryKey + "'\n    api_key: '" + canaryKey + "'", "api_key: '" + canaryKey,
		"api_key: \"" + canaryToken + "\"", "client_secret: '" + canaryKey + "'",
		"base_url: https://u:" + canaryProxy + "@h.example", "api_key: k\n    http: {proxy_url: '://u:" + canaryProxy + "@h'}",
		"api_key: k\n    http: {proxy_url: 'ftp://u:" + canaryProxy + "@h:x'}",
	} {
		text := "accounts:\n  - name: a\n    provider: 8x8\n    account_id: " + accountOne + "\n    " + bad + "\n"
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		require.Equal(t, http.StatusInternalServerError, ask(http.MethodPost, "/-/reload"), bad)
		c.program(text, "--config.check")
	}
	out, _, code := c.program(c.config, "--config.check")
	assert.Zero(t, code)
	assert.Contains(t, out, "messaging")
	c.requireHidden("the loader", fmt.Sprintf("%v %+v %#v", e.loader, e.loader, e.loader))
}

// A proxy learns where to connect, and its own password, and nothing else.
func TestProxyDoesNotGetSecrets(t *testing.T) {
	c := newCanaries(t)
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, fmt.Sprint(r.Method, r.URL, r.Header))
		w.Header().Set("X-Echo", fmt.Sprint(r.Header))
		http.Error(w, "refused: "+fmt.Sprint(r.Header), http.StatusProxyAuthRequired)
	}))
	defer proxy.Close()
	through := strings.Replace(proxy.URL, "http://", "http://user:"+canaryProxy+"@", 1)
	text := regexp.MustCompile(`base_url: .*`).ReplaceAllString(c.config, "base_url: https://provider.example\n    http: {proxy_url: '"+through+"'}")
	_, errs, code := c.program(text, "--once")
	assert.Equal(t, 1, code, errs)
	require.NotEmpty(t, asked)
	for _, request := range asked {
		assert.True(t, strings.HasPrefix(request, "CONNECT"), request)
		for _, s := range c.all() {
			if s == canaryProxy {
				continue
			}
			assert.NotContains(t, request, s)
		}
	}
}
