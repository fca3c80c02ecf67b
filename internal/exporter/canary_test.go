package exporter

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	kitlog "github.com/go-kit/log"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/logging"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers/all/alltest"
)

const (
	canaryProxy  = `Px5/="canary-proxy-password`
	canaryHeader = `Hd6+/canary-proxy-header`
)

// canaries is an exporter with every simulated account of all providers. The servers
// can send back the secrets that they receive.
type canaries struct {
	*bench
	faults    []*simulate.Switch
	elsewhere *simulate.Recorder
	out       bytes.Buffer // all that the exporter wrote but its log

	mu      sync.Mutex
	secrets []string
}

// secretLine is a line of a configuration with a secret.
var secretLine = regexp.MustCompile(`^(\w+): '(.*)'$`)

// newCanaries returns an exporter that is not open, in a bubble. Each account has the
// extra lines; every second one has its secrets in files.
func newCanaries(t *testing.T, scheme string, extra ...string) *canaries {
	c := &canaries{elsewhere: &simulate.Recorder{}, secrets: []string{canaryProxy, canaryHeader}}
	servers := map[string]http.Handler{"elsewhere.test": c.elsewhere.Wrap(http.NotFoundHandler())}
	dir := t.TempDir()
	var text strings.Builder
	for i, test := range alltest.Cases() {
		c.secrets = append(c.secrets, test.Secrets...)
		name := fmt.Sprintf("a%d", i)
		lines := append([]string{"base_url: " + scheme + "://" + name + ".test"}, extra...)
		account := test.Open(nil)
		var hosts []string
		for host, server := range account.Hosts {
			faults := simulate.NewSwitch(c.learn(server))
			c.faults = append(c.faults, faults)
			at := name + ".test"
			if host != "" {
				at = host + "." + at
				hosts = append(hosts, "  "+host+": "+scheme+"://"+at)
			}
			servers[at] = faults
		}
		if hosts != nil {
			lines = append(append(lines, "hosts:"), hosts...)
		}
		for _, line := range account.Lines(time.Minute, time.Hour) {
			if m := secretLine.FindStringSubmatch(line); m != nil && i%2 == 0 {
				file := filepath.Join(dir, name+m[1])
				require.NoError(t, os.WriteFile(file, []byte(m[2]+"\n"), 0o600))
				line = m[1] + "_file: " + file
			}
			lines = append(lines, line)
		}
		_, yaml, _ := strings.Cut(accountYAML(test.Provider, name, lines), "\n")
		text.WriteString(yaml)
	}
	c.bench = benchOf(t, "accounts:\n"+text.String(), servers)
	c.opts.StateURL = "sqlite:" + filepath.Join(filepath.Dir(c.file), "state")
	json, err := logging.New(c.log, "debug", logging.JSON, c.masks.String)
	require.NoError(t, err)
	c.logger = both{c.logger, json}
	return c
}

// both logs twice.
type both [2]kitlog.Logger

// Log implements [kitlog.Logger].
func (b both) Log(keyvals ...any) error {
	_ = b[0].Log(keyvals...)
	return b[1].Log(keyvals...)
}

// issued is a token in an answer.
var issued = regexp.MustCompile(`(?i)"[a-z_]*token":"([^"]{8,})"`)

// learn adds the tokens that a server issues to the secrets.
func (c *canaries) learn(next http.Handler) http.Handler {
	return simulate.Rewrite(func(_ *http.Request, a simulate.Answer) simulate.Answer {
		for _, m := range issued.FindAllSubmatch(a.Body, -1) {
			c.mu.Lock()
			c.secrets = append(c.secrets, string(m[1]))
			c.mu.Unlock()
		}
		return a
	})(next)
}

func (c *canaries) spoil(fault simulate.Fault) {
	for _, s := range c.faults {
		s.Set(fault)
	}
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
		// Inside another text, only whole groups of base64 depend on the secret alone.
		text := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", offset) + s))
		skip := []int{0, 2, 3}[offset]
		end := len(text) - 3
		forms[fmt.Sprintf("base64 at %d", offset)] = text[skip:end]
		forms[fmt.Sprintf("base64 for URLs at %d", offset)] = strings.NewReplacer("+", "-", "/", "_").Replace(text[skip:end])
	}
	return forms
}

// recognizable is the number of characters of a secret that reveal it.
const recognizable = 12

// requireHidden fails the test if a secret, or a part of one, is in text.
func (c *canaries) requireHidden(where, text string) {
	c.t.Helper()
	c.mu.Lock()
	secrets := slices.Clone(c.secrets)
	c.mu.Unlock()
	for _, s := range secrets {
		for form, encoded := range encodings(s) {
			if strings.Contains(text, encoded) {
				c.t.Fatalf("%s: %s of %q is in\n%s", where, form, s, around(text, encoded))
			}
		}
		for i := 0; i+recognizable <= min(len(s), 40); i += 2 {
			if part := s[i : i+recognizable]; strings.Contains(text, part) {
				c.t.Fatalf("%s: %q of %q is in\n%s", where, part, s, around(text, part))
			}
		}
	}
}

// around returns what is next to a find.
func around(text, find string) string {
	i := strings.Index(text, find)
	return text[max(0, i-300):min(len(text), i+len(find)+300)]
}

// request sends one request to the exporter.
func (c *canaries) request(method, path string) int {
	w := c.do(method, path, nil)
	fmt.Fprintln(&c.out, w.Body, w.Header())
	return w.Code
}

// use uses the exporter in every way, and returns the error of --once.
func (c *canaries) use() error {
	err := c.once(c.t.Context(), &c.out, &c.out)
	fmt.Fprintln(&c.out, err)
	for _, path := range []string{"/metrics", "/", "/-/healthy", "/-/ready", "/nowhere", "/metrics?collect[]=bogus"} {
		c.request(http.MethodGet, path)
	}
	time.Sleep(2 * time.Minute)
	c.request(http.MethodGet, "/metrics")
	c.request(http.MethodGet, "/")
	return err
}

// search looks for secrets in all that the exporter wrote.
func (c *canaries) search() {
	c.t.Helper()
	c.requireHidden("output", c.out.String())
	c.requireHidden("log", c.log.String())
	files, err := filepath.Glob(filepath.Join(filepath.Dir(c.file), "state*"))
	require.NoError(c.t, err)
	require.GreaterOrEqual(c.t, len(files), 4, "two files, and a log of each")
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(c.t, err)
		c.requireHidden(file, string(content))
	}
}

// received returns the secrets in a request, or what contains them.
func received(r *http.Request) []string {
	body, _ := io.ReadAll(r.Body)
	texts := []string{string(body), r.URL.String()}
	for _, values := range r.Header {
		for _, value := range values {
			_, credentials, _ := strings.Cut(value, " ")
			texts = append(texts, value, credentials)
		}
	}
	if form, err := url.ParseQuery(string(body)); err == nil {
		for _, values := range form {
			texts = append(texts, values...)
		}
	}
	var fields map[string]any
	if json.Unmarshal(body, &fields) == nil {
		for _, value := range fields {
			texts = append(texts, fmt.Sprint(value))
		}
	}
	return slices.DeleteFunc(texts, func(s string) bool { return s == "" })
}

// echoed returns all that a request contains, in every encoding, several times, so that
// a text that is cut is cut within a secret.
func echoed(r *http.Request) string {
	var text strings.Builder
	for _, s := range received(r) {
		for _, encoded := range encodings(s + "xxxxxxxx") {
			text.WriteString(encoded + " ")
		}
		text.WriteString(strings.Repeat(s+" ", 20))
	}
	return text.String()
}

// echo answers with the secrets in the places of ECHO in a body, and in headers.
func echo(status int, frame string) simulate.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			text := echoed(r)
			w.Header().Set("Retry-After", text[:100])
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("X-Echo", text)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, strings.ReplaceAll(frame, `"ECHO"`, simulate.Quote(text)))
		})
	}
}

// echoRaw answers with the secrets in a text that may be no HTTP.
func echoRaw(frame string) simulate.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			simulate.Raw(strings.ReplaceAll(frame, "ECHO", echoed(r)))(nil).ServeHTTP(w, r)
		})
	}
}

// bounce redirects with the secrets in the address.
func bounce(to string) simulate.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", to+"?"+url.Values{"a": received(r)}.Encode())
			w.WriteHeader(http.StatusTemporaryRedirect)
		})
	}
}

// echoes returns faults that answer with the secrets in the place of each text of the
// providers' documented errors, and of the values of good answers; in the long form with
// more statuses.
func echoes(t *testing.T) map[string]simulate.Fault {
	slow := os.Getenv(slowVariable) != ""
	faults := map[string]simulate.Fault{}
	statuses := []int{200, 401, 429}
	if slow {
		statuses = []int{200, 400, 401, 403, 404, 429, 500}
	}
	for _, status := range statuses {
		faults[fmt.Sprintf("%d with text", status)] = echo(status, `"ECHO"`)
		faults[fmt.Sprintf("%d with wrong types", status)] = echo(status,
			`{"balance":"ECHO","subAccounts":"ECHO","content":[{"token":1,"value":"ECHO"}],"result":"ECHO","code":"success","errorCode":""}`)
	}
	for _, test := range alltest.Cases() {
		for _, e := range test.Errors {
			var body any
			require.NoError(t, json.Unmarshal([]byte(e.Body), &body))
			frame, err := json.Marshal(echoing(body))
			require.NoError(t, err)
			statuses := []int{e.Status}
			if slow {
				statuses = []int{200, 401, e.Status}
			}
			for _, status := range statuses {
				faults[fmt.Sprintf("%d with %s", status, frame)] = echo(status, string(frame))
			}
		}
	}
	return faults
}

// echoing replaces the texts in decoded JSON by ECHO.
func echoing(v any) any {
	switch v := v.(type) {
	case string:
		return "ECHO"
	case map[string]any:
		for key := range v {
			v[key] = echoing(v[key])
		}
	}
	return v
}

// No secret is in anything that the exporter writes, whatever a provider does with the
// secrets that it receives.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	faults := echoes(t)
	for name, fault := range map[string]simulate.Fault{
		"reset":              simulate.ResetAfter(0),
		"half":               simulate.CloseEarly(20),
		"hang":               simulate.Hang(),
		"redirect elsewhere": bounce("http://elsewhere.test/"),
		"redirect for ever":  bounce("/"),
		"redirect nowhere":   bounce("https://%zz/"),
		"redirect by scheme": bounce("ftp://127.0.0.1/"),
		"reason phrase":      echoRaw("HTTP/1.1 401 ECHO\r\nContent-Length: 0\r\n\r\n"),
		"no HTTP":            echoRaw("ECHO\r\n\r\n"),
		"faulty header":      echoRaw("HTTP/1.1 200 OK\r\nECHO\r\n\r\n"),
		"faulty length":      echoRaw("HTTP/1.1 200 OK\r\nContent-Length: ECHO\r\n\r\n"),
		"faulty coding":      echoRaw("HTTP/1.1 200 OK\r\nContent-Encoding: ECHO\r\nContent-Length: 0\r\n\r\n"),
	} {
		faults[name] = fault
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCanaries(t, "http")
				c.spoil(fault)
				c.open()
				require.ErrorIs(t, c.use(), errSourcesFailed)
				require.Contains(t, c.log.String(), "level=debug")
				require.Equal(t, http.StatusOK, c.request(http.MethodPost, "/-/reload"))
				c.search()
				require.Zero(t, c.elsewhere.Len(), "a redirect was followed")
			})
		})
	}
}

// Good answers reveal nothing either. Tokens stay hidden after a reload that changes
// nothing, and secrets after one that changes every account.
func TestSecretsStaySecretOverReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCanaries(t, "https")
		configured := len(c.secrets)
		c.open()
		require.NoError(t, c.use(), c.out.String())
		c.search()
		require.Greater(t, len(c.secrets), configured, "no token was issued")

		require.Equal(t, http.StatusOK, c.request(http.MethodPost, "/-/reload"))
		for _, s := range c.secrets[2:] {
			_ = c.logger.Log("msg", "the secret is "+s)
		}
		c.search()
		require.GreaterOrEqual(t, strings.Count(c.log.String(), "the secret is <secret>"), 2*(len(c.secrets)-2))

		c.spoil(echo(http.StatusUnauthorized, `"ECHO"`))
		text, err := os.ReadFile(c.file)
		require.NoError(t, err)
		c.configure(strings.ReplaceAll(string(text), "base_url:", "timeout: 2s\n    base_url:"))
		require.Equal(t, http.StatusOK, c.request(http.MethodPost, "/-/reload"))
		time.Sleep(time.Hour)
		require.Error(t, c.use())
		c.search()
	})
}

// net/http logs bytes that arrive on an idle connection to the standard logger.
func TestBytesOnAnIdleConnection(t *testing.T) {
	writer, flags, before := log.Writer(), log.Flags(), slog.Default()
	defer func() {
		slog.SetDefault(before) // first, because it changes the others
		log.SetOutput(writer)
		log.SetFlags(flags)
	}()
	synctest.Test(t, func(t *testing.T) {
		c := newCanaries(t, "http")
		logging.RedirectStd(c.logger)
		const read = 4096 // what net/http has read when it logs
		text := "HTTP/1.1 200 OK\r\nX-Echo: \x1b[2J "
		for _, s := range c.secrets[2:] {
			for _, encoded := range encodings(s + "xxxxxxxx") {
				text += encoded + " "
			}
		}
		cut := c.secrets[2]
		text = text[:read-len(cut)] + " " + cut
		c.spoil(simulate.IdleBytes(10*time.Second, text+"\r\n\r\n"))
		c.open()
		_ = c.use() // a POST on a connection that breaks is not repeated
		require.Contains(t, c.log.String(), "Unsolicited response")
		require.NotContains(t, c.log.String(), "\x1b")
		c.search()
	})
}

// No error of the configuration shows a secret, known or new.
func TestBadConfigurationHidesSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCanaries(t, "http")
		c.open()
		var out bytes.Buffer
		try := func(provider string, lines ...string) {
			c.configure(accountYAML(provider, "a", lines))
			require.Equal(t, http.StatusInternalServerError, c.request(http.MethodPost, "/-/reload"), strings.Join(lines, "\n"))
			// A program that does not run yet knows no secret.
			b := benchOf(t, accountYAML(provider, "a", lines), nil)
			fmt.Fprintln(&out, b.Open(), b.check(&out, &out), b.log)
		}
		for _, test := range alltest.Cases() {
			lines := test.Open(nil).Lines(time.Minute, time.Hour)
			for i, line := range lines {
				m := secretLine.FindStringSubmatch(line)
				if m == nil {
					continue
				}
				for _, bad := range []string{
					m[1] + "y: '" + m[2] + "'", m[1] + ": ['" + m[2] + "']", m[1] + ": {a: '" + m[2] + "'}",
					line + "\n    " + line, m[1] + ": '" + m[2], m[1] + ": '" + m[2] + "' '", m[1] + ": ${" + m[2] + "}",
				} {
					changed := slices.Clone(lines)
					changed[i] = bad
					try(test.Provider, changed...)
				}
			}
			for _, bad := range []string{
				"base_url: 'https://u:" + canaryProxy + "@h.example'", "http: {proxy_url: '://u:" + canaryProxy + "@h'}",
				"http: {proxy_url: 'ftp://u:" + canaryProxy + "@h:x'}", "http: {proxy_connect_header: {A: '" + canaryHeader + "'}}",
				"headers: {Authorization: 'Bearer " + canaryHeader + "'}",
			} {
				try(test.Provider, append([]string{bad}, lines...)...)
			}
		}
		c.search()
		c.requireHidden("a new program", out.String())
		require.Contains(t, out.String(), "did you mean")
		c.requireHidden("the exporter", fmt.Sprintf("%v %+v %#v", c.Exporter, c.Exporter, c.opener))
	})
}

// A proxy receives where to connect and its own credentials. The exporter shows none of
// them when the proxy sends them back.
func TestProxies(t *testing.T) {
	encoded := strings.NewReplacer("/", "%2F", "=", "%3D", `"`, "%22").Replace(canaryProxy)
	through := "http://user:" + encoded + "@proxy.test:3128"
	t.Setenv("HTTPS_PROXY", through)
	for name, extra := range map[string]string{
		"in the configuration": "http: {proxy_url: '" + through + "', proxy_connect_header: {X-Proxy: ['Basic " + canaryHeader + "']}}",
		"from the environment": "http: {proxy_from_environment: true}",
	} {
		for form, fault := range map[string]simulate.Fault{
			"body":          echo(http.StatusProxyAuthRequired, `"ECHO"`),
			"reason phrase": echoRaw("HTTP/1.1 407 ECHO\r\nX-Echo: ECHO\r\n\r\n"),
			"no HTTP":       echoRaw("ECHO\r\n\r\n"),
		} {
			t.Run(name+", "+form, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newCanaries(t, "https", extra)
					var mu sync.Mutex
					var requests []string
					c.network.Handle("proxy.test:3128", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						mu.Lock()
						requests = append(requests, fmt.Sprint(r.Method, " ", r.URL, r.Header))
						mu.Unlock()
						fault(nil).ServeHTTP(w, r)
					}))
					c.open()
					require.ErrorIs(t, c.use(), errSourcesFailed)
					c.search()
					require.NotEmpty(t, requests)
					for _, request := range requests {
						require.Contains(t, request, "CONNECT ")
						require.Contains(t, request, "Proxy-Authorization:[Basic ")
						for _, s := range c.secrets[2:] {
							require.NotContains(t, request, s)
						}
					}
				})
			})
		}
	}
}

// Run gives its logger the masks of the accounts, and so it does for the standard
// logger.
func TestRunMasksItsLog(t *testing.T) {
	writer, flags, before := log.Writer(), log.Flags(), slog.Default()
	defer func() {
		slog.SetDefault(before)
		log.SetOutput(writer)
		log.SetFlags(flags)
	}()
	const key = "Rn7-canary-key-of-run"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		log.Print("the standard logger got " + r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "c.yml")
	require.NoError(t, os.WriteFile(file, []byte(accountYAML("8x8", "a", []string{
		"base_url: " + server.URL, "account_id: " + accountOne, "api_key: " + key, "prices: {enabled: false}",
	})), 0o600))
	var stdout, stderr bytes.Buffer
	err := Run(t.Context(), Options{
		ConfigFile: file, Once: true, StateURL: "memory:", TelemetryPath: "/metrics", LogLevel: "debug", LogFormat: "logfmt",
	}, nil, &stdout, &stderr)
	require.ErrorIs(t, err, errSourcesFailed)
	assert.NotContains(t, stderr.String(), key)
	assert.Contains(t, stderr.String(), `msg="the standard logger got Bearer <secret>"`)
}
